"""What holds of every decision, over random tables, fleets and asks."""

import random
from typing import TypeVar

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from routing.cost import Cost
from routing.decide import choose
from routing.explain import explain
from routing.predict import COLD_PENALTY_MS, margin, wait_ms
from routing.table import Ask, Cascade, Domain, FamilyTicket, Fleet, Refusal, Route, Table, Tenant, Tier, WorkerView

T = TypeVar("T")
IDS = [f"{i:02x}" * 32 for i in range(5)] + ["ab" * 31 + "00", "ab" * 31 + "11"]
TIERS = ["accurate", "balanced", "fast"]
FAMILIES, TENANTS, DOMAINS = ["f0", "f1", "f2"], ["t0", "t1"], ["d0", "d1", "d2"]
ANY_FLOAT = st.floats()  # with infinities and not-a-number: what a fleet says is not trusted

milliseconds = st.floats(0.01, 200.0)
service_times = st.one_of(st.floats(0.01, 30.0), milliseconds)
fractions = st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0])
floors = st.one_of(st.just(0.0), st.just(0.0), fractions)
tickets = st.builds(
    FamilyTicket, id=st.sampled_from(IDS), tier=st.sampled_from(TIERS), quality=fractions, service_ms=service_times,
    state=st.sampled_from(["promoted"] * 6 + ["registered", "canary"]),
)  # fmt: skip
families = st.lists(tickets, min_size=3, max_size=6, unique_by=lambda t: t.id).map(
    lambda family: sorted(family, key=lambda t: -t.service_ms)
)
cascades = st.builds(
    Cascade, small=st.sampled_from(IDS[:3]), large=st.sampled_from(IDS[2:5]), threshold=fractions, accuracy=fractions
)
tiers = st.builds(Tier, deadline_ms=milliseconds, quality_floor=floors)
domains = st.dictionaries(st.sampled_from(TIERS), tiers, min_size=1).flatmap(
    lambda named: st.builds(
        Domain,
        family=st.sampled_from(FAMILIES),
        default_tier=st.sampled_from(sorted(named)),
        tiers=st.just(named),
        policy=st.sampled_from(["best", "best", "tier", "cascade"]),
        cascade=st.one_of(st.none(), cascades),
    )
)
tenants = st.builds(
    Tenant,
    key_hashes=st.just([]),
    weight=st.sampled_from([1.0, 1.0, 0.1, 4.0]),
    domains=st.fixed_dictionaries({"d0": domains, "d1": domains}, optional={"d2": domains}),
)
tables = st.builds(
    Table,
    families=st.fixed_dictionaries(dict.fromkeys(FAMILIES, families)),
    tenants=st.fixed_dictionaries({"t0": tenants}, optional={"t1": tenants}),
)
sane_times = st.one_of(st.just(0.0), st.floats(0.0, 20.0), st.floats(0.0, 250.0))
sane_spreads = st.one_of(st.just(0.0), st.floats(0.0, 2.0))


def costs(times: st.SearchStrategy[float], spreads: st.SearchStrategy[float]) -> st.SearchStrategy[dict[str, Cost]]:
    """What a worker holds, everything or some tickets: each costs a multiple of one cost, far apart or alike."""
    base = st.builds(Cost, fixed_ms=times, row_ms=times, unit_ms=st.just(0.01), spread=spreads)
    held = st.one_of(st.just(frozenset(IDS)), st.frozensets(st.sampled_from(IDS)))
    return st.builds(
        lambda cost, ids, factor: {
            id_: msgspec.structs.replace(cost, fixed_ms=cost.fixed_ms * factor**i)
            for i, id_ in enumerate(IDS)
            if id_ in ids
        },
        base, held, st.sampled_from([0.7, 1.0, 1.3]),
    )  # fmt: skip


def fleets(
    times: st.SearchStrategy[float], parts: st.SearchStrategy[float], spreads: st.SearchStrategy[float]
) -> st.SearchStrategy[Fleet]:
    """Fleets of up to five workers with different names; rarely none."""
    sizes = st.sampled_from([2, 1, 3, 3, 5, 2, 4, 0])
    names = st.tuples(st.permutations("abcde"), sizes).map(lambda drawn: drawn[0][: drawn[1]])
    views = st.builds(
        WorkerView, name=st.just(""), costs=costs(parts, spreads), running_ms=times, queued_ms=times,
        tenants=st.dictionaries(st.sampled_from(["t0", "t1", "t2"]), times), active_weight=times,
    )  # fmt: skip
    return names.flatmap(
        lambda found: st.tuples(*([views] * len(found))).map(
            lambda drawn: Fleet(
                workers=tuple(msgspec.structs.replace(view, name=name) for name, view in zip(found, drawn, strict=True))
            )
        )
    )


wild_fleets = fleets(ANY_FLOAT, ANY_FLOAT, ANY_FLOAT)
sane_fleets = fleets(sane_times, st.floats(0.1, 20.0), sane_spreads)


