"""A noisy neighbour: tenant B's steady requests while tenant A floods the only worker.

Both ask for the same ticket, the dense parent in fp32, so that the worker is what they share. B sends 100
requests/s. It is measured alone; while A sends ten times its half of the worker's capacity; and the
same without fairness: B's requests then carry A's key, so that they belong to the tenant that floods
and nothing tells them apart. All in one run. A request without an answer counts as later than any.
"""

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.dense import dense_ticket
from bench.family import STARTER
from bench.overload import DENSE_MS
from bench.up import FOREVER_MS, Customer, Serving, report_of, saturate, serving, start_load
from loadtest.record import read_raw
from loadtest.report import strict_percentile_ms
from tickets import bundle as bundles

B_PER_S = 100.0
FLOOD = 10.0
DEADLINE_MS = 250.0
"""Of both tenants: long enough that lateness shows as latency before it shows as refusals."""
SECONDS = 12.0
WARMUP_S = 3.0
CASES: tuple[tuple[str, bool, str], ...] = (("alone", False, ""), ("fair", True, ""), ("not fair", True, "a"))
"""Name, whether A floods, and whose key B uses if not its own."""
COLUMNS = (
    "case", "B: answered, p50 / p99 ms", "B: p99 of all", "B: answered", "A: answered/s of sent/s",
)  # fmt: skip


def measure_neighbour(announce: Callable[[str], None], *, seconds: float = SECONDS) -> dict[str, Any]:
    """B's latency and answers in each of CASES, and what A got meanwhile."""
    dense = dense_ticket(bundles.read(STARTER / "banking-accurate.ticket"), service_ms=DENSE_MS).bundle
    customers = {
        "capacity": Customer([dense], FOREVER_MS),
        "a": Customer([dense], DEADLINE_MS),
        "b": Customer([dense], DEADLINE_MS),
    }
    with tempfile.TemporaryDirectory() as name, serving(Path(name), customers) as tombola:
        announce("neighbour: capacity")
        capacity = saturate(tombola, "capacity", seconds=seconds / 2)
        flood = FLOOD * capacity / 2
        out: dict[str, Any] = {"capacity_per_s": capacity, "b_per_s": B_PER_S, "a_per_s": flood, "cases": {}}
        for case, is_flooded, key in CASES:
            announce(f"neighbour: B, {case}")
            out["cases"][case] = _case(tombola, Path(name), flood if is_flooded else 0.0, key, seconds)
    return out


def _case(tombola: Serving, folder: Path, flood: float, key: str, seconds: float) -> dict[str, Any]:
    stem = f"{flood:.0f}-{key}"
    a, b = folder / f"a-{stem}.json", folder / f"b-{stem}.json"
    # The flood begins before B's measured part and ends after it.
    common = ("--timeout", "5", "--max-lateness-ms", "10")
    flooding = start_load(
        tombola, "a", a, "--rate", f"{flood:.0f}", "--duration", f"{seconds + WARMUP_S:g}", "--warmup", "0", *common
    ) if flood else None  # fmt: skip
    steady = start_load(
        tombola, "b", b, "--rate", f"{B_PER_S:g}", "--duration", f"{seconds:g}", "--warmup", f"{WARMUP_S:g}",
        "--seed", "1", *common, as_tenant=key,
    )  # fmt: skip
    found = {"b": _figures(report_of(steady, b), b)}
    if flooding is not None:
        found["a"] = _figures(report_of(flooding, a), a)
    return found


def _figures(step: dict[str, Any], report: Path) -> dict[str, Any]:
    total = step["total"]
    _, records = read_raw(report.with_suffix(".jsonl"))
    counted = [record for record in records if not record.warmup]
    p99 = strict_percentile_ms(counted, 0.99)
    return {
        "requests": total["requests"], "answered": total["good"] / total["requests"],
        "answered_per_s": total["answered_per_s"],
        "p50_ms": total["from_intended"]["p50_ms"], "p99_ms": total["from_intended"]["p99_ms"],
        "strict_p99_ms": None if math.isinf(p99) else p99,
        "errors": total["errors"], "valid": step["verdict"]["valid"],
    }  # fmt: skip


def table(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows for people, under COLUMNS."""
    rows: list[tuple[str, ...]] = []
    for case, found in results["cases"].items():
        b, a = found["b"], found.get("a")
        strict = b["strict_p99_ms"]
        rows.append((
            case, " / ".join("-" if b[p] is None else f"{b[p]:.1f}" for p in ("p50_ms", "p99_ms")),
            "no answer" if strict is None else f"{strict:.1f}", f"{b['answered']:.1%}",
            f"{a['answered_per_s']:.0f} of {results['a_per_s']:.0f}" if a else "",
        ))  # fmt: skip
    return rows
