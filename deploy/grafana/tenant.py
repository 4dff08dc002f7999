"""The dashboard of a tenant: is its promise kept, where does its time go, which tickets answer it, what was refused?

The tenant's domains and tiers can be looked at one by one. Every alert that names a tenant leads here.
"""

from deploy.grafana.fleet import BURN, KEPT
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
    thresholds,
    timeseries,
    variable,
)

TENANT = f'tenant=~"$tenant",{WHERE}'
WHO = f'tenant=~"$tenant",domain=~"$domain",tier=~"$tier",{WHERE}'
_LEGEND = "{{tenant}} {{domain}}/{{tier}}"


def tenant() -> Json:
    """The dashboard `tombola-tenant`."""
    return dashboard(
        "tenant",
        "Tombola: tenant",
        "Is the tenant's promise kept, where does its time go, which tickets answer it, what was refused?",
        [
            variable("tenant", "Tenant", f"label_values(tombola_requests_total{{{WHERE}}}, tenant)"),
            variable("domain", "Domain", f"label_values(tombola_requests_total{{{TENANT}}}, domain)"),
            variable("tier", "Tier", f"label_values(tombola_requests_total{{{TENANT}}}, tier)"),
        ],
        [*_promise(), *_latency(), *_answers(), *_refusals()],
    )


def _promise() -> list[Json]:
    def kept(window: str) -> Json:
        return stat(
            f"Kept, {window}",
            f"The part of its requests that met their deadline in the last {window}: the worst of what is chosen.",
            Query(f"min(tier:tombola_sla:attainment{window}{{{WHO}}})"),
            unit="percentunit", limits=KEPT, decimals=2,
        )  # fmt: skip

    return [
        kept("5m"),
        kept("1h"),
        kept("1d"),
        kept("3d"),
        stat(
            "Burn, 1h",
            "How many times faster than allowed the error budget goes: the worst of what is chosen.",
            Query(f"max(tier:tombola_sla:burn1h{{{WHO}}})"),
            limits=BURN, decimals=1,
        ),
        stat(
            "Budget left of 3 days",
            "Of the misses that three days allow. Below zero the promise is broken over these days.",
            Query(f"1 - max(tier:tombola_sla:burn3d{{{WHO}}})"),
            unit="percentunit", limits=thresholds((0, YELLOW), (0.25, GREEN), base=RED), decimals=0,
        ),
        timeseries(
            "Error budget burn",
            "Over an hour and over six. 14.4 over an hour, or 6 over six hours, wakes somebody.",
            Query(f"tier:tombola_sla:burn1h{{{WHO}}}", f"1h {_LEGEND}"),
            Query(f"tier:tombola_sla:burn6h{{{WHO}}}", f"6h {_LEGEND}"),
            limits=thresholds((1, YELLOW), (14.4, RED)), width=12,
        ),
        timeseries(
            "Missed promises",
            "Requests a second that were answered too late, or not at all by our fault.",
            Query(
                "sum by (tenant, domain, tier) "
                f'(rate(tombola_sla_total{{result="missed",{WHO}}}[$__rate_interval]))',
                _LEGEND,
            ),
            unit="reqps", width=12,
        ),
    ]  # fmt: skip


def _latency() -> list[Json]:
    def quantile(q: float) -> Query:
        buckets = f"sum by (le) (rate(tombola_request_seconds_bucket{{{WHO}}}[$__rate_interval]))"
        return Query(f"histogram_quantile({q}, {buckets})", f"p{q * 100:g}")

    part = f"sum by (part) (rate(tombola_request_part_seconds_total{{{WHO}}}[$__rate_interval]))"
    answered = f'sum(rate(tombola_requests_total{{outcome="ok",{WHO}}}[$__rate_interval]))'
    return [
        row("Latency"),
        timeseries(
            "From arrival to answer, against the deadline",
            "At the gateway, whatever the outcome. Choose one domain and one tier, so that one deadline is meant.",
            quantile(0.5), quantile(0.95), quantile(0.99),
            Query(f"min(tombola_sla_deadline_seconds{{{WHO}}})", "deadline", is_line=True),
            unit="s",
        ),
        timeseries(
            "Where an answer's time goes, on average",
            "admission: parsing and routing. queue: waiting at the worker. tokenize and run: its batch. hop: between "
            "the processes, and what was tried before.",
            Query(f"{part} / on () group_left () {answered}", "{{part}}"),
            unit="s", is_stacked=True,
        ),
        timeseries(
            "Waiting at the worker, p99",
            "From the request's arrival at its worker to the start of its batch: what other work costs this tenant.",
            Query(f"tier:tombola_request_queue_seconds:p99_5m{{{WHO}}}", _LEGEND),
            unit="s",
        ),
    ]  # fmt: skip


def _answers() -> list[Json]:
    return [
        row("Who answers"),
        timeseries(
            "Answers by ticket",
            "Which tickets of the family answer, by the first digits of their ids.",
            Query(f"sum by (ticket) (rate(tombola_answers_total{{{WHO}}}[$__rate_interval]))", "{{ticket}}"),
            unit="reqps", is_stacked=True,
        ),
        timeseries(
            "Answers by step and reason",
            "Step 0 is the best that may answer. late: the better one would miss the deadline. load: it is more than "
            "the workers can carry. cold: in no worker's memory. lost: it could not be loaded.",
            Query(
                f"sum by (step, reason) (rate(tombola_route_steps_total{{{WHO}}}[$__rate_interval]))",
                "step {{step}}: {{reason}}",
            ),
            unit="reqps", is_stacked=True,
        ),
        timeseries(
            "Cascades and trials",
            "Rows by the ticket of the cascade whose answer stood; asks of running canaries by side and outcome.",
            Query(
                f'sum by (by) (rate(tombola_cascade_rows_total{{tenant=~"$tenant",domain=~"$domain",{WHERE}}}'
                "[$__rate_interval]))",
                "cascade: {{by}}",
            ),
            Query(
                f'sum by (side, outcome) (rate(tombola_canary_asks_total{{tenant=~"$tenant",domain=~"$domain",{WHERE}}}'
                "[$__rate_interval]))",
                "{{side}}: {{outcome}}",
            ),
            unit="reqps",
        ),
    ]  # fmt: skip


def _refusals() -> list[Json]:
    return [
        row("Requests and refusals"),
        timeseries(
            "Requests by outcome",
            "All requests of what is chosen. Those that named no domain of the tenant stand under the domain `other`.",
            Query(f"sum by (outcome) (rate(tombola_requests_total{{{WHO}}}[$__rate_interval]))", "{{outcome}}"),
            unit="reqps", is_stacked=True,
        ),
        timeseries(
            "Refused by limits",
            "429 rate_limited, by the limit that was used up: rate, concurrency or the day's requests.",
            Query(
                f"sum by (limit) (rate(tombola_limit_refusals_total{{{TENANT}}}[$__rate_interval]))", "{{limit}}"
            ),
            unit="reqps",
        ),
        timeseries(
            "Uploads within an hour, by how they ended",
            "registered, known (it was there already), or the gate's reason to refuse.",
            Query(f"sum by (outcome) (increase(tombola_registrations_total{{{TENANT}}}[1h]))", "{{outcome}}"),
        ),
    ]  # fmt: skip
