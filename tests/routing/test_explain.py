"""The explanation: what is said of each ticket that was not taken."""

import msgspec
import pytest

from routing.cost import Cost
from routing.explain import explain
from routing.table import Ask, Cascade, Fleet, Policy, Route, Table, WorkerView
from tests.routing.tables import ACCURATE, BALANCED, FAST, example_table

TABLE = example_table()
COSTS = {ACCURATE: Cost(20.0, 0.0, 0.0), BALANCED: Cost(10.0, 0.0, 0.0), FAST: Cost(2.0, 0.0, 0.0)}
CASCADE = Cascade(small=BALANCED, large=ACCURATE, threshold=0.9, accuracy=0.96)


def table_with(policy: Policy) -> Table:
    tenant = TABLE.tenants["acme"]
    domain = msgspec.structs.replace(tenant.domains["banking"], policy=policy, cascade=CASCADE)
    tenant = msgspec.structs.replace(tenant, domains={"banking": domain})
    return msgspec.structs.replace(TABLE, tenants={**TABLE.tenants, "acme": tenant})


def said(worker: WorkerView, table: Table = TABLE, tier: str = "accurate", **ask: object) -> dict[str, str]:
    """What is said of each ticket, by the tier it was found for, in the order of choice."""
    asked = msgspec.convert({"tenant": "acme", "domain": "banking", "tier": tier, **ask}, Ask)
    explanation = explain(asked, table, Fleet(workers=(worker,)))
    assert [item.is_chosen for item in explanation.considered].count(True) == isinstance(explanation.outcome, Route)
    return {item.ticket.tier: item.why for item in explanation.considered}


IDLE = WorkerView(name="w", costs=COSTS)
CASES: list[tuple[dict[str, str], str, str]] = [
    (said(IDLE), "balanced", "predicted 10 ms on w (wait 0 ms) would do, but a better ticket does too"),
    (said(IDLE, tier="fast"), "accurate", "predicted 20 ms on w (wait 0 ms) > 10 ms"),
    (said(IDLE, tier="strict"), "fast", "quality 0.9 is below the floor 0.96"),
    (said(IDLE, version=FAST), "accurate", "not the version asked for"),
    (said(IDLE, not_tickets=[ACCURATE]), "accurate", "could not be loaded"),
    (said(IDLE, skip=1), "accurate", "passed over: the ladder stands at step 1, under load"),
    (said(IDLE, not_workers=["w"]), "fast", "no worker can be reached"),
    # the margin, from how far off the ticket's predictions have been
    (
        said(WorkerView(name="w", costs={ACCURATE: Cost(20.0, 0.0, 0.0, 0.25)}, running_ms=60.0), tier="accurate"),
        "accurate",
        "predicted 80 ms on w (wait 60 ms), 120 ms with a margin of 50% > 100 ms",
    ),
    # the tenant's wait, where others' queues are longer than what they may get first
    (
        said(WorkerView(name="w", costs=COSTS, queued_ms=500.0, tenants={"globex": 500.0}), tier="fast"),
        "balanced",
        "predicted 20 ms on w (wait 10 ms: the tenant's share of 500 ms of queue) > 10 ms",
    ),
    # what is not in memory
    (
        said(WorkerView(name="w", costs={FAST: COSTS[FAST]}), tier="balanced"),
        "accurate",
        "no worker holds it; predicted 50 ms on w, loading included, > 25 ms",
    ),
    (
        said(WorkerView(name="w", costs={ACCURATE: COSTS[ACCURATE]}), tier="accurate"),
        "balanced",
        "no worker holds it; predicted 40 ms on w, loading included, would do, but a better ticket does too",
    ),
    (
        said(WorkerView(name="w", costs={}, running_ms=90.0), tier="accurate"),
        "accurate",
        "no worker holds it, nor has time for it within 100 ms",
    ),
    # policies
    (said(IDLE, table_with("tier"), tier="fast"), "balanced", "costs more than policy tier allows tier fast"),
    (said(IDLE, table_with("cascade")), "accurate", "answers only what the cascade's small ticket is not sure of"),
    (
        said(IDLE, table_with("cascade")),
        "fast",
        "predicted 2 ms on w (wait 0 ms) would do, but a better ticket does too",
    ),
    (
        said(IDLE, table_with("cascade")),
        "balanced",
        "chosen, on worker w: cascade within 100 ms: "
        "balanced answers where its confidence is at least 0.9, else accurate",
    ),
]


@pytest.mark.parametrize(("whys", "tier", "why"), CASES)
def test_what_is_said_of_a_ticket(whys: dict[str, str], tier: str, why: str) -> None:
    assert whys[tier] == why


def test_tickets_stand_in_the_order_of_choice() -> None:
    assert list(said(IDLE)) == ["accurate", "balanced", "fast"]
