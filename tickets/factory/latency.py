"""Latency: what each block of an encoder costs on this host, as a table that a search can add up.

Measured in ONNX Runtime on the int8 graphs as they ship, one thread, for the lengths that a domain's texts
have. A block's cost is the difference that copies of it make to a graph without any, because operators between the
products (norms, quantization, transposes) take most of the time of a small ticket: multiplications would not say it.
Kurtic et al. 2023 (ZipLM, section 3.2) add such tables up too; theirs come from PyTorch or DeepSparse and are used as
they are, ours are corrected by measuring what was chosen (`tickets.factory.search`).
"""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from tickets.factory.encoder import Shape
from tickets.factory.latency_clock import Feed, in_turns
from tickets.factory.latency_graph import build_made_up

BATCH_TEXTS = 16
BUCKETS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Sizes of padded texts that are measured; a length between two counts as some of both."""
LIGHTEST = 0.005
"""Cells with less weight than this are left out: they cost as much to measure as the others."""
COPIES = 4
"""Of a block in the graph that measures it: as much less noise, and weights that fill the caches as a ticket's do."""
TABLE_SECONDS = 60.0
GRAPH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Cell:
    """Batches of ``batch`` texts padded to ``tokens``, and their share of all batches."""

    tokens: int
    batch: int
    weight: float


