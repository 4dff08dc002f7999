"""Plots of a lottery: accuracy and early stopping over density, and what is left of each layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tickets.factory.numbers import at, dicts, items, number, numbers
from tickets.factory.pages.ink import Ink, Picture, draw, label_ends, log_axis
from tickets.factory.pages.words import clipped, listed, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 8
"""Of layers; more of them become a map of colours."""
MOST_ROOM = 3
"""How many times the ticket's own range everything may span before the ticket gets a close-up."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level: its density, and each branch's numbers by seed."""

    density: float
    branches: Mapping[str, Mapping[str, Any]]
    layers: Mapping[str, float]
    wins: bool

    def seeds(self, branch: str, key: str) -> list[float]:
        """One number of a branch at every seed."""
        return numbers(at(self.branches, branch, key))


def levels_of(result: Mapping[str, Any]) -> list[Level]:
    """The levels, densest first; those without a density are left out."""
    wins = {number(at(v, "level")) for v in dicts(at(result, "verdict")) if at(v, "label") == "winning"}
    out = []
    for i, level in enumerate(dicts(at(result, "levels"))):
        density, index = number(at(level, "density")), number(at(level, "level"))
        if density is not None and density > 0:
            told = at(level, "per_layer")
            layers = told if isinstance(told, Mapping) else {}
            known = {str(k): v for k, value in layers.items() if (v := number(value)) is not None}
            out.append(
                Level(density, dict(items(at(level, "branches"))), known, (i if index is None else index) in wins)
            )
    return sorted(out, key=lambda level: -level.density)


def branches_of(levels: Sequence[Level]) -> list[str]:
    """Which branches there are, the ticket first."""
    names = dict.fromkeys(name for level in levels for name in level.branches)
    return sorted(names, key=lambda name: name != "ticket")


def accuracy(result: Mapping[str, Any]) -> Picture | None:
    """Accuracy over density with the controls; None where nothing was measured."""
    levels = levels_of(result)
    if not any(level.seeds("ticket", "accuracy") for level in levels):
        return None
    matching = number(at(result, "matching_density"))
    last = levels[-1]
    told = ", ".join(
        f"{name} {percent(sum(seeds) / len(seeds))}"
        for name in branches_of(levels)
        if (seeds := last.seeds(name, "accuracy"))
    )
    controls = listed([name for name in branches_of(levels) if name != "ticket"]) or "no"
    return draw(
        "accuracy", f"Test accuracy over density on a logarithmic axis: the ticket beside {controls} controls. "
        f"At the last level, {percent(last.density)} of the weights: {told}.",
        "Lines: means over seeds; bands: lowest to highest seed; dots: seeds. Filled circles: levels at which the "
        "ticket wins. Dashed: the dense network. To the right is sparser.",
        (7.6, 7.0 if _close_up(levels) else 4.6),
        lambda figure, ink: _accuracies(figure, ink, levels, matching),
    )  # fmt: skip


def early_stop(result: Mapping[str, Any]) -> Picture | None:
    """The step of least validation loss over density; None where it was not kept."""
    levels = levels_of(result)
    if not any(level.seeds("ticket", "early_stop_step") for level in levels):
        return None
    return draw(
        "early-stop", "Training step at which validation loss is least, over density: lower learns faster.",
        "The step at which training would have been stopped early. In the paper, winning tickets learn faster than the "
        "dense network until they are very sparse.",
        (7.6, 3.8), lambda figure, ink: _early_stops(figure, ink, levels),
    )  # fmt: skip


def _accuracies(figure: "Figure", ink: Ink, levels: Sequence[Level], matching: float | None) -> None:
    """One panel; where a control falls so far that the rest becomes a line, a close-up above it."""
    near = _close_up(levels)
    rows = figure.subplots(2 if near else 1, 1, squeeze=False, sharex=True)[:, 0]
    for axes in rows:
        _curves(axes, ink, levels, "accuracy", 100)
        axes.set_ylabel("test accuracy, %")
    if near:
        rows[0].set_ylim(near)
        rows[0].set_title("Close up")
        rows[1].set_title("All of it")
    for axes in rows:
        _name_curves(axes, ink, levels, "accuracy", 100)
    if matching:
        rows[0].axvline(matching, color=ink.good, lw=1.2)
        rows[0].annotate(
            f"matches dense down to {percent(matching)}", (matching, 0.03), xycoords=("data", "axes fraction"),
            xytext=(-5, 0), textcoords="offset points", ha="right", fontsize=8.5, color=ink.good, fontweight="bold",
        )  # fmt: skip
    rows[-1].set_xlabel("weights remaining, % (logarithmic)")


def _close_up(levels: Sequence[Level]) -> tuple[float, float] | None:
    """Percent from and to, around the ticket; None where the whole shows it well enough."""
    ticket = [100 * seed for level in levels for seed in level.seeds("ticket", "accuracy")]
    every = [100 * s for level in levels for name in level.branches for s in level.seeds(name, "accuracy")]
    low, high = min(ticket), max(ticket)
    reach = max(high - low, 0.5)
    return (low - 0.8 * reach, high + 0.3 * reach) if max(every) - min(every) > MOST_ROOM * reach else None


def _early_stops(figure: "Figure", ink: Ink, levels: Sequence[Level]) -> None:
    axes = figure.add_subplot()
    _curves(axes, ink, levels, "early_stop_step", 1)
    _name_curves(axes, ink, levels, "early_stop_step", 1)
    axes.set_ylabel("early-stop step")
    axes.set_xlabel("weights remaining, % (logarithmic)")


def _curves(axes: "Axes", ink: Ink, levels: Sequence[Level], key: str, scale: float) -> None:
    """A line, a band and dots for every branch, and the dense network as a line across."""
    for branch in reversed(branches_of(levels)):
        found = [(level, [scale * s for s in level.seeds(branch, key)]) for level in levels if level.seeds(branch, key)]
        look, densities = ink.of(branch), [level.density for level, _ in found]
        low, high = [min(s) for _, s in found], [max(s) for _, s in found]
        axes.fill_between(densities, low, high, color=look.colour, alpha=0.16, lw=0)
        means = [sum(seeds) / len(seeds) for _, seeds in found]
        axes.plot(densities, means, look.dashes, color=look.colour, lw=2.2 if branch == "ticket" else 1.5)
        for (level, seeds), mean in zip(found, means, strict=True):
            axes.plot([level.density] * len(seeds), seeds, ".", color=look.colour, ms=2.5, alpha=0.7)
            hollow = branch == "ticket" and key == "accuracy" and not level.wins
            axes.plot(
                [level.density], [mean], look.mark, color=look.colour, ms=6 if branch == "ticket" else 4.5,
                markerfacecolor=ink.ground if hollow else look.colour, markeredgewidth=1.5 if hollow else 0,
            )  # fmt: skip
    dense = [scale * s for s in levels[0].seeds("ticket", key)]
    if dense:
        axes.axhline(sum(dense) / len(dense), color=ink.of("dense").colour, lw=1, ls="--")
    _densities(axes, levels)


def _name_curves(axes: "Axes", ink: Ink, levels: Sequence[Level], key: str, scale: float) -> None:
    """Each branch's name at its last level, where that can be seen."""
    low, high = axes.get_ylim()
    ends = []
    for branch in branches_of(levels):
        found = [(level.density, level.seeds(branch, key)) for level in levels if level.seeds(branch, key)]
        density, mean = (found[-1][0], scale * sum(found[-1][1]) / len(found[-1][1])) if found else (0.0, low - 1)
        if low <= mean <= high:
            ends.append((density, mean, clipped(branch, 14), ink.of(branch).colour))
    label_ends(axes, ends, 0.075)


