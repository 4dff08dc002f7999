"""The task of tensors: any graph, its named tensors in and out.

Owns which rows run in one call of the graph (those of several asks where the graph treats them alike, else each
ask by itself), the split of what comes back, and what a row counts for. Checking an ask is `server.tensor_ask`'s,
whether rows are independent by the shapes `tickets.tensor_graph`'s; here it is tried out when a ticket is loaded.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.cost import Cost
from server.errors import BadRequest
from server.graph import Graph
from server.sharing import Parts
from server.task import MAX_ROWS, Columns, Work
from server.tensor import Tensor
from server.tensor_ask import TensorAsk, checked
from server.tensor_columns import one_group, several_groups, whole_asks
from server.tensor_patterns import NATURAL_SIZE, Patterns
from tickets.bundle import Bundle
from tickets.tensor_graph import check_tensors, why_alone
from tickets.tensor_samples import Arrays

MAX_SIZE = 512
"""`Work.longest` of the largest rows, in eighths of a row as the ticket's samples have it."""
MAX_CALL_BYTES = 16 << 20
"""Inputs of one call of the graph, unless one row alone has more: what is computed along the way is as large again."""
MAX_COMPANY = 8
"""Rows that are tried out in company."""
TOLERANCE, HALF_TOLERANCE = 1e-5, 5e-3
"""How far an answer may depend on its neighbours, of its largest value; the second is for FP16."""

Row = tuple[TensorAsk, int | None]
"""A row of an ask by its number, or None: the ask as a whole."""


