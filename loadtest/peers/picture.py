"""The results as one picture: p99 by rate, good answers in time by rate, and the headline bars.

Needs matplotlib, as `loadtest.plot` does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.peers.results import Point, Result, median, over_turns, point_at, saturated_at
from loadtest.plot import figure_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Style = tuple[str, str]


def draw(results: Sequence[Result], bare: Result, limit_ms: float, path: Path) -> None:
    """Write the picture. Raises `loadtest.plot.PlotUnavailable`, OSError and ValueError."""
    measured = [result for result in results if result.turns]
    figure = figure_class()(figsize=(17, 5.2), layout="constrained")
    late, good, bars = figure.subplots(1, 3)
    for number, result in enumerate(measured):
        colour = f"C{number % 10}"
        p99 = [(rate, value) for rate, points in _by_rate(result) if (value := median(p.p99_ms for p in points))]
        goodput = [(rate, median(p.goodput_per_s for p in points) or 0.0) for rate, points in _by_rate(result)]
        for axes, curve in ((late, p99), (good, goodput)):
            axes.plot(
                [x for x, _ in curve], [y for _, y in curve], "o-", color=colour, markersize=3, label=result.title,
                linewidth=2.4 if result.name.startswith("tombola") else 1.2,
            )  # fmt: skip
    _finish_late(late, limit_ms)
    good.set_xlabel("requests/s asked for (Poisson)")
    good.set_ylabel(f"good answers within {limit_ms:g} ms, per second")
    good.grid(alpha=0.3)
    _bars(bars, measured, bare, limit_ms)
    figure.savefig(path, dpi=130)


def _by_rate(result: Result) -> list[tuple[float, list[Point]]]:
    rates = sorted({point.rate_per_s for turn in result.turns for point in turn.points})
    return [(rate, [point for turn in result.turns if (point := point_at(turn, rate))]) for rate in rates]


def _finish_late(axes: "Axes", limit_ms: float) -> None:
    axes.axhline(limit_ms, color="black", linestyle=":", label=f"{limit_ms:g} ms")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("requests/s asked for (Poisson)")
    axes.set_ylabel("p99 from the intended time, ms")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _bars(axes: "Axes", results: Sequence[Result], bare: Result, limit_ms: float) -> None:
    """Saturated and best rate side by side, and the bare loop as a line."""
    names = [result.title for result in results]
    places = list(range(len(results)))
    most = max((s.closed.connections for r in results for t in r.turns for s in t.saturated), default=0)
    saturated = [
        over_turns(r, lambda turn: found.closed.per_s if (found := saturated_at(turn, most)) else None) for r in results
    ]
    best = [over_turns(result, lambda turn: turn.best_per_s) for result in results]
    axes.barh([y - 0.2 for y in places], [v or 0.0 for v in saturated], 0.38, label=f"saturated, {most} connections")
    axes.barh([y + 0.2 for y in places], [v or 0.0 for v in best], 0.38, label=f"best rate with p99 ≤ {limit_ms:g} ms")
    if (bare_per_s := median(turn.grouped_per_s for turn in bare.bare)) is not None:
        axes.axvline(bare_per_s, color="black", linestyle="--", label="bare loop, no server")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel("requests/s")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize="small")
