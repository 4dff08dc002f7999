"""Plots of single tickets: how honest confidence is, what is forgotten, what shift
costs. Each is None where a record has no such part.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tickets.factory.numbers import at, dicts, items, number
from tickets.factory.pages.family import Family, Tier
from tickets.factory.pages.ink import MARKS, Ink, Picture, draw
from tickets.factory.pages.words import clipped, percent, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_CLASSES = 10


def reliability(family: Family) -> Picture | None:
    """Accuracy over stated confidence before and after the temperature, a panel per ticket; None without bins."""
    found = [(t, c) for t in family.tiers if dicts(at(c := at(t.evaluation, "calibration"), "bins", "after"))]
    if not found:
        return None
    told = "; ".join(
        f"{t.name}: error {percent(number(at(c, 'ece_before')))} before, {percent(number(at(c, 'ece')))} after"
        for t, c in found
    )
    columns = min(len(found), 4) if len(found) != 4 else 2
    rows = math.ceil(len(found) / columns)
    return draw(
        "reliability", f"Reliability diagrams: accuracy over stated confidence. {told}.",
        "On the diagonal, confidence is what it says. Hollow: as trained; filled: after the temperature that is frozen "
        "in the ticket. Larger marks stand for more texts.",
        (7.6, 3.4 * rows), lambda figure, ink: _reliability(figure, ink, found, rows, columns),
    )  # fmt: skip


def _reliability(figure: "Figure", ink: Ink, found: Sequence[tuple[Tier, Any]], rows: int, columns: int) -> None:
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in panels[len(found) :]:
        axes.axis("off")
    for place, (axes, (tier, calibration)) in enumerate(zip(panels, found, strict=False)):
        axes.plot([0, 100], [0, 100], color=ink.faint, lw=1, ls=":")
        for key, kind, error in (("before", "zero-layer-control", "ece_before"), ("after", "ticket", "ece")):
            hollow = key == "before"
            bins = dicts(at(calibration, "bins", key))
            points = [(number(at(b, "confidence")), number(at(b, "accuracy")), number(at(b, "texts"))) for b in bins]
            known = [(100 * c, 100 * a, n or 1.0) for c, a, n in points if c is not None and a is not None]
            most = max([1.0, *(n for *_, n in known)])
            colour = ink.of(kind).colour
            axes.plot([c for c, *_ in known], [a for _, a, _ in known], color=colour, lw=1.2, alpha=0.8)
            axes.scatter(
                [c for c, *_ in known], [a for _, a, _ in known],
                s=[14 + 90 * math.sqrt(max(0.0, n) / most) for *_, n in known],
                facecolors=ink.ground if hollow else colour, edgecolors=colour, linewidths=1.4, zorder=3,
                label=f"{key}: error {percent(number(at(calibration, error)))}",
            )  # fmt: skip
        axes.set_title(clipped(tier.name, 24))
        legend = axes.legend(loc="upper left", markerscale=0.6, handletextpad=0.3)
        for handle in legend.legend_handles:
            handle.set_sizes([30])
        axes.set(xlim=(-3, 105), ylim=(-3, 105), xticks=range(0, 101, 25), yticks=range(0, 101, 25))
        if place + columns >= len(found):
            axes.set_xlabel("stated confidence, %")
            axes.xaxis.set_tick_params(labelbottom=True)
        if place % columns == 0:
            axes.set_ylabel("right, %")


def forgetting(family: Family) -> Picture | None:
    """The classes that lost most, a mark per ticket; None where forgetting was not measured."""
    tiers = [t for t in family.tiers if dicts(at(t.evaluation, "forgetting", "classes"))]
    worst = worst_classes(family)[:SHOWN_CLASSES]
    if not worst:
        return None
    told = "; ".join(f"{label}: {plain(max(drops.values()))} points at most" for label, drops in worst[:5])
    return draw(
        "forgetting", f"Points of recall that classes lost against the dense parent, largest first. {told}.",
        "How many points of a class's test texts the dense parent gets right and the ticket does not, net. A class has "
        "few test texts: see the table for counts and p-values.",
        (7.6, 0.4 * len(worst) + 1.2),
        lambda figure, ink: _dots(figure, ink, [(clipped(k, 34), d) for k, d in worst], [t.name for t in tiers],
                                  "points of recall lost against the dense parent"),
    )  # fmt: skip


def worst_classes(family: Family) -> list[tuple[str, dict[str, float]]]:
    """Classes by their largest drop in any ticket: (label, points by tier), those that lost nothing left out."""
    found: dict[str, dict[str, float]] = {}
    for tier in family.tiers:
        for row in dicts(at(tier.evaluation, "forgetting", "classes")):
            drop = number(at(row, "drop_points"))
            if drop is not None:
                found.setdefault(str(at(row, "label")), {})[tier.name] = drop
    lost = [(label, drops) for label, drops in found.items() if max(drops.values()) > 0]
    return sorted(lost, key=lambda one: (-max(one[1].values()), -sum(one[1].values()), one[0]))


def shift(family: Family) -> Picture | None:
    """Points that each shift costs every ticket and the parent; None where shift was not measured."""
    rows: dict[str, dict[str, float]] = {}
    for tier in family.tiers:
        for name, one in items(at(tier.evaluation, "shift")):
            drop, parents = number(at(one, "drop_points")), number(at(one, "parent_drop_points"))
            row = rows.setdefault(name, {})
            if drop is not None:
                row[tier.name] = drop
            if parents is not None:
                row["dense parent"] = parents
    if not any(rows.values()):
        return None
    names = [tier.name for tier in family.tiers if any(tier.name in row for row in rows.values())]
    names += ["dense parent"] if any("dense parent" in row for row in rows.values()) else []
    told = "; ".join(f"{name}: " + ", ".join(f"{k} {plain(v)}" for k, v in row.items()) for name, row in rows.items())
    return draw(
        "shift", f"Points of in-scope accuracy lost under shift. {told}.",
        "The same test texts as careless people would have typed them. What counts is the distance to the dense "
        "parent, which suffers too.",
        (7.6, 0.5 * len(rows) + 1.2),
        lambda figure, ink: _dots(figure, ink, [(clipped(k, 34), row) for k, row in rows.items()], names,
                                  "points of in-scope accuracy lost"),
    )  # fmt: skip


def _dots(
    figure: "Figure", ink: Ink, rows: Sequence[tuple[str, Mapping[str, float]]], names: Sequence[str], title: str
) -> None:
    """A row per name, a mark per series, a thin line from the least to the most."""
    axes = figure.add_subplot()
    for y, (_, values) in enumerate(rows):
        axes.plot([min([0.0, *values.values()]), max([0.0, *values.values()])], [y, y], color=ink.line, lw=2, zorder=1)
    for i, name in enumerate(names):
        dense = name == "dense parent"
        found = [(values[name], y) for y, (_, values) in enumerate(rows) if name in values]
        # Tickets that lose the same would cover each other: each has its own height within the row.
        tickets = len(names) - ("dense parent" in names)
        lift = 0.0 if dense or tickets == 1 else 0.6 * (i / (tickets - 1) - 0.5)
        axes.plot(
            [x for x, _ in found], [y + lift for _, y in found], "|" if dense else MARKS[i % len(MARKS)], ls="none",
            color=ink.ink if dense else ink.steps[i % len(ink.steps)], ms=24 if dense else 6.5,
            zorder=2 if dense else 3, markeredgewidth=2.5 if dense else 0, label=clipped(name, 24),
        )  # fmt: skip
    axes.axvline(0, color=ink.faint, lw=1)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], color=ink.ink)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(title)
    legend: Any = axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, borderaxespad=0, handletextpad=0.2,
                         columnspacing=1.4)  # fmt: skip
    for handle in legend.legend_handles:
        handle.set_markersize(min(12, handle.get_markersize()))
