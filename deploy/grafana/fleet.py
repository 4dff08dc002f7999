"""The dashboard of a whole installation: is every promise kept, by whom not, and has the machine room left?

For the platform engineer's first look. From a tenant's row one goes on to the tenant, from a worker to the worker.
"""

from deploy.grafana.panels import (
    GREEN,
    RED,
    WHERE,
    YELLOW,
    Json,
    Query,
    dashboard,
    row,
    stat,
    table,
    thresholds,
    timeseries,
)

BURN = thresholds((1, YELLOW), (6, RED))
KEPT = thresholds((0.97, YELLOW), (0.99, GREEN), base=RED)
_TENANT = "/d/tombola-tenant?${__url_time_range}&${datasource:queryparam}&var-tenant=${__data.fields.tenant}"
_WHO = ("tenant", "domain", "tier")


def fleet() -> Json:
    """The dashboard `tombola-fleet`."""
    return dashboard(
        "fleet",
        "Tombola: fleet",
        "Is every promise kept, by whom not, and has the installation room left?",
        [],
        [*_glance(), *_promises(), *_traffic(), *_capacity(), *_control()],
    )


def _glance() -> list[Json]:
    missed = f'sum(rate(tombola_sla_total{{result="missed",{WHERE}}}[1h]))'
    return [
        stat(
            "Promises kept, 1 h",
            "Of all requests that count, the part that met its tier's deadline.",
            Query(f"1 - {missed} / sum(rate(tombola_sla_total{{{WHERE}}}[1h]))"),
            unit="percentunit", limits=KEPT, decimals=2,
        ),
        stat(
            "Requests",
            "All requests, whatever became of them, over the last 5 minutes.",
            Query(f"sum(installation:tombola_requests:rate5m{{{WHERE}}})"),
            unit="reqps",
        ),
        stat(
            "Our faults",
            "Of all requests, those that failed by a fault of the service or of a ticket: neither load nor the caller.",
            Query(f"max(installation:tombola_requests_faulty:ratio_rate5m{{{WHERE}}})"),
            unit="percentunit", limits=thresholds((0.001, YELLOW), (0.01, RED)), decimals=2,
        ),
        stat(
            "Workers busy",
            "The part of the time that workers run batches, on average, over 5 minutes.",
            Query(f"max(installation:tombola_worker_busy:ratio_rate5m{{{WHERE}}})"),
            unit="percentunit", limits=thresholds((0.7, YELLOW), (0.85, RED)), decimals=0,
        ),
        stat(
            "Workers reached",
            "By the gateway that reaches the fewest.",
            Query(f"min(tombola_workers{{{WHERE}}})"),
            limits=thresholds((1, GREEN), base=RED),
        ),
        stat(
            "Alerts firing",
            "Tombola's own, of any severity.",
            Query(f'count(ALERTS{{alertname=~"Tombola.*",alertstate="firing",{WHERE}}}) or vector(0)'),
            limits=thresholds((1, RED)),
        ),
    ]  # fmt: skip


