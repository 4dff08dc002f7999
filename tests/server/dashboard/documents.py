"""Overviews as the gateway's contract has them, for states of the page that are hard to bring about with real traffic.

They are made of the contract's own types (`server.dashboard.overview`), so that a field which the contract does not
have cannot get in here. It holds no assertions.
"""

from typing import Any, Literal

import msgspec

from routing.access import Right
from routing.event import Event
from server.dashboard.overview import Control, GatewayRow, Overview, Problem, Viewer, WorkerRow
from server.dashboard.shapes import (
    Answered,
    Family,
    Flow,
    Sla,
    Spark,
    Standing,
    Step,
    TenantRow,
    TicketRow,
    Traffic,
    Use,
)
from server.telemetry import OBJECTIVE

AT = 1_790_000_000.0
POINTS = 13
ACCURATE, BALANCED, FAST, TRIED = ("a1" * 32, "b2" * 32, "c3" * 32, "d4" * 32)


def spark(rate_per_s: float, p99_ms: float) -> Spark:
    """A window of one minute with a gap in it."""
    waves = [1 + 0.2 * ((i * 7) % 5 - 2) / 2 for i in range(POINTS)]
    rates: list[float | None] = [rate_per_s * wave for wave in waves]
    tails: list[float | None] = [p99_ms * wave if rate_per_s else None for wave in waves]
    rates[3] = tails[3] = None
    return Spark(step_s=5.0, ends_at=AT, rate_per_s=rates, p99_ms=tails)


def traffic(rate_per_s: float = 120.0, p99_ms: float = 9.5, attainment: float | None = 0.9987) -> Traffic:
    """Requests of one minute; ``attainment`` None: there were none."""
    if attainment is None:
        return Traffic(
            rate_per_s=0.0, requests=0.0, p50_ms=None, p95_ms=None, p99_ms=None, queue_ms=None, parts_ms={},
            outcomes={},
            sla=Sla(objective=OBJECTIVE, attainment=None, met=0.0, missed=0.0, burn=None), spark=spark(0.0, 0.0),
        )  # fmt: skip
    requests = rate_per_s * 60
    missed = round(requests * (1 - attainment))
    sla = Sla(
        objective=OBJECTIVE, attainment=attainment, met=requests - missed, missed=float(missed),
        burn=(1 - attainment) / (1 - OBJECTIVE),
    )  # fmt: skip
    parts = {"admission": 0.2, "hop": 0.6, "queue": p99_ms * 0.1, "tokenize": 0.3, "run": p99_ms * 0.15}
    outcomes = {"ok": requests - missed, **({"deadline_exceeded": float(missed)} if missed else {})}
    return Traffic(
        rate_per_s=rate_per_s, requests=requests, p50_ms=p99_ms * 0.3, p95_ms=p99_ms * 0.7, p99_ms=p99_ms,
        queue_ms=p99_ms * 0.1, outcomes=outcomes,
        parts_ms=parts, sla=sla, spark=spark(rate_per_s, p99_ms),
    )  # fmt: skip


def flow(tenant: str, domain: str, tier: str, deadline_ms: float, **of: Any) -> Flow:
    """One tier; ``of`` as for `traffic`."""
    made = traffic(**of)
    steps = [
        Step(step="0", answers=6000.0, share=0.8, reasons={"best": 6000.0}),
        Step(step="1", answers=1500.0, share=0.2, reasons={"late": 900.0, "load": 600.0}),
    ]
    answered = [
        Answered(ticket=ACCURATE, tier="accurate", answers=6000.0, share=0.8),
        Answered(ticket=BALANCED, tier="balanced", answers=1500.0, share=0.2),
    ]
    return Flow(
        tenant=tenant, domain=domain, tier=tier, is_default=tier == "balanced", policy="best", deadline_ms=deadline_ms,
        quality_floor=0.9, traffic=made, steps=steps if made.requests else [],
        answered=answered if made.requests else [],
    )  # fmt: skip


