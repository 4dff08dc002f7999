"""Search: the structure that loses least by its scores among those that are fast enough, and its check by measuring.

Per layer and sub-layer it chooses how many heads and how many groups of neurons survive, or that the sub-layer goes.
The estimate of a loss is the sum of the scores of what goes (Kwon et al. 2022, section 4.1), that of a time the sum of
the latency table's entries; under both the choice is exact (`tickets.factory.search_program`). Then the structure is
built and timed, the table is corrected by what that says, and the search runs again: ZipLM's guarantee of a speed-up
(Kurtic et al. 2023), but kept by a measurement of the whole graph as it ships.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tickets.factory.encoder import Shape
from tickets.factory.fisher import Scores
from tickets.factory.latency import GRAPH_SECONDS, LatencyTable, Workload, measure_graph
from tickets.factory.latency_graph import build_made_up
from tickets.factory.search_program import Options, best_choice
from tickets.factory.shrink import Kept

ROUNDS = 4
CLOSE = 0.95
"""A structure that takes at least this much of its budget is not searched again."""


class TooFast(ValueError):
    """No structure is as fast as asked: not even the word table, the mean and the head alone."""

    def __init__(self, fastest_ms: float, budget_ms: float, highest_speedup: float = 0.0) -> None:
        most = f" (ask for {math.floor(10 * highest_speedup) / 10:.1f}x at most)" if highest_speedup else ""
        super().__init__(
            f"no structure takes {budget_ms:.3g} ms per batch: the fastest possible, without any layer, takes "
            f"{fastest_ms:.3g} ms{most}. Ask for less speed, or for a smaller hidden width or word table"
        )
        self.fastest_ms, self.budget_ms = fastest_ms, budget_ms


@dataclass(frozen=True, slots=True)
class Found:
    """A structure that was searched and timed: milliseconds per batch, predicted by the table that it was found
    with, and measured; and the table, corrected by the measurement. ``measured_ms`` is above the budget only where no
    structure that was tried came below it.
    """

    kept: Kept
    predicted_ms: float
    measured_ms: float
    table: LatencyTable


@dataclass(frozen=True, slots=True)
class _Part:
    """One sub-layer: how many units each option keeps, and the units' places, the best first."""

    sizes: tuple[int, ...]
    ranked: NDArray[np.int64]
    options: Options

    def kept(self, pick: int) -> tuple[int, ...]:
        return tuple(sorted(int(i) for i in self.ranked[: self.sizes[pick]]))


def search(shape: Shape, scores: Scores, table: LatencyTable, budget_ms: float) -> Kept:
    """The structure of least estimated loss whose predicted time is within ``budget_ms`` per batch.

    Of a layer the units with the highest scores stay. A sub-layer without units is gone, and loses at least its own
    score; a layer without either disappears. Raises TooFast where no structure fits, ValueError where the table is of
    other encoders or a score is not a number.
    """
    return _search(shape, scores, table, budget_ms)[0]


def correct_and_search(
    shape: Shape,
    scores: Scores,
    table: LatencyTable,
    workload: Workload,
    budget_ms: float,
    *,
    seconds: float = GRAPH_SECONDS,
    measure_ms: Callable[[Shape], float] | None = None,
) -> Found:
    """Search, time what was found, correct the table, and search again: until the structure is within the budget and
    close to it, or the same one is found twice, but at most `ROUNDS` times.

    ``measure_ms`` times a structure; by default its int8 graph, with made-up weights, runs on ``workload`` for
    ``seconds``. Raises TooFast and ValueError as `search` does.
    """
    measure = measure_ms or (
        lambda child: measure_graph(
            build_made_up(child, table.classes), workload, table=table, vocabulary=child.vocabulary, seconds=seconds
        )
    )
    tried: list[tuple[float, Found]] = []
    for _ in range(ROUNDS):
        try:
            kept, loss = _search(shape, scores, table, budget_ms)
        except TooFast:
            if not tried:
                raise
            break
        if any(kept == found.kept for _, found in tried):
            break
        child = _child(shape, kept, table)
        predicted_ms, measured_ms = table.predict(child.heads, child.neurons), measure(child)
        table = table.corrected(measured_ms, predicted_ms)
        tried.append((loss, Found(kept, predicted_ms, measured_ms, table)))
        if CLOSE * budget_ms <= measured_ms <= budget_ms:
            break
    fitting = [(loss, found.measured_ms, found) for loss, found in tried if found.measured_ms <= budget_ms]
    if fitting:
        return min(fitting, key=lambda entry: entry[:2])[2]
    return min((found for _, found in tried), key=lambda found: found.measured_ms)


