"""The dashboard of a family: its tickets side by side. What each costs, holds and promises, and whether it drifts.

A family is what answers a tenant's domain; its tickets are told apart by the first digits of their ids.
"""

from deploy.grafana.fleet import KEPT
from deploy.grafana.panels import (
    RED,
    WHERE,
    YELLOW,
    Json,
    Query,
    dashboard,
    row,
    table,
    thresholds,
    timeseries,
    variable,
)

DRIFT = thresholds((0.1, YELLOW), (0.25, RED))
ANSWERS = f'tenant=~"$tenant",domain=~"$domain",ticket=~"$ticket",{WHERE}'
TICKET = f'ticket=~"$ticket",{WHERE}'


def family() -> Json:
    """The dashboard `tombola-family`."""
    asked = f'tombola_answers_total{{tenant=~"$tenant",domain=~"$domain",{WHERE}}}'
    return dashboard(
        "family",
        "Tombola: ticket family",
        "A family's tickets side by side: what each costs, holds and promises, and whether it drifts.",
        [
            variable("tenant", "Tenant", f"label_values(tombola_answers_total{{{WHERE}}}, tenant)"),
            variable(
                "domain", "Domain", f'label_values(tombola_answers_total{{tenant=~"$tenant",{WHERE}}}, domain)'
            ),
            # All means the tickets of this domain, not all there are.
            variable("ticket", "Ticket", f"label_values({asked}, ticket)", is_many=True, everything=None),
        ],
        [*_side_by_side(), *_speed(), *_drift(), *_memory()],
    )  # fmt: skip


def _p99(metric: str) -> str:
    return f"histogram_quantile(0.99, sum by (le, ticket) (rate({metric}_bucket{{{TICKET}}}[5m])))"


def _side_by_side() -> list[Json]:
    def column(expr: str) -> Query:
        return Query(expr, is_instant=True)

    met = f'sum by (ticket) (rate(tombola_ticket_sla_total{{result="met",{TICKET}}}[1h]))'
    out = f'sum by (ticket) (rate(tombola_ticket_rows_total{{scope="out",{TICKET}}}[1h]))'
    return [
        table(
            "Tickets side by side",
            "Answers of the chosen domain; everything else is of the ticket, whoever asked it.",
            {
                "answers/s": (
                    column(f"sum by (ticket) (rate(tombola_answers_total{{{ANSWERS}}}[5m]))"), "reqps", None,
                ),
                "p99": (column(_p99("tombola_ticket_request_seconds")), "s", None),
                "p99 of its runs": (column(_p99("tombola_request_run_seconds")), "s", None),
                "kept 1 h": (
                    column(f"{met} / sum by (ticket) (rate(tombola_ticket_sla_total{{{TICKET}}}[1h]))"),
                    "percentunit", KEPT,
                ),
                "off by": (column(f"ticket:tombola_prediction_error_seconds:mean5m{{{TICKET}}}"), "s", None),
                "drift": (column(f"max by (ticket) (tombola_ticket_drift{{{TICKET}}})"), "short", DRIFT),
                "out of scope": (
                    column(f"{out} / sum by (ticket) (rate(tombola_ticket_rows_total{{{TICKET}}}[1h]))"),
                    "percentunit", None,
                ),
                "memory": (column(f"max by (ticket) (tombola_ticket_resident_bytes{{{TICKET}}})"), "bytes", None),
            },
            labels=("ticket",), sort="answers/s",
        ),
        timeseries(
            "Share of the domain's answers",
            "Which ticket serves how much of the traffic now.",
            Query(
                f"sum by (ticket) (rate(tombola_answers_total{{{ANSWERS}}}[$__rate_interval])) / on () group_left () "
                f"sum(rate(tombola_answers_total{{{ANSWERS}}}[$__rate_interval]))",
                "{{ticket}}",
            ),
            unit="percentunit", is_stacked=True, most=1, width=12,
        ),
        timeseries(
            "Why a lesser ticket answered",
            "Steps down of the chosen domain, by reason; best, pinned, cascade and canary are no loss.",
            Query(
                'sum by (reason) (rate(tombola_route_steps_total{reason=~"late|cold|load|lost",tenant=~"$tenant",'
                f'domain=~"$domain",{WHERE}}}[$__rate_interval]))',
                "{{reason}}",
            ),
            unit="reqps", is_stacked=True, width=12,
        ),
    ]  # fmt: skip


