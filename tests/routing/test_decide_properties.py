"""What holds of every decision, over random tables, fleets and asks."""

import random
from typing import TypeVar

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from routing.decide import COLD_PENALTY_MS, choose
from routing.explain import explain
from routing.table import Ask, Domain, FamilyTicket, Fleet, Refusal, Route, Table, Tenant, Tier, WorkerView

T = TypeVar("T")
IDS = [f"{i:02x}" * 32 for i in range(12)] + ["ab" * 31 + "00", "ab" * 31 + "11"]
TIERS = ["accurate", "balanced", "fast"]
FAMILIES, TENANTS, DOMAINS = ["f0", "f1", "f2"], ["t0", "t1"], ["d0", "d1", "d2"]
ANY_FLOAT = st.floats()  # with infinities and not-a-number: what a fleet says is not trusted

milliseconds = st.floats(0.01, 200.0)
service_times = st.one_of(st.floats(0.01, 30.0), milliseconds)
fractions = st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0])
floors = st.one_of(st.just(0.0), st.just(0.0), fractions)
tickets = st.builds(
    FamilyTicket, id=st.sampled_from(IDS), tier=st.sampled_from(TIERS), quality=fractions, service_ms=service_times
)
families = st.lists(tickets, min_size=1, max_size=5, unique_by=lambda t: t.id).map(
    lambda family: sorted(family, key=lambda t: -t.service_ms)
)
tiers = st.builds(Tier, deadline_ms=milliseconds, quality_floor=floors)
domains = st.dictionaries(st.sampled_from(TIERS), tiers, min_size=1).flatmap(
    lambda named: st.builds(
        Domain, family=st.sampled_from(FAMILIES), default_tier=st.sampled_from(sorted(named)), tiers=st.just(named)
    )
)
tenants = st.builds(
    Tenant,
    key_hashes=st.just([]),
    domains=st.fixed_dictionaries({"d0": domains, "d1": domains}, optional={"d2": domains}),
)
tables = st.builds(
    Table,
    families=st.fixed_dictionaries(dict.fromkeys(FAMILIES, families)),
    tenants=st.fixed_dictionaries({"t0": tenants}, optional={"t1": tenants}),
)
holds = st.one_of(st.just(frozenset(IDS)), st.frozensets(st.sampled_from(IDS)))
sane_waits = st.one_of(st.just(0.0), st.floats(0.0, 250.0))


def fleets(waits: st.SearchStrategy[float]) -> st.SearchStrategy[Fleet]:
    """Fleets of up to five workers with different names; rarely none."""
    sizes = st.sampled_from([2, 1, 3, 3, 5, 2, 4, 0])
    names = st.tuples(st.permutations("abcde"), sizes).map(lambda drawn: drawn[0][: drawn[1]])
    view = st.tuples(holds, waits)
    return names.flatmap(
        lambda found: st.tuples(*([view] * len(found))).map(
            lambda views: Fleet(
                workers=tuple(
                    WorkerView(name=name, holds=held, wait_ms=wait)
                    for name, (held, wait) in zip(found, views, strict=True)
                )
            )
        )
    )


def asks(deadlines: st.SearchStrategy[float]) -> st.SearchStrategy[Ask]:
    """Asks that mostly name what exists: of five hundred, about half end in a route."""
    versions = [*(i[:8] for i in IDS), IDS[0], "ff", "\n" * 8]
    return st.builds(
        Ask,
        tenant=mostly("t0", "t1", "stranger"),
        domain=mostly("d0", "d1", "d2", "nothing"),
        tier=mostly(None, *TIERS, "gold"),
        version=mostly(None, *versions),
        deadline_ms=st.one_of(st.none(), st.none(), deadlines),
        not_workers=mostly(frozenset(), frozenset({"a"}), frozenset({"a", "b", "zz"})),
        not_tickets=mostly(frozenset(), frozenset(IDS[:1]), frozenset(IDS)),
    )


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """The usual value seven times of eight."""
    return st.integers(0, 7).flatmap(lambda n: st.sampled_from([usual, *others]) if n == 7 else st.just(usual))


@given(asks(ANY_FLOAT), tables, fleets(ANY_FLOAT))
def test_it_is_total(ask: Ask, table: Table, fleet: Fleet) -> None:
    """Every ask gets a route or a refusal, whatever the numbers; so does every explanation, the same one."""
    outcome = choose(ask, table, fleet)
    assert isinstance(outcome, Route | Refusal)
    assert msgspec.json.encode(outcome)
    assert explain(ask, table, fleet).outcome == outcome


