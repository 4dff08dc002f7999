"""The comparison of two tickets' answers to the same ask: did they say the same, and were they as sure? Pure.

Owns what "the same" means: the same label for a row where there are labels; else, for any tensors, every number within
a tolerance. What follows from it is `routing.verdict`'s, who asks twice is `server.trial`.
"""

from collections.abc import Sequence

import numpy as np

from server.tensor import Tensor, TensorError, row_pieces, to_array
from server.wire import Answer

LABEL, PROBABILITY = "label", "probability"
RELATIVE, ABSOLUTE = 0.05, 1e-3
"""How far apart two numbers may be that count as the same."""


def agreement(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """On which part of their rows two answers say the same, 0 to 1; 0 where they have nothing in common."""
    theirs = {tensor.name: tensor for tensor in other}
    both = [(tensor, theirs[tensor.name]) for tensor in one if tensor.name in theirs]
    labels = [pair for pair in both if pair[0].name == LABEL]
    if not both:
        return 0.0
    try:
        same = np.logical_and.reduce([_same_rows(a, b) for a, b in labels or both])
    except (TensorError, ValueError):
        return 0.0
    return float(np.mean(same))


def confidence_shift(one: Answer, other: Answer) -> float | None:
    """How far apart the confidences of two answers are, averaged over their rows; None where they do not say."""
    mine, theirs = _confidence(one), _confidence(other)
    if not mine or len(mine) != len(theirs):
        return None
    return sum(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / len(mine)


def _same_rows(one: Tensor, other: Tensor) -> np.ndarray:
    if one.shape != other.shape:
        return np.zeros(1, bool)
    if one.datatype == "BYTES" or other.datatype == "BYTES":
        return np.array([a == b for a, b in zip(row_pieces(one), row_pieces(other), strict=True)])
    first, second = to_array(one), to_array(other)
    rows = first.shape[0] if first.ndim else 1
    if first.dtype.kind == "f":
        same = np.isclose(first, second, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    else:
        same = first == second
    return np.asarray(same.reshape(rows, -1).all(axis=1))


def _confidence(answer: Answer) -> Sequence[float]:
    if answer.confidence:
        return answer.confidence
    for tensor in answer.outputs:
        if tensor.name == PROBABILITY and tensor.datatype == "FP32":
            return [float(value) for value in to_array(tensor).ravel()]
    return ()
