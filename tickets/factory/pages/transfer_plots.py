"""The plot of a transfer: whose mask does how well on whose data, and how far that is from the domain's own mask."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tickets.factory.numbers import at, number, texts
from tickets.factory.pages.ink import Ink, Picture, draw
from tickets.factory.pages.words import clipped, percent, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Grid = list[list[float | None]]


def accuracies(result: Mapping[str, Any]) -> Grid:
    """[mask's domain][trained on], as fractions; None where a pair was not measured."""
    size = len(texts(at(result, "domains")))
    return [[number(at(result, "accuracy", a, b)) for b in range(size)] for a in range(size)]


def controls(result: Mapping[str, Any]) -> list[tuple[str, list[float | None]]]:
    """The rows of random masks and of the dense model, those that there are."""
    size = len(texts(at(result, "domains")))
    rows = [(name, [number(at(result, key, b)) for b in range(size)])
            for key, name in (("random", "random mask"), ("dense", "dense"))]  # fmt: skip
    return [(name, row) for name, row in rows if any(value is not None for value in row)]


def against_own(rows: Sequence[Sequence[float | None]], grid: Grid) -> Grid:
    """Each row less the own mask of its column, in points."""
    return [
        [None if value is None or (own := grid[b][b]) is None else 100 * (value - own) for b, value in enumerate(row)]
        for row in rows
    ]


def heat_map(result: Mapping[str, Any]) -> Picture | None:
    """Accuracy in words, distance to the own mask in colour; None where nothing was measured."""
    names, grid = texts(at(result, "domains")), accuracies(result)
    if not any(value is not None for row in grid for value in row):
        return None
    rest = controls(result)
    values = [*grid, *(row for _, row in rest)]
    distances = against_own(values, grid)
    worst = min(((d, names[a], names[b]) for a, row in enumerate(distances[: len(names)]) for b, d in enumerate(row)
                 if d is not None and a != b), default=None)  # fmt: skip
    told = f" The widest gap: the mask of {worst[1]} on {worst[2]}, {points(worst[0])} points." if worst else ""
    own = [value for i, row in enumerate(grid) if (value := row[i]) is not None]
    mean = f" Own masks reach {percent(sum(own) / len(own))} on average." if own else ""
    return draw(
        "transfer", f"Heat map of test accuracy: rows are the domains that masks were found on, columns what they were "
        f"trained and tested on.{mean}{told}",
        "Numbers: test accuracy, %. Colour: points against the domain's own mask (outlined), red below, blue above.",
        (max(4.6, 2.6 + 0.78 * len(names)), 1.9 + 0.46 * len(values)),
        lambda figure, ink: _heat_map(figure, ink, [*names, *(name for name, _ in rest)], values, distances),
    )  # fmt: skip


def _heat_map(
    figure: "Figure", ink: Ink, names: Sequence[str], values: Sequence[Sequence[float | None]], distances: Grid
) -> None:
    from matplotlib.patches import Rectangle

    axes, size = figure.add_subplot(), len(values[0])
    # The scale is the masks'; random ones may lie far below it.
    reach = max(0.5, *(abs(d) for row in distances[:size] for d in row if d is not None))
    image = axes.imshow(
        [[float("nan") if d is None else d for d in row] for row in distances], cmap=ink.apart, vmin=-reach, vmax=reach,
        aspect="auto",
    )  # fmt: skip
    for a, row in enumerate(values):
        for b, value in enumerate(row):
            distance = distances[a][b]
            _number(axes, ink, (b, a), value, 0.0 if distance is None else distance / reach, bold=a == b)
            if a == b:
                axes.add_patch(
                    Rectangle((b - 0.45, a - 0.41), 0.9, 0.82, fill=False, edgecolor="#17202c", lw=1.6, zorder=3)
                )
    axes.axhline(size - 0.5, color=ink.ground, lw=5)
    axes.set_xticks(range(size), [clipped(name, 18) for name in names[:size]], rotation=35, ha="right", color=ink.ink)
    axes.set_yticks(range(len(names)), [clipped(name, 18) for name in names], color=ink.ink)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("trained and tested on")
    axes.set_ylabel("mask found on")
    bar = figure.colorbar(image, label="points against the own mask", pad=0.02, extend="min")
    bar.outline.set_visible(False)


def _number(
    axes: "Axes", ink: Ink, place: tuple[float, float], value: float | None, shade: float, *, bold: bool
) -> None:
    text = "–" if value is None else f"{100 * value:.1f}"
    colour = ink.faint if value is None else "#ffffff" if abs(shade) > 0.62 else "#17202c"
    axes.text(
        *place, text, ha="center", va="center", fontsize=8.5, color=colour, fontweight="bold" if bold else "normal"
    )
