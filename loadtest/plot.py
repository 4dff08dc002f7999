"""A run as a picture: latency by percentile for each tier with its SLA; for a sweep also latency and goodput by rate.

The one file that needs matplotlib (``pip install 'tombola[load]'``), imported only when a plot is asked for.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.record import Record
from loadtest.report import Report, is_timed, percentile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
TICKS = (0.5, 0.9, 0.99, 0.999, 0.9999)


class PlotUnavailable(Exception):
    """matplotlib is not installed."""


def figure_class() -> "type[Figure]":
    """The Figure class. Raises PlotUnavailable with what to install."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotUnavailable("--plot needs matplotlib: pip install 'tombola[load]'") from error
    return Figure


def curves(records: Sequence[Record], step: int) -> dict[str, list[tuple[float, float]]]:
    """For each tier of a step, (share, latency from the intended time in ms), as far as the count supports a share."""
    by_tier: dict[str, list[float]] = {}
    for record in records:
        if record.step == step and not record.warmup and is_timed(record):
            by_tier.setdefault(record.tier, []).append(1000.0 * (record.done_s - record.intended_s))
    found: dict[str, list[tuple[float, float]]] = {}
    for tier, values in sorted(by_tier.items()):
        ordered = sorted(values)
        shares = [share for share in SHARES if share <= 0.5 or (1 - share) * len(ordered) >= 1]
        found[tier] = [(share, value) for share in shares if (value := percentile(ordered, share)) is not None]
    return found


def plot(report: Report, records: Sequence[Record], path: Path) -> None:
    """Write the picture to ``path`` (its suffix chooses the format). Raises PlotUnavailable, OSError and ValueError."""
    is_sweep = len(report.steps) > 1
    figure = figure_class()(figsize=(14 if is_sweep else 7.5, 4.8), layout="constrained")
    axes = figure.subplots(1, 2 if is_sweep else 1, squeeze=False)[0]
    _percentiles(axes[0], report, records)
    if is_sweep:
        _sweep(axes[1], report)
    verdict = "" if report.valid else ", INVALID: the sender fell behind"
    figure.suptitle(f"{report.run.arrivals} arrivals, seed {report.run.seed}{verdict}")
    figure.savefig(path, dpi=130)


def _percentiles(axes: "Axes", report: Report, records: Sequence[Record]) -> None:
    """Latency over 1 / (1 - share), so that each further nine takes the same room."""
    if report.steps:
        last = report.steps[-1]
        for number, (tier, points) in enumerate(curves(records, last.index).items()):
            colour = f"C{number}"
            axes.plot(
                [1 / (1 - share) for share, _ in points], [value for _, value in points], color=colour, label=tier
            )
            axes.axhline(report.sla.of(tier), color=colour, linestyle=":", label=f"SLA {report.sla.of(tier):g} ms")
        axes.set_title(f"at {last.step.rate_per_s:g} requests/s")
        axes.legend()
    axes.set_xscale("log")
    axes.set_xticks([1 / (1 - share) for share in TICKS], [f"p{100 * share:g}" for share in TICKS])
    axes.minorticks_off()
    _log_ms(axes)
    axes.set_xlabel("percentile")
    axes.grid(alpha=0.3)


def _log_ms(axes: "Axes") -> None:
    """A logarithmic axis of milliseconds with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize="x-small")
    axes.set_ylabel("latency from the intended time, ms")


def _sweep(axes: "Axes", report: Report) -> None:
    rates = [step.step.rate_per_s for step in report.steps]
    for name, style in (("p50_ms", "o-"), ("p99_ms", "s-")):
        values = [getattr(step.total.from_intended, name) for step in report.steps]
        axes.plot(rates, [float("nan") if value is None else value for value in values], style, label=name[:3])
    for step in report.steps:
        if not step.verdict.valid:
            axes.axvline(step.step.rate_per_s, color="red", alpha=0.3, linewidth=6)
    _log_ms(axes)
    axes.set_xlabel("requests/s asked for (red: invalid)")
    axes.grid(alpha=0.3)
    goodput = axes.twinx()
    goodput.plot(rates, [step.total.goodput_per_s for step in report.steps], "^--", color="C2", label="goodput")
    goodput.set_ylabel("good answers within the SLA, per second")
    goodput.set_ylim(bottom=0)
    lines = [*axes.get_lines()[:2], *goodput.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines])