def _promises() -> list[Json]:
    def now(expr: str) -> Query:
        return Query(f"max by (tenant, domain, tier) ({expr}{{{WHERE}}})", is_instant=True)

    return [
        row("Promises"),
        table(
            "Every promise",
            "A tenant's domain at one tier: how its error budget goes. Burn 1 uses it up exactly in its month; from 6 "
            "on somebody should be awake. Click a tenant to look closer.",
            {
                "burn 1 h": (now("tier:tombola_sla:burn1h"), "short", BURN),
                "burn 6 h": (now("tier:tombola_sla:burn6h"), "short", BURN),
                "burn 3 d": (now("tier:tombola_sla:burn3d"), "short", BURN),
                "kept 1 h": (now("tier:tombola_sla:attainment1h"), "percentunit", KEPT),
                "p99": (now("tier:tombola_request_seconds:p99_5m"), "s", None),
                "deadline": (now("tombola_sla_deadline_seconds"), "s", None),
                "requests/s": (now("tier:tombola_requests:rate5m"), "reqps", None),
                "lesser ticket": (now("tier:tombola_route_steps_down:ratio_rate5m"), "percentunit", None),
            },
            labels=_WHO, links={"tenant": _TENANT}, sort="burn 1 h", width=16,
        ),
        table(
            "Alerts firing",
            "What is wrong now. Each alert's runbook is docs/runbooks/<its name>.md.",
            {
                "for": (
                    Query(
                        "time() - min by (alertname, severity, tenant, process, ticket) (ALERTS_FOR_STATE"
                        f'{{alertname=~"Tombola.*",{WHERE}}} and ignoring (alertstate) '
                        f'ALERTS{{alertname=~"Tombola.*",alertstate="firing",{WHERE}}})',
                        is_instant=True,
                    ),
                    "s", None,
                )
            },
            labels=("alertname", "severity", "tenant", "process", "ticket"), width=8,
        ),
        timeseries(
            "Error budget burn over an hour, the ten worst",
            "How many times faster than allowed each error budget goes. 14.4 over an hour wakes somebody.",
            Query(f"topk(10, tier:tombola_sla:burn1h{{{WHERE}}})", "{{tenant}} {{domain}}/{{tier}}"),
            limits=thresholds((1, YELLOW), (14.4, RED)), width=12,
        ),
        timeseries(
            "Answers by a lesser ticket, the ten highest",
            "Under load a family steps down to a cheaper ticket before anything is refused: the price is quality.",
            Query(
                f"topk(10, tier:tombola_route_steps_down:ratio_rate5m{{{WHERE}}})", "{{tenant}} {{domain}}/{{tier}}"
            ),
            unit="percentunit", most=1, width=12,
        ),
    ]  # fmt: skip


def _traffic() -> list[Json]:
    part = f"sum by (part) (rate(tombola_request_part_seconds_total{{{WHERE}}}[$__rate_interval]))"
    answered = f'sum(rate(tombola_requests_total{{outcome="ok",{WHERE}}}[$__rate_interval]))'
    return [
        row("Traffic"),
        timeseries(
            "Requests by tenant",
            "The tenants beyond the first fifty share the name `other`.",
            Query(f"sum by (tenant) (rate(tombola_requests_total{{{WHERE}}}[$__rate_interval]))", "{{tenant}}"),
            unit="reqps", is_stacked=True,
        ),
        timeseries(
            "Requests that were not answered, by outcome",
            "cancelled: the client has gone. overloaded, deadline_exceeded, no_worker: load or workers. The rest are "
            "the callers' mistakes (4xx) or faults of ours (internal, inference_failed).",
            Query(
                f'sum by (outcome) (rate(tombola_requests_total{{outcome!="ok",{WHERE}}}[$__rate_interval]))',
                "{{outcome}}",
            ),
            Query(f"sum(rate(tombola_requests_unseen_total{{{WHERE}}}[$__rate_interval]))", "refused unseen"),
            unit="reqps", is_stacked=True,
        ),
        timeseries(
            "Where an answer's time goes, on average",
            "admission: parsing and routing. queue: waiting at the worker. tokenize and run: its batch. hop: between "
            "the processes, and what was tried before.",
            Query(f"{part} / on () group_left () {answered}", "{{part}}"),
            unit="s", is_stacked=True,
        ),
    ]  # fmt: skip