def tenant_row(name: str, flows: list[Flow], **changes: Any) -> TenantRow:
    """A tenant; its traffic is its first flow's, which is enough to look at."""
    fields: dict[str, Any] = {
        "tenant": name, "is_suspended": False, "weight": 1.0, "domains": 1, "traffic": flows[0].traffic,
        "limits": {"rate_per_s": 200.0, "burst": None, "concurrency": None, "daily_requests": None},
        "refused_by_limits": 0.0,
    }  # fmt: skip
    return TenantRow(**(fields | changes))


def ticket(tid: str, tier: str, quality: float, service_ms: float, share: float | None, **changes: Any) -> TicketRow:
    """One ticket of a family."""
    fields: dict[str, Any] = {
        "ticket": tid, "tier": tier, "state": "promoted", "quality": quality, "service_ms": service_ms,
        "bytes": 3_500_000, "resident_bytes": 4_200_000.0, "rate_per_s": (share or 0.0) * 120, "share": share,
        "is_yours": True, "p50_ms": 2.1, "p95_ms": 5.0, "p99_ms": 9.5, "sla": traffic().sla,
        "run_p50_ms": service_ms, "run_p95_ms": service_ms * 2, "prediction_ratio": 1.04,
        "drift": {"confidence": 0.03, "class": 0.14}, "replaces": [], "canaries": [],
    }  # fmt: skip
    return TicketRow(**(fields | changes))


def standing(
    outcome: Literal["running", "passed", "bad"] = "running", words: str = "not proven yet", **where: str
) -> Standing:
    """A canary beside the balanced ticket."""
    return Standing(
        **({"tenant": "acme", "domain": "banking"} | where), current=BALANCED, mode="canary", share=0.1,
        is_automatic=False, started_at=AT - 400, outcome=outcome,
        words=words, asks=412, errors=2, late=7, agreement=0.953,
    )  # fmt: skip


def family(tenant: str = "acme", domain: str = "banking") -> Family:
    """Three promoted tickets and a canary."""
    tickets = [
        ticket(ACCURATE, "accurate", 0.955, 0.42, 0.62),
        ticket(BALANCED, "balanced", 0.948, 0.25, 0.30, replaces=[FAST]),
        ticket(TRIED, "balanced", 0.951, 0.22, 0.03, state="canary", canaries=[standing(tenant=tenant, domain=domain)]),
        ticket(FAST, "fast", 0.941, 0.09, 0.05),
    ]
    return Family(
        family=domain, is_shared=tenant != "acme", used_by=[Use(tenant=tenant, domain=domain, policy="best")],
        tickets=tickets,
    )  # fmt: skip


def worker(name: str, **changes: Any) -> WorkerRow:
    """A worker that has some work."""
    fields: dict[str, Any] = {
        "name": name, "is_up": True, "busy": 0.42, "queue_texts": 3.0, "wait_ms": 1.8, "texts_per_s": 140.0,
        "tickets": 6, "resident_bytes": 2.1e7, "process_bytes": 1.6e8, "loads": 6.0, "evictions": 0.0,
        "up_since": AT - 7200, "restarts": 0, "spark_busy": [0.3, 0.5, None, 0.42],
    }  # fmt: skip
    return WorkerRow(**(fields | changes))


def gateway(name: str, **changes: Any) -> GatewayRow:
    """A gateway."""
    fields: dict[str, Any] = {
        "name": name, "is_up": True, "is_this": name == "gateway-0", "in_flight": 2.0, "rate_per_s": 120.0,
        "workers": 2.0, "table_version": 7, "stale_s": 0.0, "process_bytes": 1.2e8, "up_since": AT - 7300,
        "restarts": 0,
    }  # fmt: skip
    return GatewayRow(**(fields | changes))