def layers(result: Mapping[str, Any]) -> Picture | None:
    """The density of each layer, level by level; None where it was not kept."""
    levels = [level for level in levels_of(result) if level.layers]
    names = list(dict.fromkeys(name for level in levels for name in level.layers))
    if not names:
        return None
    last = levels[-1].layers
    least, most = min(last, key=lambda n: last[n]), max(last, key=lambda n: last[n])
    alt = (
        f"Density of each of {len(names)} layers over the whole network's density. At the last level {least} keeps "
        f"{percent(last[least])}, the least, and {most} {percent(last[most])}, the most."
    )
    if len(names) <= MOST_LINES:
        return draw("layers", alt, "Below the dashed line a layer is pruned more than the network as a whole.",
                    (7.6, 3.8), lambda figure, ink: _lines(figure, ink, levels, names))  # fmt: skip
    return draw("layers", alt, "A row is a layer, a column a level. Darker keeps more (in dark colours: yellower).",
                (7.6, 0.19 * len(names) + 1.2), lambda figure, ink: _map(figure, ink, levels, names))  # fmt: skip


def _lines(figure: "Figure", ink: Ink, levels: Sequence[Level], names: Sequence[str]) -> None:
    axes, ends = figure.add_subplot(), []
    whole = [level.density for level in levels]
    axes.plot(whole, [100 * density for density in whole], color=ink.faint, lw=1, ls="--")
    for i, name in enumerate(names):
        found = [(level.density, 100 * level.layers[name]) for level in levels if name in level.layers]
        colour = ink.steps[i % len(ink.steps)]
        axes.plot([x for x, _ in found], [y for _, y in found], "o-", color=colour, ms=4)
        ends.append((*found[-1], clipped(name.removesuffix(".weight"), 16), colour))
    axes.set_yscale("log")
    _log_percent(axes)
    _densities(axes, levels)
    label_ends(axes, ends, 0.085)
    axes.set_ylabel("of the layer's weights, %")
    axes.set_xlabel("of all weights, % (both logarithmic)")


def _log_percent(axes: "Axes") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _map(figure: "Figure", ink: Ink, levels: Sequence[Level], names: Sequence[str]) -> None:
    axes = figure.add_subplot()
    values = [[100 * level.layers.get(name, float("nan")) for level in levels] for name in names]
    image = axes.imshow(values, aspect="auto", cmap=ink.heat, vmin=0, vmax=100)
    axes.set_yticks(range(len(names)), [clipped(name.removesuffix(".weight"), 34) for name in names], fontsize=7)
    axes.set_xticks(range(len(levels)), [f"{100 * level.density:.3g}" for level in levels], fontsize=8)
    axes.grid(visible=False)
    axes.set_xlabel("of all weights, %")
    figure.colorbar(image, label="of the layer's weights, %", pad=0.02).outline.set_visible(False)


def _densities(axes: "Axes", levels: Sequence[Level]) -> None:
    """Sparser to the right, ticks at the levels themselves, as many as there is room for."""
    densities = [level.density for level in levels]
    every = max(1, round(len(densities) / 9))
    log_axis(axes, densities[::every], lambda density: f"{100 * density:.3g}", base=2)
    axes.set_xlim(densities[0] * 1.06, densities[-1] / 1.06 if densities[-1] < densities[0] else densities[0] / 2)
