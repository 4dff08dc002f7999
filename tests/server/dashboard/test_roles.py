"""Who sees what: an operator everything, a tenant its own and nothing that tells of anybody else."""

import re
from typing import Any

import msgspec
import pytest

from routing.account import Role
from routing.event import Event
from server.dashboard.overview import Overview
from server.labels import OTHER
from tests.server.dashboard.node import AT, OWN, SHARED, THEIRS, TRIED, Node, caller
from tests.server.dashboard.test_overview import ticket

ROLES: tuple[Role, ...] = ("call", "register", "admin")
EVENTS = [
    Event(action="ticket.promote", actor="tenant/rival/222222222222", tenant="rival", subject=THEIRS, id="9-0", at=AT),
    Event(action="table.publish", actor="operator/000000000000", subject="table", id="8-0", at=AT),
    Event(action="ticket.promote", actor="tenant/acme/111111111111", tenant="acme", subject=OWN, id="7-0", at=AT),
]


@pytest.fixture
def node() -> Node:
    """Both tenants busy, everything wrong for both: late, refused, limited, a worker too busy, drift, quarantine."""
    node = Node()
    node.worker.quarantined.set(1)
    for tenant, domain, which, count in (
        ("acme", "home", SHARED, 1), ("acme", "own", OWN, 1), ("acme", "own", TRIED, 1),
        ("rival", "home", SHARED, 1), ("rival", "secret", THEIRS, 1),
    ):  # fmt: skip
        node.ask(tenant, domain, count, ticket=which)
    node.sample()
    for tenant, domain, which, count in (
        ("acme", "home", SHARED, 10), ("acme", "own", OWN, 20), ("rival", "home", SHARED, 1000),
        ("rival", "secret", THEIRS, 3000),
    ):  # fmt: skip
        node.ask(tenant, domain, count, ticket=which, met_sla=False, total_s=0.02)
        node.metrics.control.limited(tenant, "day")
        node.metrics.control.registered(tenant, "gate_failed")
    node.refuse("unauthorized", 7, met_sla=None, tenant="", domain="", tier="")
    node.worker.loaded(ticket=SHARED, resident_bytes=1_000_000, seconds=0.1)
    node.worker.loaded(ticket=OWN, resident_bytes=2_000_000, seconds=0.1)
    node.worker.batch(ticket=THEIRS, texts=1, queue_s=[0.1], run_s=4.9)
    node.sample()
    return node


def strings(found: Any) -> set[str]:
    """Every string of a JSON document, names of members left out."""
    if isinstance(found, dict):
        return set().union(*map(strings, found.values())) if found else set()
    if isinstance(found, list):
        return set().union(*map(strings, found)) if found else set()
    return {found} if isinstance(found, str) else set()


def numbers(found: Any) -> set[float]:
    """Every number of a JSON document."""
    if isinstance(found, dict):
        return set().union(*map(numbers, found.values())) if found else set()
    if isinstance(found, list):
        return set().union(*map(numbers, found)) if found else set()
    return {float(found)} if isinstance(found, int | float) and not isinstance(found, bool) else set()


def document(overview: Overview) -> Any:
    return msgspec.json.decode(msgspec.json.encode(overview))


@pytest.mark.parametrize("role", ROLES)
def test_a_tenant_finds_no_word_of_anybody_else(node: Node, role: Role) -> None:
    """No other tenant, no domain or ticket of theirs, no worker, no gateway, no other's event, in any role."""
    shown = document(node.look(caller("acme", role), events=EVENTS, missing=frozenset({THEIRS})))
    text = " ".join(sorted(strings(shown)))
    for secret in ("rival", "secret", THEIRS, THEIRS[:12], "worker-0", "gateway-0", "operator", OTHER, "quarantine"):
        assert secret not in text, secret
    assert (shown["workers"], shown["gateways"], shown["total"]) == ([], [], None)
    assert [row["tenant"] for row in shown["tenants"]] == ["acme"]
    assert shown["control"] == {"is_redis_up": True, "table_version": None, "table_since": None, "redis_away_s": None}


def test_the_walk_finds_what_an_operator_sees(node: Node) -> None:
    """The same walk on an operator's overview finds all of it: it looks where such words would be."""
    shown = document(node.look(events=EVENTS, missing=frozenset({THEIRS})))
    text = " ".join(sorted(strings(shown)))
    for word in ("rival", "secret", THEIRS, THEIRS[:12], "worker-0", "gateway-0", "operator", OTHER, "quarantine"):
        assert word in text, word
    assert {4030.0, 3000.0, 1000.0, 4037.0} <= numbers(shown)


def test_no_number_of_a_tenant_moves_when_another_tenants_traffic_does(node: Node) -> None:
    """The surest test that nothing can be subtracted: rival's traffic doubles, and acme's overview stays the same."""
    before = document(node.look(caller("acme"), events=EVENTS))
    again = node_with_twice_the_rival()
    after = document(again.look(caller("acme"), events=EVENTS))
    assert after == before
    assert document(again.look(events=EVENTS)) != document(node.look(events=EVENTS))