@dataclass(frozen=True, slots=True)
class Workload:
    """Cells whose weights sum to one."""

    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class CellCosts:
    """Milliseconds per batch of one cell. ``base_ms``: embedding, pooling, head. ``attention_ms[h]`` with h heads,
    ``ffn_ms[g]`` with g groups of neurons; none of them costs nothing, more never cost less.
    """

    cell: Cell
    base_ms: float
    attention_ms: tuple[float, ...]
    ffn_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """What encoders of this width cost on one core of ``host``. ``correction`` multiplies what blocks cost: in a whole
    encoder, whose weights leave the caches, they take a little more than alone.
    """

    layers: int
    hidden: int
    head_size: int
    rank: int
    activation: str
    classes: int
    vocabulary: int
    group: int
    """Neurons per step of ``ffn_ms``."""
    host: str
    runtime: str
    cells: tuple[CellCosts, ...]
    yardstick_ms: float
    """What a whole encoder of half the size took per batch when the table was measured; see `measure_graph`."""
    correction: float = 1.0

    @property
    def workload(self) -> Workload:
        """What was measured."""
        return Workload(tuple(costs.cell for costs in self.cells))

    @property
    def most_heads(self) -> int:
        """The largest attention sub-layer that was measured."""
        return len(self.cells[0].attention_ms) - 1

    @property
    def most_neurons(self) -> int:
        """The largest FFN that was measured."""
        return (len(self.cells[0].ffn_ms) - 1) * self.group

    @property
    def base_ms(self) -> float:
        """Milliseconds of a batch without any layer: nothing is faster."""
        return float(self._weights() @ [costs.base_ms for costs in self.cells])

    def attention_ms(self) -> NDArray[np.float64]:
        """Corrected milliseconds per batch of 0, 1, ... heads in one layer."""
        return np.asarray(self.correction * self._weights() @ [costs.attention_ms for costs in self.cells])

    def ffn_ms(self, neurons: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Corrected milliseconds per batch of a layer's FFN, for each of several numbers of neurons."""
        by_group = self.correction * self._weights() @ [costs.ffn_ms for costs in self.cells]
        return np.asarray(np.interp(np.asarray(neurons) / self.group, np.arange(len(by_group)), by_group))

    def predict(self, heads: Sequence[int], neurons: Sequence[int]) -> float:
        """Milliseconds per batch, in the mean over the workload, of an encoder with these heads and neurons in each
        layer. Raises ValueError where a layer is larger than what was measured.
        """
        if max(heads, default=0) > self.most_heads or max(neurons, default=0) > self.most_neurons:
            most = f"{self.most_heads} heads and {self.most_neurons} neurons"
            raise ValueError(f"the latency table ends at {most} in a layer; measure a larger one")
        return float(self.base_ms + self.attention_ms()[list(heads)].sum() + self.ffn_ms(neurons).sum())

    def corrected(self, measured_ms: float, predicted_ms: float) -> "LatencyTable":
        """The table that would have predicted what was measured. (At worst blocks become ten times cheaper: a time
        below that of no block at all is noise.)
        """
        blocks_ms = predicted_ms - self.base_ms
        if blocks_ms <= 0:
            return self
        return replace(self, correction=self.correction * max((measured_ms - self.base_ms) / blocks_ms, 0.1))

    @property
    def shape(self) -> Shape:
        """What is common to all encoders that the table is of."""
        return Shape(
            vocabulary=self.vocabulary, hidden=self.hidden, head_size=self.head_size, heads=(), neurons=(), sources=(),
            positions=0, activation=self.activation, rank=self.rank,
        )  # fmt: skip

    def _weights(self) -> NDArray[np.float64]:
        return np.array([costs.cell.weight for costs in self.cells])

    def to_json(self) -> dict[str, Any]:
        """The table as a JSON object."""
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "LatencyTable":
        """What `to_json` gave. Raises ValueError where it is anything else."""
        return msgspec.convert(document, cls)


def workload_of(lengths: Sequence[int], batch: int = BATCH_TEXTS) -> Workload:
    """The batches that random texts of these token counts form, each padded to its longest.

    Exact, not drawn: the longest of n texts is at most L with the n-th power of one text's probability. A length
    between two buckets is split between both so that the mean stays. Raises ValueError without lengths.
    """
    if len(lengths) == 0:
        raise ValueError("no texts: a workload needs the token counts of some")
    sizes, counts = np.unique(np.asarray(lengths), return_counts=True)
    chances = np.diff(np.cumsum(counts / len(lengths)) ** batch, prepend=0.0)
    buckets = np.array(sorted({sizes[0], sizes[-1], *(b for b in BUCKETS if sizes[0] < b < sizes[-1])}))
    places = np.interp(sizes, buckets, np.arange(len(buckets)))
    low = places.astype(int)
    weights = np.zeros(len(buckets) + 1)
    np.add.at(weights, low, chances * (1 - (places - low)))
    np.add.at(weights, low + 1, chances * (places - low))
    weights = np.where(weights < LIGHTEST, 0.0, weights)[: len(buckets)]
    kept = np.flatnonzero(weights)
    return Workload(tuple(Cell(int(buckets[i]), batch, float(weights[i] / weights.sum())) for i in kept))


def measure_table(
    shape: Shape,
    classes: int,
    workload: Workload,
    *,
    group: int = 32,
    seconds: float = TABLE_SECONDS,
    tick: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """Time blocks of up to ``max(shape.heads)`` heads and ``max(shape.neurons)`` neurons, for about ``seconds``.

    All graphs run in turns, round after round, so that a noisy neighbour hits all of them. Sizes between measured ones
    are interpolated, a regression that never falls (isotonic) takes out what noise is left, and a whole encoder of half
    the size gives the first correction. ``tick`` is called after each round with per cent done and 100.
    """
    most_heads, most_groups = max(shape.heads, default=0), -(-max(shape.neurons, default=0) // group)
    heads, groups = knots(most_heads), knots(most_groups)
    shapes = [_stacked(shape, h, n) for h, n in [(0, 0), *((h, 0) for h in heads), *((0, g * group) for g in groups)]]
    yardstick = _yardstick(shape, shape.layers, most_heads, most_groups * group)
    shapes.append(yardstick)
    times = in_turns(
        [build_made_up(s, classes) for s in shapes], _feeds(workload, shape.vocabulary), seconds, tick or _unseen
    )
    costs = []
    for i, cell in enumerate(workload.cells):
        base, extra = times[0, i], (times[1:-1, i] - times[0, i]) / COPIES
        attention, ffn = _curve(heads, extra[: len(heads)]), _curve(groups, extra[len(heads) :])
        costs.append(CellCosts(cell, float(base), attention, ffn))
    table = LatencyTable(
        layers=shape.layers, hidden=shape.hidden, head_size=shape.head_size, rank=shape.rank,
        activation=shape.activation, classes=classes, vocabulary=shape.vocabulary, group=group, host=host(),
        runtime=onnxruntime.__version__, cells=tuple(costs), yardstick_ms=_mean(times[-1], workload),
    )  # fmt: skip
    return table.corrected(table.yardstick_ms, table.predict(yardstick.heads, yardstick.neurons))


def measure_graph(
    model: bytes,
    workload: Workload,
    *,
    table: LatencyTable | None = None,
    vocabulary: int = 100,
    seconds: float = GRAPH_SECONDS,
) -> float:
    """Milliseconds per batch of a whole graph, in the mean over the workload, as the table's graphs are timed.

    ``model`` takes ``input_ids`` [batch, tokens] int32; ids below ``vocabulary`` are fed. With a ``table`` of the same
    workload the table's yardstick runs in turns with it, and the answer is what it would have taken when the table was
    measured: a host that is slower or faster by then (clock, neighbours, heat) makes no difference.
    """
    if table is None:
        return _mean(in_turns([model], _feeds(workload, vocabulary), seconds, _unseen)[0], workload)
    yardstick = build_made_up(
        _yardstick(table.shape, table.layers, table.most_heads, table.most_neurons), table.classes
    )
    times = in_turns([model, yardstick], _feeds(workload, min(vocabulary, table.vocabulary)), seconds, _unseen)
    return _mean(times[0], workload) * table.yardstick_ms / _mean(times[1], workload)


def knots(largest: int) -> list[int]:
    """The sizes that are measured: 1, 2, 3, 4, 6, 8, 12, 16, 24, ... and the largest."""
    doubling = [step << i for i in range(largest.bit_length()) for step in (2, 3)]
    return sorted({size for size in (1, *doubling, largest) if 0 < size <= largest})


def host() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _stacked(shape: Shape, heads: int, neurons: int) -> Shape:
    """`COPIES` layers that have this block and nothing else; none where it is empty."""
    layers = COPIES if heads or neurons else 0
    return replace(shape, heads=(heads,) * layers, neurons=(neurons,) * layers, sources=tuple(range(layers)))


def _yardstick(shape: Shape, layers: int, heads: int, neurons: int) -> Shape:
    """A whole encoder of blocks of half the largest size."""
    half = (-(-heads // 2),) * layers, (-(-neurons // 2),) * layers
    return replace(shape, heads=half[0], neurons=half[1], sources=tuple(range(layers)))


def _mean(times_ms: NDArray[np.float64], workload: Workload) -> float:
    return float(times_ms @ [cell.weight for cell in workload.cells])


def _unseen(done: int, total: int) -> None:
    """Progress that nobody watches."""


def _curve(sizes: list[int], measured_ms: NDArray[np.float64]) -> tuple[float, ...]:
    """Costs of 0, 1, ... ``sizes[-1]`` units from those of ``sizes``: nothing for none, never falling."""
    if not sizes:
        return (0.0,)
    rising = isotonic_regression(np.maximum(measured_ms, 0.0))
    whole = np.interp(np.arange(1, sizes[-1] + 1), sizes, rising)
    return (0.0, *(float(ms) for ms in whole))


def _feeds(workload: Workload, vocabulary: int) -> list[Feed]:
    random = np.random.default_rng(0)
    return [{"input_ids": random.integers(1, vocabulary, (c.batch, c.tokens), dtype=np.int32)} for c in workload.cells]
