"""Ink: the colours, marks and letters of all plots, and how a plot becomes pictures for light and dark pages.

The series colours are told apart by people with any kind of colour vision (after Okabe and Ito 2008), and every series
has a mark of its own. Nothing here knows what is drawn.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CSS_PIXELS_PER_INCH = 100
SHARPNESS = 2
COLOURS = 192


@dataclass(frozen=True, slots=True)
class Series:
    """How one kind of model looks in every plot."""

    colour: str
    mark: str
    dashes: str = "-"


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours of one theme; ``series`` by kind of model."""

    name: str
    ground: str
    ink: str
    faint: str
    line: str
    good: str
    series: dict[str, Series]
    steps: tuple[str, ...]
    """For tiers, in order."""
    heat: str
    """matplotlib's colour map for amounts; ``apart`` for differences around zero."""
    apart: str

    def of(self, kind: str) -> Series:
        """The series of a kind; unknown kinds are grey."""
        return self.series.get(kind, Series(self.faint, "P"))


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot as PNGs for both themes. ``alt`` says what is to be seen; ``pixels``: CSS pixels, width and height."""

    name: str
    alt: str
    caption: str
    light: bytes
    dark: bytes
    pixels: tuple[int, int]


def _series(blue: str, orange: str, red: str, pink: str, green: str, ink: str, grey: str) -> dict[str, Series]:
    return {
        "ticket": Series(blue, "o"), "random": Series(orange, "X", "--"), "worst": Series(red, "v", ":"),
        "reinit": Series(pink, "s", "-."), "shuffled": Series(green, "^", ":"),
        "dense": Series(ink, "D"), "zero-layer-control": Series(grey, "s"), "tf-idf-linear-svm": Series(grey, "P"),
    }  # fmt: skip


LIGHT = Ink(
    "light", "#ffffff", "#17202c", "#56606f", "#dfe4eb", "#0a6b50",
    _series("#0072b2", "#b97700", "#c24e00", "#a8548a", "#00795a", "#17202c", "#69737f"),
    ("#0072b2", "#c24e00", "#00795a", "#a8548a", "#8a6d00", "#4a4ea8", "#69737f", "#17202c"),
    "Blues", "RdBu",
)  # fmt: skip
DARK = Ink(
    "dark", "#161d27", "#e7ecf3", "#a0acbb", "#2f3b4b", "#5ccaa5",
    _series("#56b4e9", "#f0b53c", "#f08a5d", "#e2a5cb", "#3fcf9f", "#e7ecf3", "#93a1b3"),
    ("#56b4e9", "#f08a5d", "#3fcf9f", "#e2a5cb", "#f0e442", "#a9acf5", "#93a1b3", "#e7ecf3"),
    "cividis", "RdBu",
)  # fmt: skip
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def draw(
    name: str, alt: str, caption: str, inches: tuple[float, float], paint: "Callable[[Figure, Ink], None]"
) -> Picture:
    """Paint once for each theme. A hundred CSS pixels are an inch."""
    light, dark = (rasterized(inches, ink, paint) for ink in (LIGHT, DARK))
    width, height = (round(side * CSS_PIXELS_PER_INCH) for side in inches)
    return Picture(name, alt, caption, light, dark, (width, height))


def rasterized(inches: tuple[float, float], ink: Ink, paint: "Callable[[Figure, Ink], None]") -> bytes:
    """One theme's PNG."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from PIL import Image

    with mpl.rc_context(style(ink)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a label in another script: a box, not an end
        figure = Figure(figsize=inches, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
        canvas: Any = FigureCanvasAgg(figure)  # parts of it are not typed
        paint(figure, ink)
        canvas.figure.set_dpi(CSS_PIXELS_PER_INCH * SHARPNESS)
        canvas.draw()
        pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    buffer = io.BytesIO()
    # A plot has few colours: a palette takes a third of the bytes and cannot be told from the whole.
    pixels.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buffer, "png")
    return buffer.getvalue()


def style(ink: Ink) -> Any:  # noqa: ANN401 - a dict; its keys' type differs between versions of matplotlib
    """Settings of matplotlib for a theme. Text is never read as mathematics: a label may hold a dollar sign."""
    return {
        "figure.facecolor": ink.ground, "savefig.facecolor": ink.ground, "axes.facecolor": ink.ground,
        "text.color": ink.ink, "axes.labelcolor": ink.faint, "axes.edgecolor": ink.line, "axes.titlecolor": ink.ink,
        "xtick.color": ink.line, "ytick.color": ink.line, "xtick.labelcolor": ink.faint, "ytick.labelcolor": ink.faint,
        "grid.color": ink.line, "grid.linewidth": 0.7, "axes.grid": True, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "xtick.minor.size": 0, "ytick.major.size": 0, "font.size": 9, "axes.labelsize": 9, "axes.titlesize": 10,
        "axes.titleweight": "bold", "axes.titlelocation": "left", "lines.linewidth": 1.8, "lines.markersize": 6,
        "legend.frameon": False, "legend.fontsize": 8.5, "font.family": "DejaVu Sans",
        "text.parse_math": False, "axes.formatter.use_mathtext": False, "axes.unicode_minus": True,
    }  # fmt: skip


def log_axis(axes: "Axes", ticks: Sequence[float], form: Callable[[float], str], base: float = 10) -> None:
    """A logarithmic x axis with exactly these ticks; numbers in plain form."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axes.set_xscale("log", base=base)
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_major_formatter(FixedFormatter([form(tick) for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())


def spread_out(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Where labels go so that they do not cover each other: at least ``gap`` apart, in their order, as near to
    ``places`` as can be, between ``low`` and ``high`` where there is room.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[list[float]] = []  # labels that touch; less their share of the gaps they have one place, the mean
    for rank, i in enumerate(order):
        blocks.append([places[i] - gap * rank])
        while len(blocks) > 1 and mean(blocks[-1]) < mean(blocks[-2]):
            last = blocks.pop()
            blocks[-1] += last
    last_low = max(low, high - gap * (len(places) - 1))
    level = [min(max(mean(block), low), last_low) for block in blocks for _ in block]
    out = [0.0] * len(places)
    for rank, i in enumerate(order):
        out[i] = level[rank] + gap * rank
    return out


def label_ends(axes: "Axes", ends: Sequence[tuple[float, float, str, str]], gap: float = 0.06) -> None:
    """Name lines at their right ends: (x, y, text, colour), moved apart where they would cover each other. ``gap``: a
    line of text as a share of the axes' height.
    """
    if not ends:
        return
    low, high = axes.transAxes.transform((0, 0))[1], axes.transAxes.transform((0, 1))[1]
    heights = [(float(axes.transData.transform((x, y))[1]) - low) / (high - low) for x, y, _, _ in ends]
    places = spread_out(heights, gap, gap / 2, 1 - gap / 2)
    for (x, y, text, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            text, (x, y), xytext=(1.015, place), textcoords="axes fraction", color=colour, fontsize=8.5, va="center",
            annotation_clip=False, fontweight="bold",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkB": 4},
        )  # fmt: skip
