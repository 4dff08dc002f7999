"""How many series a node's page has for 50 tenants with 10 tickets each, what it weighs, and what looking costs.

Two gateways and two workers' own metrics, told of every tenant, tier, ticket and step there can be, are dumped and
merged as a scrape does it. `python -m bench.series` prints a table; nothing is started, so it takes seconds. The second
case is twice as large, which the bounds must flatten.
"""

import re
import time
from collections import Counter
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from routing.cost import Cost
from server.drift import BASELINE_ROWS, WINDOW_ROWS
from server.exposition import dump, merge, merging
from server.task import CHOICE, CONFIDENCE, IN_SCOPE, Columns, FixedColumn
from server.telemetry import GatewayMetrics
from server.worker_metrics import WorkerMetrics

TIERS = ("fast", "balanced", "accurate")
OUTCOMES = ("ok", "overloaded", "deadline_exceeded")
PROCESSES = 2
"""Gateways, and workers."""
REPEATS = 5
_SUFFIX = re.compile("_(bucket|count|sum)$")


def ticket_id(tenant: int, number: int) -> str:
    """A name of 64 digits whose first 12 are its own."""
    return f"{tenant:06x}{number:06x}".ljust(64, "0")


def gateway(tenants: int, tickets: int) -> CollectorRegistry:
    """The metrics of a gateway that has served everybody everything."""
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for tenant in range(tenants):
        for place, tier in enumerate(TIERS):
            for outcome in OUTCOMES:
                metrics.record(tenant=f"tenant-{tenant}", domain="banking", tier=tier, outcome=outcome, total_s=0.01)
            for number in range(tickets):
                ticket = ticket_id(tenant, number)
                metrics.record(
                    tenant=f"tenant-{tenant}", domain="banking", tier=tier, outcome="ok", total_s=0.01, queue_s=0.001,
                    run_s=0.002, met_sla=True, ticket=ticket, step=(number + place) % 3,
                    reason="best" if number % 2 else "late", admission_s=0.001,
                )  # fmt: skip
                metrics.predicted(ticket, 5.0, 6.0)
        metrics.control.registered(f"tenant-{tenant}", "registered")
        metrics.control.limited(f"tenant-{tenant}", "rate")
    return registry


def worker(tenants: int, tickets: int) -> CollectorRegistry:
    """The metrics of a worker that holds and has run every ticket, long enough for drift."""
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    rows = BASELINE_ROWS + WINDOW_ROWS
    columns = Columns({
        CONFIDENCE: FixedColumn(datatype="FP32", row_shape=[], row_bytes=4, data=b"\0\0\0\x3f" * (rows // 3)),
        IN_SCOPE: FixedColumn(datatype="BOOL", row_shape=[], row_bytes=1, data=b"\1" * (rows // 3)),
        CHOICE: FixedColumn(datatype="INT32", row_shape=[], row_bytes=4, data=b"\0\0\0\0" * (rows // 3)),
    })  # fmt: skip
    for tenant in range(tenants):
        for number in range(tickets):
            ticket = ticket_id(tenant, number)
            metrics.loaded(ticket=ticket, resident_bytes=2_000_000, seconds=0.05)
            metrics.costs(ticket, Cost(1.0, 0.5, 0.1, 0.1))
            metrics.batch(ticket=ticket, texts=8, queue_s=[0.001], run_s=0.004, ratio=1.0, tokenize_s=0.001)
            metrics.dropped("deadline_exceeded", 1, ticket=ticket)
            for _ in range(3):
                metrics.answers.note(ticket, columns)
    metrics.answers.count()
    return registry


def best_ms(work: Callable[[], object]) -> float:
    """Milliseconds of the quickest of a few."""
    took = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        took.append((time.process_time() - began) * 1000)
    return min(took)


def longest_piece_ms(dumps: dict[str, bytes]) -> float:
    """Milliseconds of the page's longest piece: for so long a gateway attends to nothing else. The best of a few."""
    found = []
    for _ in range(REPEATS):
        pieces, longest, is_over = merging(dumps), 0.0, False
        while not is_over:
            began = time.process_time()
            is_over = next(pieces, None) is None
            longest = max(longest, (time.process_time() - began) * 1000)
        found.append(longest)
    return min(found)


def measure(tenants: int, tickets: int) -> tuple[Counter[str], str]:
    """Series of the page by family, and what it weighs and costs, in words."""
    gateways = [gateway(tenants, tickets) for _ in range(PROCESSES)]
    workers = [worker(tenants, tickets) for _ in range(PROCESSES)]
    dumps = {f"gateway-{i}": dump(registry) for i, registry in enumerate(gateways)}
    dumps |= {f"worker-{i}": dump(registry) for i, registry in enumerate(workers)}
    page = merge(dumps)
    series = Counter(
        _SUFFIX.sub("", line.partition("{")[0]) for line in page.decode().splitlines() if not line.startswith("#")
    )
    gateway_ms, worker_ms = best_ms(lambda: dump(gateways[0])), best_ms(lambda: dump(workers[0]))
    return series, (
        f"{series.total()} series, {len(page) / 1e6:.2f} MB; CPU: dump of a gateway {gateway_ms:.0f} ms, "
        f"of a worker {worker_ms:.0f} ms, merge of all {best_ms(lambda: merge(dumps)):.0f} ms, "
        f"its longest piece {longest_piece_ms(dumps):.0f} ms"
    )


if __name__ == "__main__":
    for tenants, tickets in ((50, 10), (100, 20)):
        series, cost = measure(tenants, tickets)
        print(f"{tenants} tenants x {tickets} tickets, {PROCESSES} gateways, {PROCESSES} workers: {cost}")
        for name, count in series.most_common(12):
            print(f"  {count:6}  {name}")
