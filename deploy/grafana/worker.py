"""The dashboard of a worker: is it busy, with what, how long is its queue, what is in its memory?

Worker processes are told apart by their names; all of them together by default.
"""

from deploy.grafana.panels import (
    GREEN,
    RED,
    WHERE,
    YELLOW,
    Json,
    Query,
    dashboard,
    heatmap,
    row,
    stat,
    thresholds,
    timeseries,
    variable,
)

WORKER = f'process=~"$process",{WHERE}'
_RATE = "[$__rate_interval]"


def worker() -> Json:
    """The dashboard `tombola-worker`."""
    return dashboard(
        "worker",
        "Tombola: worker",
        "Is a worker busy, with what, how long is its queue, what is in its memory?",
        [
            variable(
                "process", "Worker", f"label_values(tombola_worker_busy_seconds_total{{{WHERE}}}, process)",
                is_many=True, everything=None,
            )
        ],
        [*_glance(), *_batches(), *_runs(), *_memory(), *_process()],
    )  # fmt: skip


def _glance() -> list[Json]:
    return [
        stat(
            "Busy",
            "The part of the time that it runs batches: the busiest of those chosen.",
            Query(f"max(worker:tombola_worker_busy:ratio_rate5m{{{WORKER}}})"),
            unit="percentunit", limits=thresholds((0.7, YELLOW), (0.85, RED)), decimals=0,
        ),
        stat(
            "Wait",
            "Predicted wait of work that arrives now, at the worker where it is longest.",
            Query(f"max(tombola_queue_wait_seconds{{{WORKER}}})"),
            unit="s", limits=thresholds((0.05, YELLOW), (0.1, RED)),
        ),
        stat(
            "Rows answered",
            "Texts (rows) a second, of those chosen together.",
            Query(f"sum(rate(tombola_texts_total{{{WORKER}}}[5m]))"),
            unit="reqps",
        ),
        stat(
            "Tickets in memory",
            "At the worker that holds most.",
            Query(f"max(tombola_tickets_loaded{{{WORKER}}})"),
        ),
        stat(
            "Memory used",
            "Of the budget for tickets, at the fullest worker.",
            Query(f"max(tombola_resident_bytes{{{WORKER}}} / tombola_resident_limit_bytes{{{WORKER}}})"),
            unit="percentunit", limits=thresholds((0.85, YELLOW), (0.97, RED)), decimals=0,
        ),
        stat(
            "Up since",
            "The youngest of those chosen.",
            Query(f"time() - max(tombola_process_start_time_seconds{{{WORKER}}})"),
            unit="s", limits=thresholds((300, GREEN), base=YELLOW),
        ),
    ]  # fmt: skip


def _batches() -> list[Json]:
    queue = f"sum by (le) (rate(tombola_batch_queue_seconds_bucket{{{WORKER}}}{_RATE}))"
    return [
        row("Batches"),
        timeseries(
            "Busy, by worker",
            "The part of the time that it runs batches.",
            Query(f"sum by (process) (rate(tombola_worker_busy_seconds_total{{{WORKER}}}{_RATE}))", "{{process}}"),
            unit="percentunit", limits=thresholds((0.85, RED)), most=1,
        ),
        timeseries(
            "Busy, by ticket",
            "Seconds of running a second: who uses the workers.",
            Query(f"sum by (ticket) (rate(tombola_batch_run_seconds_sum{{{WORKER}}}{_RATE}))", "{{ticket}}"),
            is_stacked=True,
        ),
        timeseries(
            "Rows waiting for a batch",
            "Beyond the line asks are refused, or push out the newest work of whoever holds most.",
            Query(f"max by (process) (tombola_queue_texts{{{WORKER}}})", "{{process}}"),
            Query(f"min(tombola_queue_texts_limit{{{WORKER}}})", "limit", is_line=True),
            is_log=True,
        ),
        timeseries(
            "Waiting for a batch",
            "From an ask's arrival to the start of its batch, of those chosen together.",
            Query(f"histogram_quantile(0.5, {queue})", "p50"),
            Query(f"histogram_quantile(0.95, {queue})", "p95"),
            Query(f"histogram_quantile(0.99, {queue})", "p99"),
            unit="s",
        ),
        heatmap(
            "Rows in one batch",
            "Batches grow by themselves under load: nobody waits for a batch to fill.",
            Query(f"sum by (le) (rate(tombola_batch_texts_bucket{{{WORKER}}}{_RATE}))", "{{le}}"),
            unit="short",
        ),
        timeseries(
            "Dropped unrun",
            "Asks that left the queue without running: expired, cancelled, hopeless, displaced.",
            Query(f"sum by (reason) (rate(tombola_dropped_total{{{WORKER}}}{_RATE}))", "{{reason}}"),
            unit="reqps", is_stacked=True,
        ),
    ]  # fmt: skip