class TensorsTask:
    """One ticket of this task. Raises ValueError where its graph is not what its manifest says."""

    def __init__(self, bundle: Bundle, graph: Graph, *, call_tokens: int = 0, parts: Parts | None = None) -> None:
        """``call_tokens`` and ``parts`` are other tasks' needs."""
        del call_tokens, parts
        manifest = bundle.manifest
        check_tensors(manifest, graph.inputs, graph.outputs)
        self._run_graph = graph.run
        self._inputs, self._outputs = manifest.inputs, manifest.outputs
        self._names = [spec.name for spec in manifest.outputs]
        self.why_alone = why_alone(manifest, graph.inputs, graph.outputs)
        """Why each ask runs by itself; "" where the rows of several run together."""
        self._patterns = Patterns(bundle, by_row=not self.why_alone)
        self._is_scalable = False
        self.max_size = 1

    def parse(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> Work:
        """Check one ask against the manifest. Raises BadRequest."""
        ask = checked(self._inputs, inputs)
        unknown = [name for name in outputs if name not in self._names]
        if unknown or len(set(outputs)) != len(outputs):
            raise BadRequest(f"outputs are {self._names}, each at most once; got {list(outputs)}")
        wanted = list(outputs) or self._names
        if self.why_alone:
            return Work(rows=[(ask, None)], longest=self._size(ask.bytes), outputs=wanted)
        rows = ask.rows
        if any(len(array) != rows for array in ask.arrays.values()) or rows > MAX_ROWS:
            counts = {name: len(array) for name, array in ask.arrays.items()}
            raise BadRequest(f"all inputs have the same first dimension, 1 to {MAX_ROWS}; got {counts}")
        return Work(rows=[(ask, row) for row in range(rows)], longest=self._size(ask.bytes // rows), outputs=wanted)

    def warm_up(self) -> None:
        """Run what the samples show; then find out whether rows bear company, and other sizes than the samples'."""
        asks = self._patterns.asks()
        for ask in asks:
            self._run_ask(ask)
        if not self.why_alone and not self._bears_company(asks):
            self.why_alone = "an answer depends on the rows that run with it"
            self._patterns = self._patterns.whole()
        self._is_scalable = self._patterns.is_variable and self._bears_scaling()
        self.max_size = MAX_SIZE if self._is_scalable else 1

    def run(self, rows: Sequence[Row]) -> Columns:
        """Run the rows. Raises ValueError where an output does not have one row for each, or is not as declared."""
        if rows[0][1] is None:
            return whole_asks(self._outputs, [self._run_ask(ask) for ask, _ in rows])
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for place, (ask, _) in enumerate(rows):
            groups.setdefault(ask.signature, []).append(place)
        if len(groups) == 1:
            return one_group(self._outputs, self._run_rows(rows))
        done = [(places, self._run_rows([rows[place] for place in places])) for places in groups.values()]
        return several_groups(self._outputs, done)

    def sample_rows(self, rows: int, size: int) -> list[Row]:
        """Rows like those of the bundle's samples, scaled to ``size`` where the graph takes other sizes."""
        ask = self._patterns.ask(size if self._is_scalable else NATURAL_SIZE)
        return [(ask, None if self.why_alone else 0)] * rows

    def cost_in_bytes(self, cost: Cost) -> Cost:
        """Sizes from eighths of a sample's row to bytes. An ask that runs alone counts for the rows of the sample."""
        rows = self._patterns.rows if self.why_alone else 1
        if not self._is_scalable:
            return Cost(cost.fixed_ms, (cost.row_ms + cost.unit_ms) / rows, 0.0, cost.spread)
        unit_bytes = self._patterns.row_bytes / NATURAL_SIZE
        return Cost(
            cost.fixed_ms, cost.row_ms / rows, cost.unit_ms / unit_bytes, cost.spread, MAX_SIZE * unit_bytes / rows
        )

    def _size(self, row_bytes: int) -> int:
        if not self._is_scalable:
            return 1
        return min(max(1, -(-row_bytes * NATURAL_SIZE // self._patterns.row_bytes)), MAX_SIZE)

    def _run_ask(self, ask: TensorAsk) -> Arrays:
        return dict(zip(self._names, self._run_graph(self._names, ask.arrays), strict=True))

    def _run_rows(self, rows: Sequence[Row]) -> Arrays:
        """Outputs for rows of one signature, in order, in as many calls of the graph as their bytes need."""
        ask = rows[0][0]
        each = max(1, MAX_CALL_BYTES // max(1, ask.bytes // ask.rows))
        calls = [self._run_call(rows[start : start + each]) for start in range(0, len(rows), each)]
        if len(calls) == 1:
            return calls[0]
        return {name: np.concatenate([call[name] for call in calls]) for name in self._names}

    def _run_call(self, rows: Sequence[Row]) -> Arrays:
        spans = _spans(rows)
        feeds: Arrays = {}
        for spec in self._inputs:
            arrays = [ask.arrays[spec.name][start:stop] for ask, start, stop in spans]
            feeds[spec.name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        outputs = dict(zip(self._names, self._run_graph(self._names, feeds), strict=True))
        for name, array in outputs.items():
            if array.ndim == 0 or len(array) != len(rows):
                raise ValueError(f"output {name!r} has shape {list(array.shape)} for {len(rows)} rows")
        return outputs

    def _bears_company(self, asks: Sequence[TensorAsk]) -> bool:
        """Whether rows get the same answers one by one as together, with what samples there are."""
        rows = [(ask, row) for ask in asks for row in range(ask.rows)]
        first = rows[0][0].signature
        rows = [row for row in rows if row[0].signature == first][:MAX_COMPANY]
        if len(rows) < 2:
            rows = [*rows, *self._patterns.neighbours(rows[0][0], MAX_COMPANY - 1)]
        try:
            together = self._run_call(rows)
            return all(
                _agree(array[place : place + 1], alone[name])
                for place, row in enumerate(rows)
                for alone in [self._run_call([row])]
                for name, array in together.items()
            )
        except Exception:  # a graph that takes one row only, whatever its shapes say
            return False

    def _bears_scaling(self) -> bool:
        try:
            for size in (1, 3 * NATURAL_SIZE):
                self.run([(self._patterns.ask(size), None if self.why_alone else 0)])
        except Exception:  # the runtime's way of saying that it needs just these sizes
            return False
        return True


def _spans(rows: Sequence[Row]) -> list[tuple[TensorAsk, int, int]]:
    """Rows that follow each other in an ask, as one: what is contiguous is not copied row by row."""
    spans: list[tuple[TensorAsk, int, int]] = []
    for ask, row in rows:
        assert row is not None
        if spans and spans[-1][0] is ask and spans[-1][2] == row:
            spans[-1] = (ask, spans[-1][1], row + 1)
        else:
            spans.append((ask, row, row + 1))
    return spans


def _agree(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    finite = np.abs(one[np.isfinite(one)])
    scale = max(1.0, float(finite.max(initial=0.0)))
    tolerance = scale * (HALF_TOLERANCE if one.dtype.itemsize == 2 else TOLERANCE)
    return bool(np.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True))