def asks(deadlines: st.SearchStrategy[float]) -> st.SearchStrategy[Ask]:
    """Asks that mostly name what exists: about half end in a route."""
    versions = [*(i[:8] for i in IDS), IDS[0], "ff", "\n" * 8]
    return st.builds(
        Ask,
        tenant=mostly("t0", "t1", "stranger"),
        domain=mostly("d0", "d1", "d2", "nothing"),
        tier=mostly(None, *TIERS, "gold"),
        version=mostly(None, *versions),
        deadline_ms=st.one_of(st.none(), st.none(), deadlines),
        rows=mostly(1, 2, 300),
        skip=mostly(0, 1, 2, 99),
        not_workers=mostly(frozenset(), frozenset({"a"}), frozenset({"a", "b", "zz"})),
        not_tickets=mostly(frozenset(), frozenset(IDS[:1]), frozenset(IDS)),
    )


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """The usual value fifteen times of sixteen."""
    return st.integers(0, 15).flatmap(lambda n: st.sampled_from([usual, *others]) if n == 15 else st.just(usual))


@given(asks(ANY_FLOAT), tables, wild_fleets)
def test_it_is_total(ask: Ask, table: Table, fleet: Fleet) -> None:
    """Every ask gets a route or a refusal, whatever the numbers; so does every explanation, the same one."""
    outcome = choose(ask, table, fleet)
    assert isinstance(outcome, Route | Refusal)
    assert msgspec.json.encode(outcome)
    assert explain(ask, table, fleet).outcome == outcome


@given(st.builds(Ask, tenant=st.text(), domain=st.text(), tier=st.text(), version=st.text()), wild_fleets)
def test_it_is_total_over_any_text_and_over_tables_that_nobody_checked(ask: Ask, fleet: Fleet) -> None:
    broken = Domain(family="missing", default_tier="missing", tiers={ask.tier or "": Tier(deadline_ms=5.0)})
    table = Table(tenants={ask.tenant: Tenant(key_hashes=[], domains={ask.domain: broken})})
    for asked in (ask, msgspec.structs.replace(ask, version=None), msgspec.structs.replace(ask, tier=None)):
        assert isinstance(choose(asked, table, fleet), Refusal)


@given(asks(ANY_FLOAT), tables, wild_fleets)
def test_a_tenant_is_only_routed_to_tickets_of_its_own_families(ask: Ask, table: Table, fleet: Fleet) -> None:
    route = choose(ask, table, fleet)
    if isinstance(route, Route):
        domain = table.tenants[ask.tenant].domains[ask.domain]
        assert route.ticket in {ticket.id for ticket in table.families[domain.family]}
        assert route.tier in domain.tiers


@given(asks(ANY_FLOAT), tables, wild_fleets)
def test_a_route_stands_on_the_floor_of_its_tier_and_on_a_worker_that_may_answer(
    ask: Ask, table: Table, fleet: Fleet
) -> None:
    route = choose(ask, table, fleet)
    if isinstance(route, Route):
        ticket, tier, worker = parts(route, ask, table, fleet)
        assert ticket.quality >= tier.quality_floor or (ask.version is not None and ask.tier is None)
        assert worker.name not in ask.not_workers
        assert ticket.id not in ask.not_tickets
        assert ask.version is None or ticket.id.startswith(ask.version)
        assert ask.version is not None or ticket.state == "promoted"


@given(asks(st.floats(-1.0, 300.0)), tables, sane_fleets)
def test_a_route_is_predicted_to_make_its_deadline(ask: Ask, table: Table, fleet: Fleet) -> None:
    """With margin on a worker that holds the ticket; where it must be loaded, at least but for the loading."""
    route = choose(ask, table, fleet)
    if isinstance(route, Route):
        ticket, tier, worker = parts(route, ask, table, fleet)
        assert route.deadline_ms == min(
            tier.deadline_ms, tier.deadline_ms if ask.deadline_ms is None else ask.deadline_ms
        )
        cost = worker.costs.get(ticket.id)
        if cost is None:
            assert route.predicted_ms - COLD_PENALTY_MS <= route.deadline_ms + 1e-6
            assert route.because.endswith("loading it first")
        else:
            wait = wait_ms(worker, ask.tenant, table.tenants[ask.tenant].weight)
            assert route.predicted_ms == wait + cost.of(ask.rows, ask.row_bytes)
            assert route.predicted_ms * margin(cost) <= route.deadline_ms


