"""The plot of what is left of the backbone: heads and neurons of every layer, ticket by ticket, to scale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tickets.factory.numbers import at, number, numbers
from tickets.factory.pages.family import DENSE, Family, Tier
from tickets.factory.pages.ink import Ink, Picture, draw
from tickets.factory.pages.words import clipped, count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LAYERS = 200


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A structure as it is drawn: per backbone layer (heads, neurons), (0, 0) for one that is gone."""

    hidden: float
    layers: tuple[tuple[float, float], ...]
    vocabulary: float


def skeleton(document: Mapping[str, Any] | None, backbone_layers: int = 0) -> Skeleton | None:
    """Read a structure; its layers at the places they had in the backbone. None where it is not told."""
    heads, neurons = numbers(at(document, "heads")), numbers(at(document, "ffn_neurons"))
    if document is None or at(document, "heads") is None or len(heads) != len(neurons):
        return None
    places = [int(place) for place in numbers(at(document, "layers"))]
    if len(places) != len(heads) or not all(0 <= place < MOST_LAYERS for place in places):
        places = list(range(len(heads)))
    rows = [(0.0, 0.0)] * max([backbone_layers, *(place + 1 for place in places)])
    for place, pair in zip(places, zip(heads, neurons, strict=True), strict=True):
        rows[place] = pair
    return Skeleton(number(at(document, "hidden")) or 0.0, tuple(rows), number(at(document, "vocabulary")) or 0.0)


def structure(family: Family) -> Picture | None:
    """What every ticket keeps of each layer, drawn to the backbone's scale; None where no structure is told."""
    dense = family.named(DENSE)
    whole = skeleton(at(dense.document, "structure") if dense else None)
    drawn = [
        (t, s) for t in family.tiers if (s := skeleton(at(t.document, "structure"), len(whole.layers) if whole else 0))
    ]
    if not drawn:
        return None
    whole = whole or _largest([s for _, s in drawn])
    told = "; ".join(f"{tier.name} keeps {_kept(s)}" for tier, s in drawn)
    return draw(
        "structure", f"Heads and neurons that each ticket keeps, layer by layer. {told}.",
        "Each box is a layer of the backbone: attention on the left, feed-forward on the right, as wide as they have "
        "weights. Filled is what the ticket keeps, so the filled area is its share of the weights; a narrower fill is "
        "a narrower hidden state. Below: heads and neurons kept.",
        (7.6, 1.15 * len(drawn) + 0.55), lambda figure, ink: _structure(figure, ink, drawn, whole),
    )  # fmt: skip


def _kept(mine: Skeleton) -> str:
    rows = [f"layer {i + 1} {h:g} heads {n:g} neurons" for i, (h, n) in enumerate(mine.layers) if h or n]
    return ", ".join(rows) or "no layer"


def _structure(figure: "Figure", ink: Ink, drawn: Sequence[tuple[Tier, Skeleton]], whole: Skeleton) -> None:
    rows = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    for axes, (tier, mine) in zip(rows, drawn, strict=True):
        for i, (full, kept) in enumerate(zip(whole.layers, mine.layers, strict=False)):
            _layer(axes, ink, i * 3.6, full, kept, mine.hidden / whole.hidden if mine.hidden and whole.hidden else 1.0)
        axes.set_xlim(-0.1, 3.6 * len(whole.layers) - 0.5)
        axes.set_ylim(-0.55, 1.05)
        axes.axis("off")
        hidden = f", hidden {mine.hidden:g} of {whole.hidden:g}" if 0 < mine.hidden < whole.hidden else ""
        words = f", {count(mine.vocabulary)} of {count(whole.vocabulary)} word pieces" if mine.vocabulary else ""
        axes.set_title(f"{clipped(tier.name, 24)}", fontsize=9.5)
        axes.set_title(
            f"{hidden}{words}".removeprefix(", "), loc="right", fontsize=8.5, color=ink.faint, fontweight="normal"
        )
    for i in range(len(whole.layers)):
        rows[-1].annotate(f"layer {i + 1}", (3.6 * i + 1.5, -0.5), xytext=(0, -12), textcoords="offset points",
                          ha="center", fontsize=8.5, color=ink.faint, annotation_clip=False)  # fmt: skip


def _layer(
    axes: "Axes", ink: Ink, x: float, full: tuple[float, float], kept: tuple[float, float], width: float
) -> None:
    from matplotlib.patches import Rectangle

    for left, wide, whole, mine, kind in (
        (x, 1.0, full[0], kept[0], "ticket"),
        (x + 1, 2.0, full[1], kept[1], "shuffled"),
    ):
        share = mine / whole if whole else 0.0
        axes.add_patch(Rectangle((left, 0), wide, 1, facecolor="none", edgecolor=ink.faint, lw=0.8,
                                 ls="-" if share else ":"))  # fmt: skip
        axes.add_patch(Rectangle((left, 0), wide * width, share, facecolor=ink.of(kind).colour, lw=0))
        axes.text(left + wide / 2, -0.12, f"{mine:g}" if share else "–", ha="center", va="top", fontsize=8,
                  color=ink.ink if share else ink.faint)  # fmt: skip


def _largest(found: Sequence[Skeleton]) -> Skeleton:
    pairs = [pair for one in found for pair in one.layers] or [(1.0, 1.0)]
    most = (max(h for h, _ in pairs), max(n for _, n in pairs))
    return Skeleton(
        max(s.hidden for s in found), (most,) * max(len(s.layers) for s in found), max(s.vocabulary for s in found)
    )