def _speed() -> list[Json]:
    def over_time(metric: str, q: float) -> str:
        buckets = f"sum by (le, ticket) (rate({metric}_bucket{{{TICKET}}}[$__rate_interval]))"
        return f"histogram_quantile({q}, {buckets})"

    return [
        row("Cost and prediction"),
        timeseries(
            "Running a batch",
            "Tokenizing and running, at the workers: half of the batches take less than p50.",
            Query(over_time("tombola_batch_run_seconds", 0.5), "p50 {{ticket}}"),
            Query(over_time("tombola_batch_run_seconds", 0.99), "p99 {{ticket}}"),
            unit="s", is_log=True,
        ),
        timeseries(
            "Time for one row",
            "Workers' time divided by rows answered: what a row costs in the batches that come about.",
            Query(
                f"sum by (ticket) (rate(tombola_batch_run_seconds_sum{{{TICKET}}}[$__rate_interval])) "
                f"/ sum by (ticket) (rate(tombola_texts_total{{{TICKET}}}[$__rate_interval]))",
                "{{ticket}}",
            ),
            unit="s", is_log=True,
        ),
        timeseries(
            "Of running a batch, tokenizing",
            "Where this is much, a faster graph would gain little.",
            Query(
                f"sum by (ticket) (rate(tombola_batch_tokenize_seconds_total{{{TICKET}}}[$__rate_interval])) "
                f"/ sum by (ticket) (rate(tombola_batch_run_seconds_sum{{{TICKET}}}[$__rate_interval]))",
                "{{ticket}}",
            ),
            unit="percentunit", most=1,
        ),
        timeseries(
            "Answers that took twice what was predicted",
            "Routing promises deadlines by its predictions: above a fifth, and 20 ms off, it promises too much.",
            Query(f"ticket:tombola_prediction_twice:ratio_rate5m{{{TICKET}}}", "{{ticket}}"),
            unit="percentunit", limits=thresholds((0.2, RED)), most=1,
        ),
        timeseries(
            "Off by, per answer",
            "Average of |actual - predicted|.",
            Query(f"ticket:tombola_prediction_error_seconds:mean5m{{{TICKET}}}", "{{ticket}}"),
            unit="s", limits=thresholds((0.02, RED)),
        ),
        timeseries(
            "How well workers know their batches",
            "Average of |measured / predicted - 1| of the last batches.",
            Query(f"max by (ticket) (tombola_ticket_cost_spread{{{TICKET}}})", "{{ticket}}"),
            unit="percentunit",
        ),
    ]  # fmt: skip


def _drift() -> list[Json]:
    rows = f"sum by (ticket) (rate(tombola_ticket_rows_total{{{TICKET}}}[$__rate_interval]))"
    return [
        row("Drift"),
        timeseries(
            "Drift against the baseline",
            "Population stability index of about the last 2,000 answers: from 0.1 on worth a look, from 0.25 on the "
            "ticket is not asked what it was made for.",
            Query(f"avg by (ticket, kind) (tombola_ticket_drift{{{TICKET}}})", "{{ticket}} {{kind}}"),
            limits=DRIFT,
        ),
        timeseries(
            "Out of scope",
            "The part of its rows that a ticket says it was not made for.",
            Query(
                f'sum by (ticket) (rate(tombola_ticket_rows_total{{scope="out",{TICKET}}}[$__rate_interval])) / {rows}',
                "{{ticket}}",
            ),
            unit="percentunit", most=1,
        ),
        timeseries(
            "Confidence, on average",
            "How sure a ticket is of its answers, calibrated: about the part that should be right.",
            Query(
                f"sum by (ticket) (rate(tombola_ticket_confidence_sum{{{TICKET}}}[$__rate_interval])) "
                f"/ sum by (ticket) (rate(tombola_ticket_confidence_count{{{TICKET}}}[$__rate_interval]))",
                "{{ticket}}",
            ),
            unit="percentunit", most=1,
        ),
    ]  # fmt: skip


def _memory() -> list[Json]:
    return [
        row("Memory"),
        timeseries(
            "Memory of each ticket",
            "What it takes for itself at the worker where it takes most; what tickets share is not in it.",
            Query(f"max by (ticket) (tombola_ticket_resident_bytes{{{TICKET}}})", "{{ticket}}"),
            unit="bytes", width=12,
        ),
        timeseries(
            "Workers that hold it",
            "A ticket spreads to more workers when those that hold it are too busy.",
            Query(f"count by (ticket) (tombola_ticket_resident_bytes{{{TICKET}}})", "{{ticket}}"),
            width=12,
        ),
    ]  # fmt: skip