@given(st.builds(Ask, tenant=st.text(), domain=st.text(), tier=st.text(), version=st.text()), fleets(ANY_FLOAT))
def test_it_is_total_over_any_text_and_over_tables_that_nobody_checked(ask: Ask, fleet: Fleet) -> None:
    broken = Domain(family="missing", default_tier="missing", tiers={ask.tier or "": Tier(deadline_ms=5.0)})
    table = Table(tenants={ask.tenant: Tenant(key_hashes=[], domains={ask.domain: broken})})
    for asked in (ask, msgspec.structs.replace(ask, version=None), msgspec.structs.replace(ask, tier=None)):
        assert isinstance(choose(asked, table, fleet), Refusal)


@given(asks(ANY_FLOAT), tables, fleets(ANY_FLOAT))
def test_a_tenant_is_only_routed_to_tickets_of_its_own_families(ask: Ask, table: Table, fleet: Fleet) -> None:
    route = choose(ask, table, fleet)
    if isinstance(route, Route):
        domain = table.tenants[ask.tenant].domains[ask.domain]
        assert route.ticket in {ticket.id for ticket in table.families[domain.family]}
        assert route.tier in domain.tiers


@given(asks(ANY_FLOAT), tables, fleets(ANY_FLOAT))
def test_a_route_stands_on_the_floor_of_its_tier_and_on_a_worker_that_may_answer(
    ask: Ask, table: Table, fleet: Fleet
) -> None:
    route = choose(ask, table, fleet)
    if isinstance(route, Route):
        ticket, tier, worker = parts(route, ask, table, fleet)
        assert ticket.quality >= tier.quality_floor
        assert worker.name not in ask.not_workers
        assert ticket.id not in ask.not_tickets
        assert ask.version is None or ticket.id.startswith(ask.version)


@given(asks(st.floats(-1.0, 300.0)), tables, fleets(sane_waits))
def test_a_route_is_predicted_to_make_its_deadline(ask: Ask, table: Table, fleet: Fleet) -> None:
    """On a worker that holds the ticket without exception; where it must be loaded, but for the
    loading, and then only when no holder would make it."""
    route = choose(ask, table, fleet)
    if isinstance(route, Route):
        ticket, tier, worker = parts(route, ask, table, fleet)
        assert route.deadline_ms == min(
            tier.deadline_ms, tier.deadline_ms if ask.deadline_ms is None else ask.deadline_ms
        )
        assert worker.wait_ms + ticket.service_ms <= route.deadline_ms
        if ticket.id not in worker.holds and worker.wait_ms + COLD_PENALTY_MS + ticket.service_ms > route.deadline_ms:
            holders = [w for w in fleet.workers if ticket.id in w.holds and w.name not in ask.not_workers]
            assert all(w.wait_ms + ticket.service_ms > route.deadline_ms for w in holders)


@given(asks(ANY_FLOAT), tables, fleets(ANY_FLOAT), st.randoms(use_true_random=False))
def test_it_is_deterministic_and_the_order_of_workers_says_nothing(
    ask: Ask, table: Table, fleet: Fleet, chance: random.Random
) -> None:
    shuffled = list(fleet.workers)
    chance.shuffle(shuffled)
    again = choose(ask, table, Fleet(workers=tuple(shuffled)))
    assert again == choose(ask, table, fleet) == choose(ask, table, fleet)


@given(asks(ANY_FLOAT), tables, fleets(ANY_FLOAT))
def test_an_idle_worker_that_holds_everything_never_turns_a_route_into_a_refusal(
    ask: Ask, table: Table, fleet: Fleet
) -> None:
    newcomer = WorkerView(name="newcomer", holds=frozenset(IDS), wait_ms=0.0)
    if isinstance(choose(ask, table, fleet), Route):
        assert isinstance(choose(ask, table, Fleet(workers=(*fleet.workers, newcomer))), Route)


@given(asks(st.floats(1.0, 300.0)), tables, fleets(sane_waits))
def test_trying_again_is_suggested_exactly_where_it_can_help(ask: Ask, table: Table, fleet: Fleet) -> None:
    """With idle workers in the place of the busy ones, a refusal that says "again" becomes a route."""
    refusal = choose(ask, table, fleet)
    if isinstance(refusal, Refusal):
        idle = tuple(WorkerView(name=w.name, holds=frozenset(IDS), wait_ms=0.0) for w in fleet.workers)
        newcomer = WorkerView(name="newcomer", holds=frozenset(IDS), wait_ms=0.0)
        later = choose(ask, table, Fleet(workers=(*idle, newcomer)))
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