def _runs() -> list[Json]:
    return [
        timeseries(
            "Batches against their prediction",
            "Half of the batches take less than this multiple of what was predicted.",
            Query(
                "histogram_quantile(0.5, sum by (le, process) "
                f"(rate(tombola_batch_prediction_ratio_bucket{{{WORKER}}}{_RATE})))",
                "{{process}}",
            ),
            limits=thresholds((2, RED)),
        ),
        timeseries(
            "Running a batch, p99 by ticket",
            "Tokenizing and running.",
            Query(
                "histogram_quantile(0.99, sum by (le, ticket) "
                f"(rate(tombola_batch_run_seconds_bucket{{{WORKER}}}{_RATE})))",
                "{{ticket}}",
            ),
            unit="s", is_log=True,
        ),
        timeseries(
            "Of running batches, tokenizing",
            "The part of a worker's time that goes into turning text into tokens.",
            Query(
                f"sum by (process) (rate(tombola_batch_tokenize_seconds_total{{{WORKER}}}{_RATE})) "
                f"/ sum by (process) (rate(tombola_worker_busy_seconds_total{{{WORKER}}}{_RATE}))",
                "{{process}}",
            ),
            unit="percentunit", most=1,
        ),
    ]  # fmt: skip


def _memory() -> list[Json]:
    loads = f"sum by (le) (rate(tombola_ticket_load_seconds_bucket{{{WORKER}}}{_RATE}))"
    return [
        row("Memory"),
        timeseries(
            "Tickets' memory against the budget",
            "What all loaded tickets take; what they share counts once.",
            Query(f"max by (process) (tombola_resident_bytes{{{WORKER}}})", "{{process}}"),
            Query(f"min(tombola_resident_limit_bytes{{{WORKER}}})", "budget", is_line=True),
            unit="bytes", width=6,
        ),
        timeseries(
            "Asks that found their ticket in memory",
            "The others waited for a load, or another ticket answered.",
            Query(
                f'sum by (process) (rate(tombola_cache_lookups_total{{result="hit",{WORKER}}}{_RATE})) '
                f"/ sum by (process) (rate(tombola_cache_lookups_total{{{WORKER}}}{_RATE}))",
                "{{process}}",
            ),
            unit="percentunit", most=1, width=6,
        ),
        timeseries(
            "Loaded and put out, within 15 minutes",
            "room: pushed out by others. Many of these mean that the tickets in use do not fit.",
            Query(f"sum(increase(tombola_ticket_load_seconds_count{{{WORKER}}}[15m]))", "loaded"),
            Query(f"sum(increase(tombola_ticket_load_failures_total{{{WORKER}}}[15m]))", "could not be loaded"),
            Query(f"sum by (reason) (increase(tombola_ticket_unloads_total{{{WORKER}}}[15m]))", "put out: {{reason}}"),
            width=6,
        ),
        timeseries(
            "Loading a ticket",
            "Reading, verifying and opening it.",
            Query(f"histogram_quantile(0.5, {loads})", "p50"),
            Query(f"histogram_quantile(0.99, {loads})", "p99"),
            unit="s", width=6,
        ),
    ]  # fmt: skip


def _process() -> list[Json]:
    return [
        row("Process"),
        timeseries(
            "CPU",
            "Cores in use: about one, when it is busy all the time.",
            Query(f"sum by (process) (rate(tombola_process_cpu_seconds_total{{{WORKER}}}{_RATE}))", "{{process}}"),
            width=6,
        ),
        timeseries(
            "Memory of the process",
            "Resident, all of it: tickets, runtime and Python.",
            Query(f"max by (process) (tombola_process_resident_memory_bytes{{{WORKER}}})", "{{process}}"),
            unit="bytes", width=6,
        ),
        timeseries(
            "Started again within 15 minutes",
            "Three times is a crash loop.",
            Query(f"changes(tombola_process_start_time_seconds{{{WORKER}}}[15m])", "{{process}}"),
            limits=thresholds((3, RED)), width=6,
        ),
        timeseries(
            "File descriptors in use",
            "Connections and open files, as a part of what the process may have.",
            Query(f"tombola_process_open_fds{{{WORKER}}} / tombola_process_max_fds{{{WORKER}}}", "{{process}}"),
            unit="percentunit", limits=thresholds((0.8, RED)), width=6,
        ),
    ]  # fmt: skip
