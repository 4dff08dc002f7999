"""When two answers say the same."""

import numpy as np
import pytest

from server.comparison import agreement, confidence_shift
from server.tensor import Tensor, from_array, from_texts
from server.wire import Answer


def test_labels_decide_where_there_are_any() -> None:
    one = [from_texts("label", ["a", "b", "c", "d"]), from_array("probability", "FP32", np.ones(4))]
    other = [from_array("probability", "FP32", np.zeros(4)), from_texts("label", ["a", "x", "c", "x"])]
    assert agreement(one, other) == 0.5


@pytest.mark.parametrize(("difference", "same"), [(0.0, 1.0), (0.04, 1.0), (0.2, 0.5)])
def test_other_numbers_are_the_same_within_a_tolerance_row_by_row(difference: float, same: float) -> None:
    base = np.array([[1.0, 2.0], [3.0, 4.0]])
    moved = base + np.array([[0.0, 0.0], [0.0, 4.0 * difference]])
    assert agreement([from_array("y", "FP32", base)], [from_array("y", "FP32", moved)]) == same


def test_whole_numbers_and_texts_are_the_same_or_not() -> None:
    one = [from_array("n", "INT64", np.array([1, 2])), from_texts("t", ["x", "y"])]
    other = [from_array("n", "INT64", np.array([1, 2])), from_texts("t", ["x", "z"])]
    assert agreement(one, other) == 0.5


@pytest.mark.parametrize(
    "other",
    [
        [],
        [from_array("another", "FP32", np.ones(2))],
        [from_array("y", "FP32", np.ones(3))],
        [Tensor("y", "FP32", [2], b"short")],
    ],
)
def test_nothing_in_common_is_no_agreement(other: list[Tensor]) -> None:
    assert agreement([from_array("y", "FP32", np.ones(2))], other) == 0.0


def test_a_scalar_is_one_row() -> None:
    scalar = Tensor("y", "FP32", [], np.float32(1.0).tobytes())
    assert agreement([scalar], [scalar]) == 1.0


def answer(confidence: list[float], *outputs: Tensor) -> Answer:
    return Answer(1, list(outputs), 0.0, 0.0, 1, 0.0, confidence)


def test_confidence_is_what_the_worker_says_else_the_probability() -> None:
    assert confidence_shift(answer([0.9, 0.5]), answer([0.7, 0.6])) == pytest.approx(0.15)
    spoken = from_array("probability", "FP32", np.array([0.7, 0.5]))
    assert confidence_shift(answer([0.9, 0.5]), answer([], spoken)) == pytest.approx(0.1)
    assert confidence_shift(answer([]), answer([])) is None
    assert confidence_shift(answer([0.5]), answer([0.5, 0.5])) is None