@given(asks(ANY_FLOAT), tables, wild_fleets)
def test_a_policy_is_kept(ask: Ask, table: Table, fleet: Fleet) -> None:
    """``tier``: nothing that costs more than the tier's own ticket. ``cascade``: it is named only where it is the
    policy, with its small ticket first, both tickets above the floor; alone, nothing dearer than that answers."""
    route = choose(ask, table, fleet)
    if not isinstance(route, Route) or ask.version is not None:
        return
    ticket, tier, _ = parts(route, ask, table, fleet)
    domain = table.tenants[ask.tenant].domains[ask.domain]
    family = {t.id: t for t in table.families[domain.family]}
    promoted = {id_: t for id_, t in family.items() if t.state == "promoted"}
    own = [t.service_ms for t in promoted.values() if t.tier == route.tier]
    if domain.policy == "tier" and own:
        assert ticket.service_ms <= max(own)
    cascade = domain.cascade
    if route.cascade is not None:
        assert domain.policy == "cascade"
        assert route.cascade == cascade
        assert (ticket.id, route.step) == (cascade.small, 0)
        assert promoted[cascade.large].quality >= tier.quality_floor
    elif domain.policy == "cascade" and cascade is not None and not ask.not_tickets and route.step:
        small, large = promoted.get(cascade.small), promoted.get(cascade.large)
        if small and large and min(small.quality, large.quality) >= tier.quality_floor:
            assert ticket.service_ms <= small.service_ms


@given(asks(st.floats(1.0, 300.0)), tables, sane_fleets, st.floats(0.0, 300.0))
def test_a_longer_deadline_never_gives_a_worse_ticket(ask: Ask, table: Table, fleet: Fleet, more_ms: float) -> None:
    """Than one that is predicted to be in time: the last resort before a refusal, loading a ticket, is not."""
    route = choose(ask, table, fleet)
    if isinstance(route, Route) and route.predicted_ms <= route.deadline_ms:
        later = choose(msgspec.structs.replace(ask, deadline_ms=route.deadline_ms + more_ms), table, fleet)
        assert isinstance(later, Route)
        assert later.step <= route.step


@given(asks(st.floats(1.0, 300.0)), tables, sane_fleets, st.floats(0.0, 1.0))
def test_less_load_never_gives_a_worse_ticket(ask: Ask, table: Table, fleet: Fleet, left: float) -> None:
    """Than one that is predicted to be in time, see above."""
    route = choose(ask, table, fleet)
    if isinstance(route, Route) and route.predicted_ms <= route.deadline_ms:
        lighter = Fleet(
            workers=tuple(
                msgspec.structs.replace(
                    worker, running_ms=worker.running_ms * left, queued_ms=worker.queued_ms * left,
                    tenants={name: queued * left for name, queued in worker.tenants.items()},
                )
                for worker in fleet.workers
            )
        )  # fmt: skip
        lighter_route = choose(ask, table, lighter)
        assert isinstance(lighter_route, Route)
        assert lighter_route.step <= route.step


@given(asks(ANY_FLOAT), tables, wild_fleets, st.randoms(use_true_random=False))
def test_it_is_deterministic_and_the_order_of_workers_says_nothing(
    ask: Ask, table: Table, fleet: Fleet, chance: random.Random
) -> None:
    shuffled = list(fleet.workers)
    chance.shuffle(shuffled)
    again = choose(ask, table, Fleet(workers=tuple(shuffled)))
    assert again == choose(ask, table, fleet) == choose(ask, table, fleet)


@given(asks(ANY_FLOAT), tables, wild_fleets)
def test_an_idle_worker_that_holds_everything_never_turns_a_route_into_a_refusal(
    ask: Ask, table: Table, fleet: Fleet
) -> None:
    held = {id_: Cost(0.0, 0.0, 0.0) for id_ in IDS}
    newcomer = WorkerView(name="newcomer", costs=held)
    if isinstance(choose(ask, table, fleet), Route):
        assert isinstance(choose(ask, table, Fleet(workers=(*fleet.workers, newcomer))), Route)


@given(asks(st.floats(1.0, 300.0)), tables, sane_fleets)
def test_trying_again_is_suggested_exactly_where_it_can_help(ask: Ask, table: Table, fleet: Fleet) -> None:
    """With the same workers, idle, a refusal that says "again" becomes a route, and one that does not stays."""
    refusal = choose(ask, table, fleet)
    if isinstance(refusal, Refusal):
        idle = tuple(
            msgspec.structs.replace(worker, running_ms=0.0, queued_ms=0.0, tenants={}) for worker in fleet.workers
        )
        later = choose(msgspec.structs.replace(ask, skip=0), table, Fleet(workers=idle))
        if refusal.code == "no_worker":
            assert refusal.retry_after_s == 1.0
        else:
            assert (refusal.retry_after_s is not None) == isinstance(later, Route)


def parts(route: Route, ask: Ask, table: Table, fleet: Fleet) -> tuple[FamilyTicket, Tier, WorkerView]:
    """The objects that a route names."""
    domain = table.tenants[ask.tenant].domains[ask.domain]
    ticket = next(t for t in table.families[domain.family] if t.id == route.ticket)
    worker = next(w for w in fleet.workers if w.name == route.worker)
    return ticket, domain.tiers[route.tier], worker
