"""What holds of every sequence of moves, legal or not, over tables that several tenants share."""

import itertools
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from routing.decide import choose
from routing.document import check, dump_json, load_json
from routing.lifecycle import LifecycleError, promote, register, retire, rollback, start_canary, withdraw
from routing.table import Ask, Domain, FamilyTicket, Fleet, Refusal, Table, Tenant, Tier, WorkerView

IDS = [f"{i:02x}" * 32 for i in range(4)]
TIERS = ["accurate", "fast"]
TENANTS, DOMAINS = ["acme", "globex"], ["home", "work"]

Move = tuple[str, dict[str, Any]]


def start() -> Table:
    """Both tenants have `home` on one shared family; acme's `work` stands on it too."""
    family = [FamilyTicket(id=IDS[i], tier=TIERS[i], quality=0.95 - 0.05 * i, service_ms=9.0 - 8.0 * i) for i in (0, 1)]
    tiers = {"accurate": Tier(deadline_ms=50.0), "fast": Tier(deadline_ms=10.0)}
    domain = Domain(family="shared", default_tier="fast", tiers=tiers)
    return check(
        Table(
            families={"shared": family},
            tenants={
                "acme": Tenant(domains={"home": domain, "work": domain}),
                "globex": Tenant(domains={"home": domain}),
            },
        )
    )


tickets = st.builds(
    FamilyTicket, id=st.sampled_from(IDS), tier=st.just("any"), quality=st.sampled_from([0.5, 0.9, 0.97]),
    service_ms=st.sampled_from([1.0, 4.0, 20.0]),
)  # fmt: skip
names = st.fixed_dictionaries(
    {"tenant": st.sampled_from(TENANTS), "ticket": st.sampled_from(IDS), "domain": st.sampled_from(DOMAINS)}
)
promises = st.fixed_dictionaries(
    {}, optional={"deadline_ms": st.sampled_from([5.0, 30.0]), "quality_floor": st.sampled_from([0.0, 0.9])}
)
moves = st.one_of(
    st.tuples(
        st.just("register"),
        st.fixed_dictionaries(
            {"tenant": st.sampled_from(TENANTS), "domain": st.sampled_from(DOMAINS), "tier": st.sampled_from(TIERS),
             "ticket": tickets}
        ),
    ),
    st.tuples(st.just("start_canary"), names.map(lambda n: {**n, "now": 1.0})),
    st.tuples(st.just("withdraw"), names),
    st.tuples(st.just("promote"), st.tuples(names, promises).map(lambda both: both[0] | both[1])),
    st.tuples(
        st.just("rollback"),
        st.fixed_dictionaries(
            {"tenant": st.sampled_from(TENANTS), "domain": st.sampled_from(DOMAINS)},
            optional={"tier": st.sampled_from(TIERS)},
        ),
    ),
    st.tuples(st.just("retire"), st.tuples(names, st.booleans()).map(lambda both: {**both[0], "is_last": both[1]})),
)  # fmt: skip
DO: dict[str, Any] = {
    "register": register, "start_canary": start_canary, "withdraw": withdraw, "promote": promote, "rollback": rollback,
    "retire": retire,
}  # fmt: skip


def ids(table: Table, tenant: str, domain: str) -> set[str]:
    found = table.tenants[tenant].domains.get(domain)
    return set() if found is None else {ticket.id for ticket in table.families[found.family]}


def rows(table: Table, tenant: str, domain: str) -> tuple[Domain, list[FamilyTicket]] | None:
    """All that routing knows of a domain."""
    found = table.tenants[tenant].domains.get(domain)
    return None if found is None else (found, table.families[found.family])


@given(st.lists(moves, min_size=3, max_size=25))
def test_no_sequence_of_moves_leaves_an_invalid_table_touches_others_or_loses_a_ticket(sequence: list[Move]) -> None:
    table = start()
    for name, arguments in sequence:
        tenant = arguments["tenant"]
        try:
            after, event = DO[name](table, actor="somebody", **arguments)
        except LifecycleError:
            continue
        assert check(after) == after
        assert load_json(dump_json(after)) == after
        assert (event.tenant, event.actor) == (tenant, "somebody")
        for other, domain in itertools.product(TENANTS, DOMAINS):
            if (other, domain) != (tenant, arguments["domain"]):
                assert rows(after, other, domain) == rows(table, other, domain)
        gone = ids(table, tenant, arguments["domain"]) - ids(after, tenant, arguments["domain"])
        assert gone == ({arguments["ticket"]} if name == "retire" else set())
        table = after


@given(st.lists(moves, max_size=15), names, promises)
def test_a_rollback_undoes_a_promotion_exactly(sequence: list[Move], named: dict[str, Any], promise: Any) -> None:
    """But for a trial, which does not go on (the ticket is registered then), and for what a ticket says for people of
    those that it once replaced."""
    table = played(sequence)
    try:
        promoted, _ = promote(table, actor="somebody", **named, **promise)
        back, _ = rollback(promoted, tenant=named["tenant"], domain=named["domain"], actor="somebody")
    except LifecycleError:
        return
    before = rows(table, named["tenant"], named["domain"])
    assert before is not None
    domain, family = before
    if domain.canary is not None and back.tenants[named["tenant"]].domains[named["domain"]].canary is None:
        table, _ = withdraw(
            table, tenant=named["tenant"], ticket=domain.canary.ticket, domain=named["domain"], actor="somebody"
        )
    expected = rows(table, named["tenant"], named["domain"])
    assert expected is not None
    domain, family = rows(back, named["tenant"], named["domain"]) or expected
    assert family == [
        msgspec.structs.replace(one, replaces=now.replaces) for one, now in zip(expected[1], family, strict=True)
    ]
    assert msgspec.structs.replace(domain, family=expected[0].family) == expected[0]


@given(st.lists(moves, max_size=20), st.sampled_from(TIERS))
def test_unpinned_asks_get_promoted_tickets_and_pins_any_whatever_has_happened(sequence: list[Move], tier: str) -> None:
    table = played(sequence)
    fleet = Fleet(workers=(WorkerView(name="w"),))
    for tenant, domain in itertools.product(TENANTS, DOMAINS):
        found = rows(table, tenant, domain)
        if found is None:
            continue
        for ticket in found[1]:
            ask = Ask(tenant=tenant, domain=domain, tier=found[0].default_tier, version=ticket.id)
            pinned = choose(ask, table, fleet)
            assert isinstance(pinned, Refusal) or pinned.ticket == ticket.id
            assert not (isinstance(pinned, Refusal) and pinned.code in ("unknown_version", "not_promoted"))
        route = choose(Ask(tenant=tenant, domain=domain, tier=tier), table, fleet)
        by_id = {ticket.id: ticket for ticket in found[1]}
        if isinstance(route, Refusal):
            has_promoted = any(ticket.state == "promoted" for ticket in found[1])
            assert (route.code == "not_promoted") == (tier in found[0].tiers and not has_promoted)
        else:
            assert by_id[route.ticket].state == "promoted"


def played(sequence: list[Move]) -> Table:
    """The table after the legal ones among these moves."""
    table = start()
    for name, arguments in sequence:
        try:
            table, _ = DO[name](table, actor="somebody", **arguments)
        except LifecycleError:
            continue
    return table