def _search(shape: Shape, scores: Scores, table: LatencyTable, budget_ms: float) -> tuple[Kept, float]:
    """The structure and its estimated loss."""
    if (shape.hidden, shape.head_size) != (table.hidden, table.head_size):
        raise ValueError(
            f"the latency table is of width {table.hidden}, the encoder of {shape.hidden}; measure its own"
        )
    base_ns = int(_ns(np.array([table.base_ms]))[0])
    budget_ns = math.floor(round(budget_ms * 1e6, 3))
    if base_ns > budget_ns:
        raise TooFast(table.base_ms, budget_ms)
    parts = [part for i in range(shape.layers) for part in (_heads(i, scores, table), _neurons(i, scores, table))]
    picks = best_choice([part.options for part in parts], budget_ns - base_ns)
    kept = [part.kept(pick) for part, pick in zip(parts, picks, strict=True)]
    layers = tuple(i for i in range(shape.layers) if kept[2 * i] or kept[2 * i + 1])
    loss = sum(float(part.options.loss[pick]) for part, pick in zip(parts, picks, strict=True))
    return Kept(layers, tuple(kept[2 * i] for i in layers), tuple(kept[2 * i + 1] for i in layers)), loss


def _heads(layer: int, scores: Scores, table: LatencyTable) -> _Part:
    units = scores.heads[layer]
    sizes = tuple(range(len(units) + 1))
    times = table.attention_ms()
    if len(units) > table.most_heads:
        raise ValueError(f"the latency table ends at {table.most_heads} heads, layer {layer} has {len(units)}")
    return _part(units, sizes, float(scores.sublayers[layer, 0]), times[list(sizes)])


def _neurons(layer: int, scores: Scores, table: LatencyTable) -> _Part:
    units = scores.neurons[layer]
    sizes = (*range(0, len(units), table.group), len(units)) if len(units) else (0,)
    if len(units) > table.most_neurons:
        raise ValueError(f"the latency table ends at {table.most_neurons} neurons, layer {layer} has {len(units)}")
    return _part(units, sizes, float(scores.sublayers[layer, 1]), table.ffn_ms(sizes))


def _part(
    units: NDArray[np.float64], sizes: tuple[int, ...], whole_loss: float, times_ms: NDArray[np.float64]
) -> _Part:
    """Options of one sub-layer: of ``units`` the best of each of ``sizes``; ``whole_loss``: its own score."""
    if not (np.isfinite(units).all() and math.isfinite(whole_loss)):
        raise ValueError("a score is not a finite number; the gradients behind it overflowed")
    ranked = np.argsort(-units, kind="stable")
    lost = np.concatenate([np.cumsum(units[ranked][::-1])[::-1], [0.0]])[list(sizes)]
    if len(units):
        lost[0] = max(lost[0], whole_loss)
    return _Part(sizes, ranked, Options(_ns(times_ms), lost))


def _ns(times_ms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole nanoseconds, rounded up: a sum of them never promises too much. (What 1e-12 s are off is arithmetic.)"""
    return np.ceil(np.round(times_ms * 1e6, 3)).astype(np.int64)


def _child(shape: Shape, kept: Kept, table: LatencyTable) -> Shape:
    """The shape that is timed: as the tickets that the table was measured for."""
    return replace(
        shape,
        heads=tuple(len(heads) for heads in kept.heads),
        neurons=tuple(len(neurons) for neurons in kept.neurons),
        sources=tuple(shape.sources[i] for i in kept.layers),
        rank=table.rank,
        activation=table.activation,
    )
