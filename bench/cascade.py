"""Cascades on CLINC150: accuracy and mean cost beside always asking one ticket, in one run.

Thresholds come from the validation split, as `tombola cascade` sets them; everything shown is of the
test split: its in-scope texts of the domain and the data's out-of-scope queries, at validation's mix of
the two. Costs are milliseconds of one core per text, tokenizing included, alone and in batches of 16,
timed in turns in this run. One cascade per domain is also asked over HTTP (`bench.served_cascade`).
Needs the data: TOMBOLA_BENCH_DATA names the file.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.dense import dense_ticket
from bench.family import DATA_VARIABLE, STARTER
from bench.served_cascade import ask_cascade
from tickets import bundle as bundles
from tickets.cascade import GRID, CascadeError, Outcomes, Within, find_threshold, mean_cost, measure
from tickets.factory.cascade import Pair, answers, counted, outcomes
from tickets.factory.data import DomainData, build
from tickets.factory.formats import load_rows
from tickets.reference import Reference

DOMAINS = ("banking", "travel")
TICKETS = ("fast", "accurate")
POINTS = (1.0, 2.0)
PLOT = Path("bench/out/cascade.png")
COLUMNS = (
    "domain", "policy", "accuracy", "in scope: kept and right", "out of scope: found", "answered by small",
    "ms per text, alone", "in batches of 16",
)  # fmt: skip
TURNS = 5
TURN_SECONDS = 0.4
BATCH_TEXTS = 16


def measure_cascades(announce: Callable[[str], None]) -> dict[str, Any]:
    """Every domain's tickets alone and in cascades; draws PLOT."""
    data = os.environ.get(DATA_VARIABLE)
    if not data:
        announce(f"cascade: not measured ({DATA_VARIABLE} names no data file)")
        return {}
    rows = load_rows(Path(data))
    out = {domain: _domain(build(rows, domain, 0), announce) for domain in DOMAINS}
    draw(out, PLOT)
    return out


def _domain(data: DomainData, announce: Callable[[str], None]) -> dict[str, Any]:
    announce(f"cascade: {data.domain}")
    references = {name: Reference(bundles.read(STARTER / f"{data.domain}-{name}.ticket")) for name in TICKETS}
    dense = dense_ticket(references["accurate"].bundle, service_ms=1.0, data=data)
    if dense.is_trained:
        references["dense"] = Reference(dense.bundle)
    else:
        announce("cascade: no trained dense parent here (.runs): only the starter's own tickets")
    validation, test = counted(data.validation), counted(data.test)
    said = {
        name: (answers(reference, validation, data.labels), answers(reference, test, data.labels))
        for name, reference in references.items()
    }
    costs = _costs(references, test.of_kind("in").texts)
    mix = validation.kinds.count("in") / len(validation.kinds)
    report: dict[str, Any] = {
        "in_scope_share": mix, "costs_ms": costs, "single": {}, "cascades": [], "curves": {},
        "texts": {"validation": _counts(validation.kinds), "test": _counts(test.kinds)},
    }  # fmt: skip
    for name, (_, on_test) in said.items():
        alone = outcomes(on_test, on_test, test)
        report["single"][name] = _row(alone, 0.0, mix, costs[name], costs[name])
    for small, large in combinations(references, 2):
        before, after = (outcomes(said[small][i], said[large][i], e) for i, e in enumerate((validation, test)))
        report["cascades"] += [_cascade(small, large, p, before, after, mix, costs) for p in POINTS]
        report["curves"][f"{small} -> {large}"] = [_row(after, t, mix, costs[small], costs[large]) for t in GRID[::20]]
    found = next((c for c in reversed(report["cascades"]) if c["small"] == TICKETS[0] and "threshold" in c), None)
    if found is not None:
        announce(f"cascade: {data.domain} over HTTP, {found['small']} -> {found['large']}")
        pair = Pair(references[found["small"]], references[found["large"]])
        report["served"] = {"pair": [found["small"], found["large"]], "offline": found} | asdict(
            ask_cascade(pair, found["threshold"], test, data.labels, mix)
        )
    return report


