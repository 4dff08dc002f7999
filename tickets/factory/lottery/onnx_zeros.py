"""Zeros in a graph: a masked model's ONNX file says which pattern its matrices keep, and the file is held to it.

The graph is an ordinary dense one (`tickets.factory.graph`) whose matrices hold zeros, in fp32 or int8: every runtime
reads it, and one with sparse kernels may use the pattern. Which initializer is which matrix is found by what it holds,
so that nothing here depends on how the graph is written; it is then recorded in the model's metadata, by name.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tickets.factory.lottery.patterns import Pattern, PatternError, check_pattern, parse_pattern

PATTERN, MATRICES = "tombola.pattern", "tombola.pattern.matrices"
"""Keys of the model's metadata: the pattern as text; JSON of parameter name -> initializer [in, out]."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a graph says of its zeros: the pattern, and the initializer of each masked parameter."""

    pattern: Pattern
    matrices: Mapping[str, str]


def record_pattern(
    graph: bytes, weights: Mapping[str, NDArray[np.float32]], masked: Iterable[str], pattern: Pattern
) -> bytes:
    """Write into ``graph`` which of its initializers hold the ``masked`` parameters of ``weights``, and check them.

    Raises PatternError where a matrix is not in the graph, breaks the pattern, or has a value where the weight is zero.
    """
    model = onnx.load_from_string(graph)
    held = _matrices(model)
    found: dict[str, str] = {}
    for parameter in masked:
        name = _find(held, weights[parameter].T)
        if name is None:
            raise PatternError(f"{parameter}: the graph holds no such matrix, neither in fp32 nor in int8")
        if np.any(held[name][weights[parameter].T == 0]):
            raise PatternError(f"{parameter}: a pruned weight is not zero in the graph")
        found[parameter] = name
    onnx.helper.set_model_props(model, {PATTERN: str(pattern), MATRICES: json.dumps(found)})
    _check(held, Recorded(pattern, found))
    return bytes(model.SerializeToString())


def check_graph(graph: bytes) -> Recorded:
    """Hold a graph to the pattern it records, from its bytes alone. Raises PatternError naming matrix and place."""
    model = onnx.load_from_string(graph)
    said = {prop.key: prop.value for prop in model.metadata_props}
    if PATTERN not in said or MATRICES not in said:
        raise PatternError(f"the graph records no pattern (metadata {PATTERN!r} and {MATRICES!r})")
    try:
        recorded = Recorded(parse_pattern(said[PATTERN]), dict(json.loads(said[MATRICES])))
    except (ValueError, TypeError) as error:
        raise PatternError(f"the graph's record of its pattern cannot be read: {error}") from error
    _check(_matrices(model), recorded)
    return recorded


def zero_share(graph: bytes) -> float:
    """The share of zeros in the matrices that the graph records as masked. Raises PatternError as `check_graph`."""
    held = _matrices(onnx.load_from_string(graph))
    values = [held[name] for name in check_graph(graph).matrices.values()]
    return float(1 - sum(np.count_nonzero(v) for v in values) / max(1, sum(v.size for v in values)))


def _check(held: Mapping[str, NDArray[Any]], recorded: Recorded) -> None:
    for parameter, name in recorded.matrices.items():
        if name not in held:
            raise PatternError(f"{parameter}: the graph has no matrix {name!r}")
        check_pattern(held[name].T, recorded.pattern, parameter)


def _matrices(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 2}


def _find(held: Mapping[str, NDArray[Any]], weight: NDArray[np.float32]) -> str | None:
    """The initializer that holds ``weight`` [in, out]: the same values, or them in int8 by any scale per column."""
    for name, values in held.items():
        if values.shape == weight.shape and _holds(values, weight):
            return name
    return None


def _holds(values: NDArray[Any], weight: NDArray[np.float32]) -> bool:
    if values.dtype == np.float32:
        return np.array_equal(values, weight)
    if values.dtype != np.int8:
        return False
    steps = values.astype(np.float32)
    squares = np.square(steps).sum(axis=0)
    scale = (steps * weight).sum(axis=0) / np.maximum(squares, 1)  # least squares: whatever scale was chosen
    return bool((np.abs(steps * scale - weight) <= np.abs(scale) + 1e-8).all())
