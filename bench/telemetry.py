"""What accounting costs the hot path: microseconds of CPU per answered request in a gateway, per batch in a worker.

The metrics' own calls, each the quickest of a few rounds, with everything set that a request can have. Runs in
seconds, in this process: `python -m bench.telemetry`.
"""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from server.task import CHOICE, CONFIDENCE, IN_SCOPE, Columns, FixedColumn
from server.telemetry import GatewayMetrics
from server.worker_metrics import WorkerMetrics

TICKET = "ab" * 32
CALLS, ROUNDS = 20_000, 7
BATCHES = (1, 8, 32)


def cost_us(call: Callable[[], object], calls: int = CALLS) -> float:
    """Microseconds of one call."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - began) / calls)
    return best * 1e6


def gateway_us() -> float:
    """A request that is answered: `record` and `predicted`."""
    metrics = GatewayMetrics(CollectorRegistry())

    def account() -> None:
        metrics.predicted(TICKET, 10.0, 12.0)
        metrics.record(
            tenant="acme", domain="banking", tier="fast", outcome="ok", total_s=0.011, queue_s=0.002, run_s=0.004,
            met_sla=True, ticket=TICKET, step=0, reason="best", admission_s=0.0005, tokenize_s=0.001,
        )  # fmt: skip

    return cost_us(account)


def worker_us(rows: int) -> tuple[float, float]:
    """A batch of so many asks of one row: on the run thread, and on the loop, where its answers are counted."""
    metrics = WorkerMetrics(CollectorRegistry())
    queue_s = [0.001] * rows
    columns = Columns({
        CONFIDENCE: FixedColumn(datatype="FP32", row_shape=[], row_bytes=4, data=b"\0\0\x40\x3f" * rows),
        IN_SCOPE: FixedColumn(datatype="BOOL", row_shape=[], row_bytes=1, data=b"\1" * rows),
        CHOICE: FixedColumn(datatype="INT32", row_shape=[], row_bytes=4, data=b"\0\0\0\0" * rows),
    })  # fmt: skip

    def run() -> None:
        metrics.batch(ticket=TICKET, texts=rows, queue_s=queue_s, run_s=0.004, ratio=1.0, tokenize_s=0.001)
        metrics.answers.note(TICKET, columns)

    def beat() -> None:  # a quarter of a second's, at 1,000 batches a second
        for _ in range(250):
            metrics.answers.note(TICKET, columns)
        metrics.answers.count()

    return cost_us(run), cost_us(beat, 50) / 250


if __name__ == "__main__":
    print(f"gateway, an answered request: {gateway_us():.2f} us")
    for rows in BATCHES:
        run_us, count_us = worker_us(rows)
        print(f"worker, a batch of {rows}: {run_us:.2f} us on the run thread, {count_us:.2f} us on the loop")
