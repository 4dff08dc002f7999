"""Plots of a family's quality: the front over milliseconds, and accuracy over size beside the controls."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tickets.factory.pages.family import DENSE, LINEAR, ZERO, Family, Model, pareto
from tickets.factory.pages.ink import Ink, Picture, draw, label_ends, log_axis
from tickets.factory.pages.words import clipped, listed, milliseconds, percent, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACY, AUROC = "in_scope_accuracy", "out_of_scope_auroc"
_NAME_WIDTH = 0.085
"""Of a tier's name, as a share of the plot's width."""
_PANELS = ((ACCURACY, "In-scope accuracy, %"), (AUROC, "Out-of-scope AUROC, %"))


def front(family: Family) -> Picture | None:
    """Accuracy over measured milliseconds; None where no ticket was timed."""
    timed = [m for m in (*family.tickets, family.named(DENSE)) if m and m.text_ms and m.mean(ACCURACY) is not None]
    if not any(model.role == "ticket" for model in timed):
        return None
    best = pareto([(model.text_ms or 0.0, model.mean(ACCURACY) or 0.0) for model in timed])
    told = "; ".join(
        f"{m.title} {percent(m.mean(ACCURACY))} at {milliseconds(m.text_ms)}{' (on the front)' if i in best else ''}"
        for i, m in enumerate(timed)
    )
    return draw(
        "front", f"In-scope accuracy over milliseconds per text on a logarithmic axis. {told}.",
        "One core, batches of 16 texts. Filled circles win, hollow ones are only pruned. Bars and dots: the seeds; "
        "the line joins what nothing cheaper beats. Controls that were not timed stand at the milliseconds of their "
        "ticket, whose size they have.",
        (7.6, 4.9), lambda figure, ink: _front(figure, ink, family, timed, best),
    )  # fmt: skip


def _front(figure: "Figure", ink: Ink, family: Family, timed: Sequence[Model], best: Sequence[int]) -> None:
    axes = figure.add_subplot()
    points = [(model.text_ms or 0.0, 100 * (model.mean(ACCURACY) or 0.0)) for model in timed]
    axes.plot(
        [points[i][0] for i in best], [points[i][1] for i in best], color=ink.of("ticket").colour, lw=1.2, alpha=0.7
    )
    others = [m for m in family.models if m.role == "control" or m.name == ZERO]
    known: set[str] = set()
    for model in others:
        cost, mean = family.cost_ms(model), model.mean(ACCURACY)
        if cost is not None and mean is not None:
            name = model.control or model.name.replace("-", " ")
            _mark(axes, ink, model, cost, small=True, label=None if name in known else name)
            known.add(name)
    wins = {tier.name for tier in family.tiers if tier.wins}
    for model in timed:
        _mark(axes, ink, model, model.text_ms or 0.0, hollow=model.role == "ticket" and model.tier not in wins)
    costs = [cost for cost in (family.cost_ms(model) for model in (*timed, *others)) if cost]
    axes.set_xlim(min(costs) / 1.8, max(costs) * 1.9)
    _roomy(axes)
    _names(axes, ink, timed)
    _flat_baseline(axes, ink, family, ACCURACY, 1)
    log_axis(axes, _ticks(axes.get_xlim()), lambda tick: f"{tick:g}")
    axes.set_xlabel("milliseconds per text, measured on one core (logarithmic)")
    axes.set_ylabel("in-scope accuracy, %")
    if known:
        axes.legend(loc="lower right", title="controls", alignment="left", title_fontsize=8.5, borderaxespad=0.8)


def _names(axes: "Axes", ink: Ink, models: Sequence[Model]) -> None:
    """Each model's name above its highest seed; higher still where its left neighbour's name would be in the way."""
    from matplotlib.patheffects import withStroke

    low, high = axes.get_xlim()
    before, lift = -1.0, 0
    for model in sorted(models, key=lambda model: model.text_ms or 0.0):
        place = math.log((model.text_ms or 0.0) / low) / math.log(high / low)
        lift = 26 - lift if place - before < _NAME_WIDTH else 0
        before = place
        faster = f"\n{times(model.speedup)}" if model.speedup and model.role == "ticket" else ""
        axes.annotate(
            f"{clipped(model.title, 18)}{faster}", (model.text_ms or 0.0, 100 * max(model.seeds(ACCURACY))),
            xytext=(0, 8 + lift), ha="center", textcoords="offset points", fontweight="bold", fontsize=9, color=ink.ink,
            path_effects=[withStroke(linewidth=3, foreground=ink.ground)], linespacing=1.05, zorder=5,
        )  # fmt: skip


def against_controls(family: Family) -> Picture | None:
    """Accuracy and AUROC over the share of parameters kept, tickets beside their controls; None without sizes."""
    if not any(family.share_kept(ticket) for ticket in family.tickets):
        return None
    panels = [(k, t) for k, t in _PANELS if any(m.mean(k) is not None for m in family.tickets)]
    if not panels:
        return None
    kinds = family.control_kinds
    told = "; ".join(
        f"{m.title} keeps {percent(family.share_kept(m))} of the parameters and {percent(m.mean(ACCURACY))} accuracy"
        for m in family.tickets
    )
    controls = f"beside {listed(kinds)} controls" if kinds else "without controls of its size: none were trained"
    return draw(
        "controls", f"In-scope accuracy and out-of-scope AUROC over the share of parameters kept, {controls}. {told}.",
        "Lines: means over seeds; bands: lowest to highest seed. To the right is sparser, as the papers draw it.",
        (7.6, 3.2 * len(panels) + 0.3), lambda figure, ink: _against_controls(figure, ink, family, panels),
    )  # fmt: skip


def _against_controls(figure: "Figure", ink: Ink, family: Family, panels: Sequence[tuple[str, str]]) -> None:
    dense, zero = family.named(DENSE), family.named(ZERO)
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    lines = [("ticket", family.tickets), *((kind, family.controls(kind)) for kind in family.control_kinds)]
    shares = [s for m in (*family.tickets, zero) if m and (s := family.share_kept(m))]
    for axes, (key, title) in zip(rows, panels, strict=True):
        ends = []
        for kind, models in lines:
            end = _line(axes, ink, kind, [(family.share_kept(m), m) for m in models], key)
            if end:
                ends.append((*end, "tickets" if kind == "ticket" else clipped(kind, 14), ink.of(kind).colour))
        if zero is not None and (share := family.share_kept(zero)) and zero.mean(key) is not None:
            _mark(axes, ink, zero, share, key=key, small=True)
            ends.append((share, 100 * (zero.mean(key) or 0), "zero layers", ink.of(ZERO).colour))
        if dense is not None and dense.mean(key) is not None:
            level = 100 * (dense.mean(key) or 0)
            axes.axhline(level, color=ink.of("dense").colour, lw=1, ls="--")
            ends.append((min(shares) / 1.15, level, "dense", ink.of("dense").colour))
        _flat_baseline(axes, ink, family, key, 0)
        axes.set_xlim(max(1.0, *shares) * 1.05, min(shares) / 1.15)
        _roomy(axes)
        label_ends(axes, ends, 0.085)
        axes.set_title(title)
    log_axis(rows[-1], _halves(min(shares)), lambda tick: f"{100 * tick:.3g}", base=2)
    rows[-1].set_xlim(max(1.0, *shares) * 1.05, min(shares) / 1.15)
    rows[-1].set_xlabel("parameters kept, % of the dense parent (each step halves)")


def _line(
    axes: "Axes", ink: Ink, kind: str, models: Sequence[tuple[float | None, Model]], key: str
) -> tuple[float, float] | None:
    """A line with its band; its last point, or None where there is nothing to draw."""
    found = sorted(((share, m) for share, m in models if share and m.mean(key) is not None), key=lambda one: -one[0])
    if not found:
        return None
    look, shares = ink.of(kind), [share for share, _ in found]
    means = [100 * (m.mean(key) or 0) for _, m in found]
    seeds = [[100 * value for value in m.seeds(key)] for _, m in found]
    axes.fill_between(shares, [min(s) for s in seeds], [max(s) for s in seeds], color=look.colour, alpha=0.16, lw=0)
    axes.plot(shares, means, look.dashes, marker=look.mark, color=look.colour, lw=2.2 if kind == "ticket" else 1.5)
    return shares[-1], means[-1]


def _mark(
    axes: "Axes", ink: Ink, model: Model, x: float, *, key: str = ACCURACY, small: bool = False, hollow: bool = False,
    label: str | None = None,
) -> None:  # fmt: skip
    look, seeds = ink.of(model.kind), [100 * value for value in model.seeds(key)]
    mean = sum(seeds) / len(seeds)
    if len(seeds) > 1:
        axes.plot([x, x], [min(seeds), max(seeds)], color=look.colour, lw=1.4, alpha=0.75, zorder=2)
        axes.plot([x] * len(seeds), seeds, ".", color=look.colour, ms=3.5, zorder=2)
    axes.plot(
        [x], [mean], look.mark, color=look.colour, ms=5.5 if small else 9.5, zorder=3, label=label, ls="none",
        markerfacecolor=ink.ground if hollow else look.colour, markeredgewidth=2 if hollow else 0.5,
        markeredgecolor=look.colour if hollow else ink.ground,
    )  # fmt: skip


def _flat_baseline(axes: "Axes", ink: Ink, family: Family, key: str, side: int) -> None:
    """The linear baseline as a line across: it was not timed, and has no share of the parent's parameters. Its name
    stands at the left (``side`` 0) or the right (1).
    """
    linear = family.named(LINEAR)
    if linear is None or linear.mean(key) is None:
        return
    level, colour = 100 * (linear.mean(key) or 0), ink.of(LINEAR).colour
    axes.axhline(level, color=colour, lw=1, ls=":")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, level - 0.06 * (high - low)), high)
    axes.annotate("TF-IDF + linear SVM", (side, level), xycoords=("axes fraction", "data"), xytext=(4 - 8 * side, 3),
                  ha="right" if side else "left", textcoords="offset points", fontsize=8, color=colour)  # fmt: skip


def _roomy(axes: "Axes") -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.06 * (high - low), high + 0.16 * (high - low))


def _ticks(limits: tuple[float, float]) -> list[float]:
    """1, 2, 5, 10, ... within the limits."""
    steps = [digit * 10.0**power for power in range(-5, 5) for digit in (1, 2, 5)]
    return [tick for tick in steps if limits[0] <= tick <= limits[1]]


def _halves(least: float) -> list[float]:
    """1, 1/2, 1/4, ... down to ``least``."""
    out = [1.0]
    while out[-1] / 2 >= least / 1.15:
        out.append(out[-1] / 2)
    return out