def node_with_twice_the_rival() -> Node:
    """As the fixture, but for rival's traffic."""
    node = Node()
    for tenant, domain, which in (
        ("acme", "home", SHARED), ("acme", "own", OWN), ("acme", "own", TRIED), ("rival", "home", SHARED),
        ("rival", "secret", THEIRS),
    ):  # fmt: skip
        node.ask(tenant, domain, 1, ticket=which)
    node.sample()
    for tenant, domain, which, count in (
        ("acme", "home", SHARED, 10), ("acme", "own", OWN, 20), ("rival", "home", SHARED, 2000),
        ("rival", "secret", THEIRS, 77),
    ):  # fmt: skip
        node.ask(tenant, domain, count, ticket=which, met_sla=False, total_s=0.02)
        if tenant == "acme":
            node.metrics.control.limited(tenant, "day")
            node.metrics.control.registered(tenant, "gate_failed")
    node.worker.loaded(ticket=SHARED, resident_bytes=9_000_000, seconds=0.1)
    node.worker.loaded(ticket=OWN, resident_bytes=2_000_000, seconds=0.1)
    node.sample()
    return node


def test_of_a_shared_ticket_a_tenant_sees_its_own_answers_only(node: Node) -> None:
    row = ticket(node.look(caller("acme")), SHARED)
    assert (row.rate_per_s, row.share, row.is_yours) == (2.0, 1.0, False)
    assert (row.p50_ms, row.sla, row.run_p50_ms, row.prediction_ratio, row.resident_bytes) == (None,) * 5
    assert row.drift == {}
    own = ticket(node.look(caller("acme")), OWN)
    assert own.is_yours
    assert own.resident_bytes == 2_000_000
    assert own.p50_ms is not None


def test_a_ticket_that_another_has_just_given_up_is_still_not_ones_own(node: Node) -> None:
    """Its numbers are still about the other's requests, until the window has passed."""
    rival = msgspec.structs.replace(node.table.tenants["rival"], domains={})
    node.users.see(node.table, node.at)
    node.table = msgspec.structs.replace(node.table, tenants={**node.table.tenants, "rival": rival})
    assert not ticket(node.look(caller("acme")), SHARED).is_yours
    node.at += 901
    assert ticket(node.look(caller("acme")), SHARED).is_yours


def test_what_is_counted_as_other_is_no_tenants_own() -> None:
    """Also where a tenant is called so: it may be anybody's."""
    node = Node()
    tenants = {OTHER: node.table.tenants["acme"], "rival": node.table.tenants["rival"]}
    node.table = msgspec.structs.replace(node.table, tenants=tenants)
    node.refuse("unauthorized", 1, met_sla=None, tenant="", domain="", tier="")
    node.sample()
    node.refuse("unauthorized", 7, met_sla=None, tenant="", domain="", tier="")
    node.sample()
    overview = node.look(caller(OTHER))
    assert overview.tenants[0].traffic.requests == 0
    assert 7.0 not in numbers(document(overview))


def test_events_are_for_the_roles_that_may_read_the_audit_log(node: Node) -> None:
    seen = {role: [event.id for event in node.look(caller("acme", role), events=EVENTS).events] for role in ROLES}
    assert seen == {"call": [], "register": ["7-0"], "admin": ["7-0"]}
    assert [event.id for event in node.look(events=EVENTS).events] == ["9-0", "8-0", "7-0"]


def test_a_tenant_sees_no_event_of_one_that_had_its_name_before(node: Node) -> None:
    def event(number: int, action: str) -> Event:
        return Event(action=action, actor="operator/0", tenant="acme", id=f"{number}-0", at=AT)

    again = [event(5, "key.create"), event(4, "tenant.create"), event(3, "tenant.delete"), event(2, "key.create")]
    assert [one.id for one in node.look(caller("acme"), events=again).events] == ["5-0", "4-0"]
    deleted = [event(5, "key.create"), event(3, "tenant.delete"), event(2, "key.create")]
    assert [one.id for one in node.look(caller("acme"), events=deleted).events] == ["5-0"]


def test_problems_of_a_tenant_are_its_own(node: Node) -> None:
    """An operator is told of both tenants and of the processes, a tenant of itself."""
    mine = node.look(caller("acme"), events=EVENTS).problems
    assert {problem.kind for problem in mine} == {"sla_missed", "quota_used_up", "gate_refused"}
    assert {problem.tenant for problem in mine} == {"acme"}
    all_ = node.look(events=EVENTS).problems
    assert {"rival", "acme"} <= {problem.tenant for problem in all_ if problem.kind == "sla_missed"}
    assert {"worker_busy", "quarantined"} <= {problem.kind for problem in all_}
    assert not any(re.search(r"[Aa]dd workers", problem.do) for problem in mine)