def _capacity() -> list[Json]:
    return [
        row("Capacity"),
        timeseries(
            "Workers busy",
            "The part of the time that each worker runs batches. Above 85 % there is nothing left for a peak.",
            Query(
                f"sum by (process) (rate(tombola_worker_busy_seconds_total{{{WHERE}}}[$__rate_interval]))",
                "{{process}}",
            ),
            unit="percentunit", limits=thresholds((0.85, RED)), most=1, width=6,
        ),
        timeseries(
            "Predicted wait of work that arrives now",
            "At each worker. Routing goes where it is least, and knows it before it sends.",
            Query(f"max by (process) (tombola_queue_wait_seconds{{{WHERE}}})", "{{process}}"),
            unit="s", limits=thresholds((0.1, RED)), width=6,
        ),
        timeseries(
            "Requests in flight",
            "Accepted and not answered yet, by gateway; beyond the line it refuses with 503 overloaded.",
            Query(f"max by (process) (tombola_requests_in_flight{{{WHERE}}})", "{{process}}"),
            Query(f"min(tombola_requests_in_flight_limit{{{WHERE}}})", "limit", is_line=True),
            is_log=True, width=6,
        ),
        timeseries(
            "Asked a second time, dropped unrun",
            "Retries and hedges to a second worker; asks that left a queue without running, by reason.",
            Query(f"sum(rate(tombola_retries_total{{{WHERE}}}[$__rate_interval]))", "second worker"),
            Query(f"sum by (reason) (rate(tombola_dropped_total{{{WHERE}}}[$__rate_interval]))", "dropped: {{reason}}"),
            unit="reqps", width=6,
        ),
        timeseries(
            "Memory of loaded tickets",
            "By worker, against its budget. Close to the line tickets push each other out.",
            Query(f"max by (process) (tombola_resident_bytes{{{WHERE}}})", "{{process}}"),
            Query(f"min(tombola_resident_limit_bytes{{{WHERE}}})", "budget", is_line=True),
            unit="bytes", width=8,
        ),
        timeseries(
            "Processes answering, and started again",
            "How many gave their metrics; and starts within the last quarter of an hour.",
            Query(f"sum(tombola_up{{{WHERE}}})", "answering"),
            Query(f"sum(changes(tombola_process_start_time_seconds{{{WHERE}}}[15m]))", "started again, 15 min"),
            width=8,
        ),
        timeseries(
            "CPU by process",
            "Cores in use. A gateway near 1 is full: start another.",
            Query(
                f"sum by (process) (rate(tombola_process_cpu_seconds_total{{{WHERE}}}[$__rate_interval]))",
                "{{process}}",
            ),
            limits=thresholds((0.9, RED)), width=8,
        ),
    ]  # fmt: skip


def _control() -> list[Json]:
    trips = f"sum by (le) (rate(tombola_redis_seconds_bucket{{{WHERE}}}[$__rate_interval]))"
    return [
        row("Control plane"),
        timeseries(
            "Redis",
            "Processes that cannot reach it, and how long it has been since a gateway's table was confirmed. Inference "
            "goes on without it; changes wait.",
            Query(f"count(tombola_redis_up{{{WHERE}}} == 0) or vector(0)", "processes without Redis"),
            Query(f"max(tombola_table_stale_seconds{{{WHERE}}})", "table unconfirmed, s"),
            width=6,
        ),
        timeseries(
            "Redis, round trip",
            "Of announcing a lease, once a second from every process. No request waits for it.",
            Query(f"histogram_quantile(0.5, {trips})", "p50"),
            Query(f"histogram_quantile(0.99, {trips})", "p99"),
            unit="s", limits=thresholds((0.25, RED)), width=6,
        ),
        timeseries(
            "Table version",
            "Of each gateway: they move together within seconds of a change.",
            Query(f"max by (process) (tombola_table_version{{{WHERE}}})", "{{process}}"),
            width=6,
        ),
        timeseries(
            "Uploads and trials",
            "Registrations by how they ended, and canaries judged, within the last hour.",
            Query(f"sum by (outcome) (increase(tombola_registrations_total{{{WHERE}}}[1h]))", "upload: {{outcome}}"),
            Query(f"sum by (verdict) (increase(tombola_canaries_judged_total{{{WHERE}}}[1h]))", "canary: {{verdict}}"),
            width=6,
        ),
        timeseries(
            "Refused by limits, by tenant",
            "429 rate_limited: a tenant's rate, concurrency or day is used up.",
            Query(
                f"sum by (tenant, limit) (rate(tombola_limit_refusals_total{{{WHERE}}}[$__rate_interval]))",
                "{{tenant}}: {{limit}}",
            ),
            unit="reqps", width=12,
        ),
        timeseries(
            "Tickets in trouble",
            "In quarantine because they crashed workers; loads that failed within a quarter of an hour.",
            Query(f"max(tombola_tickets_quarantined{{{WHERE}}})", "in quarantine"),
            Query(f"sum(increase(tombola_ticket_load_failures_total{{{WHERE}}}[15m]))", "failed loads, 15 min"),
            limits=thresholds((1, RED)), width=12,
        ),
    ]  # fmt: skip