def event(number: int, action: str = "ticket.promote", **changes: Any) -> Event:
    """One line of the audit log."""
    fields: dict[str, Any] = {
        "action": action, "actor": "operator/5f3c0a9be412", "tenant": "acme", "subject": ACCURATE,
        "before": {"state": "registered", "domain": "banking"}, "after": {"state": "promoted", "domain": "banking"},
        "reason": "better on the texts of March", "table_version": number, "id": f"{1_790_000_000_000 - number}-0",
        "at": AT - 60.0 * number,
    }  # fmt: skip
    return Event(**(fields | changes))


def overview(tenant: str | None = None, role: Right = "operator", **changes: Any) -> Overview:
    """What an operator sees of two tenants, or ``tenant`` of itself."""
    acme = [
        flow("acme", "banking", "accurate", 100.0),
        flow("acme", "banking", "balanced", 50.0, rate_per_s=300.0, p99_ms=62.0, attainment=0.9712),
        flow("acme", "banking", "fast", 25.0, rate_per_s=40.0, p99_ms=4.4, attainment=1.0),
    ]
    rival = [flow("rival", "travel", "balanced", 50.0, attainment=None)]
    is_operator = tenant is None
    problem = Problem(
        kind="sla_missed", severity="act",
        what="acme misses its promise in banking, tier balanced: 97.1 % within 50 ms.",
        why="Requests wait 31 ms for a worker.", do="Add a worker, or give acme a limit.", tenant="acme",
        domain="banking", tier="balanced",
    )  # fmt: skip
    fields: dict[str, Any] = {
        "at": AT, "version": "0.1.0", "viewer": Viewer(tenant=tenant, role=role), "window_s": 60, "covered_s": 60.0,
        "sample_s": 5.0, "problems": [problem], "total": traffic() if is_operator else None,
        "tenants": [tenant_row("acme", acme), *([tenant_row("rival", rival)] if is_operator else [])],
        "flows": [*acme, *(rival if is_operator else [])],
        "families": [family(), *([family("rival", "travel")] if is_operator else [])],
        "workers": [worker("worker-0"), worker("worker-1", is_up=False, busy=None)] if is_operator else [],
        "gateways": [gateway("gateway-0")] if is_operator else [],
        "control": Control(
            is_redis_up=True, table_version=7 if is_operator else None, table_since=AT - 90 if is_operator else None,
            redis_away_s=None,
        ),
        "events": [event(n) for n in range(1, 4)] if role != "call" else [], "are_events_fresh": True,
    }  # fmt: skip
    return Overview(**(fields | changes))


def encode(document: Overview) -> bytes:
    """As the gateway sends it."""
    return msgspec.json.encode(document)


def many_tenants(count: int) -> Overview:
    """An operator's view of many tenants with three tiers each; the middle one is missed."""
    flows = [
        flow(f"tenant-{number:02}", "banking", tier, deadline_ms, attainment=attainment)
        for number in range(count)
        for tier, deadline_ms, attainment in (
            ("accurate", 100.0, 1.0), ("balanced", 50.0, 0.95), ("fast", 25.0, 0.9999),
        )
    ]  # fmt: skip
    rows = [tenant_row(f"tenant-{number:02}", flows[number * 3 :]) for number in range(count)]
    families = [family(f"tenant-{number:02}", f"domain-{number:02}") for number in range(count)]
    return overview(flows=flows, tenants=rows, families=families)


def classified(words: str) -> dict[str, Any]:
    """An answer of the short form with these words wherever it has any."""
    top = [{"label": words, "probability": 0.9}, {"label": "other", "probability": 0.05}]
    return {
        "domain": words, "tier": words, "ticket": ACCURATE, "parent": None, "because": words,
        "results": [{"label": words, "probability": 0.9, "in_scope": True, "in_scope_score": 0.99, "top": top}],
        "timings_ms": {"queue": 0.2, "run": 1.1, "total": 1.9, "predicted": 2.1}, "request_id": words,
    }  # fmt: skip
