"""What gateway and hop add to an answer at low load: Tombola beside the same ticket called in a process.

Both get the same texts at the same seeded times, 50 a second, in turns in one run. The direct caller
tokenizes and runs in one process and is idle in between, as Tombola's processes are: caches
and clocks are as cold for both. Tombola's latency is that of its client, from the moment the request was written,
so the client's own HTTP counts as added, too.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.family import STARTER
from bench.up import Customer, report_of, serving, start_load
from loadtest.report import latency
from loadtest.schedule import Step, arrivals
from loadtest.sentences import BANKING
from tickets import bundle as bundles
from tickets.reference import Reference

RATE_PER_S = 50.0
TURNS = 3
SECONDS = 12.0
WARMUP_S = 2.0
TIERS = ("accurate", "fast")
COLUMNS = (
    "ticket", "direct, p50 / p99 ms", "through Tombola", "added", "of it between gateway and run, p50 ms",
)  # fmt: skip


def measure_hop(announce: Callable[[str], None], *, turns: int = TURNS, seconds: float = SECONDS) -> dict[str, Any]:
    """Per ticket and turn: p50 and p99 direct and through Tombola, and what was added."""
    tickets = {tier: bundles.read(STARTER / f"banking-{tier}.ticket") for tier in TIERS}
    customers = {tier: Customer([ticket], deadline_ms=1000.0) for tier, ticket in tickets.items()}
    out: dict[str, Any] = {"rate_per_s": RATE_PER_S, "turns": {}, "added_ms": {}}
    with tempfile.TemporaryDirectory() as name, serving(Path(name), customers) as tombola:
        for tier, ticket in tickets.items():
            reference, measured = Reference(ticket), []
            for turn in range(turns):
                announce(f"hop: {tier}, turn {turn + 1} of {turns}")
                report = Path(name) / f"{tier}-{turn}.json"
                load = start_load(
                    tombola, tier, report, "--rate", f"{RATE_PER_S:g}", "--duration", f"{seconds:g}",
                    "--warmup", f"{WARMUP_S:g}", "--seed", str(turn),
                )  # fmt: skip
                through = report_of(load, report)
                measured.append(_turn(_direct(reference, BANKING, seconds, turn), through))
            out["turns"][tier] = measured
            out["added_ms"][tier] = {
                key: _spread([t[f"added_{key}"] for t in measured]) for key in ("p50_ms", "p99_ms")
            }
    return out


def _direct(reference: Reference, texts: Sequence[str], seconds: float, seed: int) -> list[float]:
    """Seconds that each call took, made at the times at which the load test sends."""
    step = Step(rate_per_s=RATE_PER_S, duration_s=seconds, warmup_s=WARMUP_S)
    start, took = time.perf_counter(), []
    for due_s, text in zip(arrivals(step, "poisson", f"{seed}/0"), itertools.cycle(texts), strict=False):
        time.sleep(max(0.0, start + due_s - time.perf_counter()))
        begin = time.perf_counter()
        reference.classify([text])
        if due_s >= WARMUP_S:
            took.append(time.perf_counter() - begin)
    return took


def _turn(direct: Sequence[float], through: dict[str, Any]) -> dict[str, float]:
    total, alone = through["total"], latency(direct)
    assert not total["errors"], total["errors"]
    assert alone.p50_ms is not None
    assert alone.p99_ms is not None
    sent, server, run = total["from_send"], total["server_total"], total["server_run"]
    return {
        "direct_p50_ms": alone.p50_ms, "direct_p99_ms": alone.p99_ms,
        "through_p50_ms": sent["p50_ms"], "through_p99_ms": sent["p99_ms"],
        "in_gateway_p50_ms": server["p50_ms"], "run_p50_ms": run["p50_ms"],
        "added_p50_ms": sent["p50_ms"] - alone.p50_ms, "added_p99_ms": sent["p99_ms"] - alone.p99_ms,
    }  # fmt: skip


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows for people, under COLUMNS: one per turn."""
    rows: list[tuple[str, ...]] = []
    for tier, turns in results["turns"].items():
        for t in turns:
            pairs = [(f"{kind}_p50_ms", f"{kind}_p99_ms") for kind in ("direct", "through", "added")]
            rows.append((
                tier, *(f"{t[a]:.2f} / {t[b]:.2f}" for a, b in pairs),
                f"{t['in_gateway_p50_ms'] - t['run_p50_ms']:.2f}",
            ))  # fmt: skip
    return rows