def _cascade(
    small: str, large: str, points: float, validation: Outcomes, test: Outcomes, mix: float, costs: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    named: dict[str, Any] = {"small": small, "large": large, "within_points": points}
    try:
        threshold = find_threshold(validation, Within(points))
    except CascadeError as error:
        return named | {"refused": str(error)}
    lost = 100 * (measure(test, math.inf, mix).accuracy - measure(test, threshold.value, mix).accuracy)
    row = _row(test, threshold.value, mix, costs[small], costs[large])
    return named | row | {"threshold": threshold.value, "points_shown": threshold.shown, "points_lost_on_test": lost}


def _row(
    test: Outcomes, threshold: float, mix: float, small: Mapping[str, float], large: Mapping[str, float]
) -> dict[str, Any]:
    found = measure(test, threshold, mix)
    return {
        "accuracy": found.accuracy, "in_scope_right": found.in_scope_right,
        "out_of_scope_found": found.out_of_scope_found, "answered_by_small": found.answered_by_small,
        "cost_ms": {size: mean_cost(small[size], large[size], found.answered_by_small) for size in small},
    }  # fmt: skip


def _counts(kinds: Sequence[str]) -> dict[str, int]:
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _costs(references: Mapping[str, Reference], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Milliseconds per text by ticket and batch size: the median of turns."""
    found: dict[str, dict[str, list[float]]] = {name: {"1": [], "16": []} for name in references}
    for turn in range(TURNS):
        for name, reference in references.items():
            for size, turns in found[name].items():
                turns.append(_ms_per_text(reference, texts, int(size), turn))
    return {name: {size: statistics.median(turns) for size, turns in sizes.items()} for name, sizes in found.items()}


def _ms_per_text(reference: Reference, texts: Sequence[str], size: int, turn: int) -> float:
    start, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < TURN_SECONDS:
        at = (turn * 37 + done) % (len(texts) - size)
        reference.run(reference.tokens(texts[at : at + size]))
        done += size
    return 1000 * elapsed / done


def table(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows for people, under COLUMNS."""
    rows: list[tuple[str, ...]] = []
    for domain, report in results.items():
        named = [(f"always {name}", row) for name, row in report["single"].items()]
        named += [
            (f"{c['small']} -> {c['large']}, within {c['within_points']:g}", c) for c in report["cascades"]
        ]  # fmt: skip
        if "served" in report:
            served = report["served"]
            named.append(
                (f"over HTTP: {' -> '.join(served['pair'])}", served | {"cost_ms": served["offline"]["cost_ms"]})
            )
        for name, row in named:
            if "refused" in row:
                rows.append((domain, name, row["refused"], "", "", "", "", ""))
                continue
            shares = (row[key] for key in ("accuracy", "in_scope_right", "out_of_scope_found", "answered_by_small"))
            costs = (f"{row['cost_ms'][size]:.3f}" for size in ("1", "16"))
            rows.append((domain, name, *(f"{share:.2%}" for share in shares), *costs))
    return rows


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Accuracy over mean cost of a lone text, one panel per domain."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(results), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(results), squeeze=False)[0]
    for axis, (domain, report) in zip(axes, results.items(), strict=True):
        for pair, curve in report["curves"].items():
            axis.plot([r["cost_ms"]["1"] for r in curve], [100 * r["accuracy"] for r in curve], label=pair, alpha=0.6)
        for name, row in report["single"].items():
            axis.plot(row["cost_ms"]["1"], 100 * row["accuracy"], "ks")
            axis.annotate(f"always {name}", (row["cost_ms"]["1"], 100 * row["accuracy"]), fontsize=8)
        for row in report["cascades"]:
            if "refused" not in row:
                axis.plot(row["cost_ms"]["1"], 100 * row["accuracy"], "o", markersize=7, fillstyle="none", color="red")
        axis.set(title=domain, xlabel="ms per text, one core", ylabel="accuracy on test texts, %", xscale="log")
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize=8, loc="lower right")
    figure.suptitle("Cascades (circles: thresholds set on validation texts; lines: every threshold)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
