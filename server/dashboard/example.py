"""An example of an overview, for the API's description: a small installation with one busy tenant, all in order."""

from routing.event import Event
from server.dashboard.overview import Control, GatewayRow, Overview, Viewer, WorkerRow
from server.dashboard.shapes import Answered, Family, Flow, Sla, Spark, Step, TenantRow, TicketRow, Traffic, Use
from server.openapi_parts import TICKET

_AT = 1_790_000_000.0
_SLA = Sla(objective=0.99, attainment=0.9981, met=23_954.0, missed=46.0, burn=0.19)
_TRAFFIC = Traffic(
    rate_per_s=400.0, requests=24_000.0, p50_ms=2.1, p95_ms=4.6, p99_ms=7.9, queue_ms=0.4,
    parts_ms={"admission": 0.2, "hop": 0.4, "queue": 0.4, "run": 0.9, "tokenize": 0.2},
    outcomes={"ok": 23_960.0, "overloaded": 40.0}, sla=_SLA,
    spark=Spark(step_s=5.0, ends_at=_AT, rate_per_s=[398.2, 401.6], p99_ms=[7.7, 8.1]),
)  # fmt: skip
_TICKET = TicketRow(
    ticket=TICKET, tier="fast", state="promoted", quality=0.947, service_ms=0.8, bytes=2_100_000, rate_per_s=400.0,
    share=1.0, is_yours=True, p50_ms=2.1, p95_ms=4.6, p99_ms=7.9, sla=_SLA, run_p50_ms=0.9, run_p95_ms=1.6,
    prediction_ratio=0.98, resident_bytes=2_000_000.0, drift={"class": 0.02, "confidence": 0.03, "scope": 0.01},
    replaces=[], canaries=[],
)  # fmt: skip

EXAMPLE = Overview(
    at=_AT, version="0.1.0", viewer=Viewer(tenant=None, role="operator"), window_s=60, covered_s=60.0, sample_s=5.0,
    problems=[], total=_TRAFFIC,
    tenants=[
        TenantRow(
            tenant="acme", is_suspended=False, weight=1.0, domains=1, traffic=_TRAFFIC, refused_by_limits=0.0,
            limits={"rate_per_s": 500.0, "burst": None, "concurrency": None, "daily_requests": None},
        )
    ],
    flows=[
        Flow(
            tenant="acme", domain="banking", tier="fast", is_default=True, policy="best", deadline_ms=10.0,
            quality_floor=0.9, traffic=_TRAFFIC,
            steps=[Step(step="0", answers=23_960.0, share=1.0, reasons={"best": 23_960.0})],
            answered=[Answered(ticket=TICKET, tier="fast", answers=23_960.0, share=1.0)],
        )
    ],
    families=[
        Family(
            family="acme/banking", is_shared=False, tickets=[_TICKET],
            used_by=[Use(tenant="acme", domain="banking", policy="best")],
        )
    ],
    workers=[
        WorkerRow(
            name="worker-0", is_up=True, busy=0.41, queue_texts=0.0, wait_ms=0.3, texts_per_s=400.0, tickets=1,
            resident_bytes=2_000_000.0, process_bytes=90_000_000.0, loads=0.0, evictions=0.0, up_since=_AT - 3600,
            restarts=0, spark_busy=[0.4, 0.42],
        )
    ],
    gateways=[
        GatewayRow(
            name="gateway-0", is_up=True, is_this=True, in_flight=2.0, rate_per_s=400.0, workers=1.0, table_version=8,
            stale_s=0.0, process_bytes=80_000_000.0, up_since=_AT - 3600, restarts=0,
        )
    ],
    control=Control(is_redis_up=True, table_version=8, table_since=_AT - 600, redis_away_s=None),
    events=[
        Event(
            id="1790000000000-0", at=_AT - 600, action="ticket.promote", actor="tenant/acme/5f3c0a9be412",
            tenant="acme", subject=TICKET, before={"state": "canary"}, after={"state": "promoted"}, table_version=8,
        )
    ],
    are_events_fresh=True,
)  # fmt: skip
