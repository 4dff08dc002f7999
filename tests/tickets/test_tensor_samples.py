"""Samples of tickets of tensors: written, read and compared; whatever is no sample of this ticket is refused."""

import json
import math
from typing import Any

import numpy as np
import pytest

from tests import models
from tests.models import MLP_CASE, MLP_MANIFEST, tensor, tensors_bundle, tensors_manifest
from tickets.bundle import BundleError, pack, parse
from tickets.tensor_reference import TensorReference, reproduce, reproduce_cases
from tickets.tensor_samples import Recorded, compare, encode_cases, read_cases, to_array


def test_what_is_written_is_read_again() -> None:
    (case,) = read_cases(tensors_bundle(MLP_MANIFEST, models.mlp(), [MLP_CASE]))
    for mine, read in ((MLP_CASE.inputs, case.inputs), (MLP_CASE.outputs, case.outputs)):
        for name, array in mine.items():
            np.testing.assert_array_equal(array, read[name])
            assert array.dtype == read[name].dtype


def test_numbers_that_are_not_finite_survive() -> None:
    x = np.array([[math.nan, math.inf], [-math.inf, 1.5]], np.float32)
    manifest = tensors_manifest([tensor("x", "FP32", -1, 2)], [tensor("y", "FP32", -1, 2)])
    bundle = tensors_bundle(manifest, models.identity(1), [Recorded(inputs={"x": x}, outputs={"y": x})])
    np.testing.assert_array_equal(read_cases(bundle)[0].inputs["x"], x)
    assert reproduce(bundle) == 1


def test_a_ticket_reproduces_what_was_recorded_and_nothing_else() -> None:
    assert reproduce(tensors_bundle(MLP_MANIFEST, models.mlp(), [MLP_CASE])) == 1
    lie = Recorded(inputs=MLP_CASE.inputs, outputs=MLP_CASE.outputs | {"scores": np.ones((2, 2), np.float32)})
    with pytest.raises(BundleError, match=r"case 1.*scores.*differs") as caught:
        reproduce(tensors_bundle(MLP_MANIFEST, models.mlp(), [MLP_CASE, lie]))
    assert caught.value.code == "bad_samples"


def case(y: Any, dtype: Any = np.float32) -> Recorded:
    return Recorded(inputs={}, outputs={"y": np.asarray(y, dtype)})


@pytest.mark.parametrize(
    ("recorded", "got", "agrees"),
    [
        (case([1000.0, 1.0]), np.array([1000.9, 1.0], np.float32), True),
        (case([1000.0, 1.0]), np.array([1002.0, 1.0], np.float32), False),
        (case([0.001]), np.array([0.00100001], np.float32), True),
        (case([0.001]), np.array([0.0011], np.float32), False),
        (case([1e-9]), np.array([2e-9], np.float32), True),
        (case([1.0, 0.0], np.float16), np.array([1.005, 0.0], np.float16), True),
        (case([3], np.int64), np.array([3]), True),
        (case([3], np.int64), np.array([4]), False),
        (case(["a"], object), np.array(["a"], object), True),
        (case(["a"], object), np.array(["b"], object), False),
        (case([math.nan]), np.array([math.nan], np.float32), True),
        (case([math.nan]), np.array([1.0], np.float32), False),
        (case([1.0]), np.array([math.nan], np.float32), False),
        (case([math.inf]), np.array([-math.inf], np.float32), False),
        (case([[1.0]]), np.array([1.0], np.float32), False),
    ],
)
def test_when_an_answer_counts_as_the_recorded_one(recorded: Recorded, got: Any, agrees: bool) -> None:
    if agrees:
        compare(recorded, {"y": got})
    else:
        with pytest.raises(ValueError, match="output 'y'"):
            compare(recorded, {"y": got})


def document(**changes: Any) -> dict[str, Any]:
    """A good samples.json of the MLP with one ask, changed."""
    good = {
        "inputs": [
            {"name": "ages", "shape": [1, 1], "data": [3.0]}, {"name": "incomes", "shape": [1, 2], "data": [1, 2]},
        ],
        "outputs": [
            {"name": "class", "shape": [1], "data": [1]}, {"name": "scores", "shape": [1, 2], "data": [2, 3]},
        ],
    }  # fmt: skip
    return {"cases": [good | changes]}


def ages(**changes: Any) -> dict[str, Any]:
    inputs = document()["cases"][0]["inputs"]
    return document(inputs=[inputs[0] | changes, inputs[1]])


@pytest.mark.parametrize(
    "samples",
    [
        {}, {"cases": []}, {"cases": [{}]}, document() | {"more": 1}, document(outputs=[]), document(inputs=[]),
        document(inputs=document()["cases"][0]["inputs"][:1]), ages(name="age"), ages(shape=[2, 1]), ages(shape=[1]),
        ages(data=[True]), ages(data=["x"]), ages(data=[None]), ages(shape=[1, -1]), ages(data=[[3.0]]),
        ages(shape=[1, 1 << 40]), {"cases": document()["cases"] * 65}, ages(datatype="FP32"),
        document(outputs=[{"name": "class", "shape": [1], "data": [1.5]}, document()["cases"][0]["outputs"][1]]),
        document(outputs=[{"name": "class", "shape": [1], "data": [1 << 70]}, document()["cases"][0]["outputs"][1]]),
    ],
)  # fmt: skip
def test_samples_that_are_wrong_are_refused(samples: dict[str, Any]) -> None:
    members = {"model.onnx": models.mlp(), "samples.json": json.dumps(samples).encode()}
    with pytest.raises(BundleError) as caught:
        read_cases(parse(pack(MLP_MANIFEST, members)))
    assert caught.value.code == "bad_samples"


def test_good_samples_are_good() -> None:
    """The document that the cases above change."""
    members = {"model.onnx": models.mlp(), "samples.json": json.dumps(document()).encode()}
    assert reproduce(parse(pack(MLP_MANIFEST, members))) == 1


def test_more_elements_than_may_travel_are_refused() -> None:
    x = np.zeros((600, 1000), np.float32)
    manifest = tensors_manifest([tensor("x", "FP32", -1, -1)], [tensor("y", "FP32", -1, -1)])
    members = {
        "model.onnx": models.lengths(),
        "samples.json": encode_cases([Recorded(inputs={"x": x}, outputs={"y": x})]),
    }
    with pytest.raises(BundleError, match="elements"):
        read_cases(parse(pack(manifest, members)))


def test_a_bundle_without_samples_says_so() -> None:
    bundle = tensors_bundle(MLP_MANIFEST, models.mlp())
    with pytest.raises(BundleError, match=r"no samples\.json"):
        reproduce_cases(TensorReference(bundle))


def test_a_value_that_does_not_fit_its_type_is_refused() -> None:
    with pytest.raises(ValueError, match="x"):
        to_array(tensor("x", "UINT8", 1), [1], [256])


@pytest.mark.parametrize(
    "graph", [b"", models.fixed(), models.words(), models.mlp()[:-30]], ids=["empty", "other", "texts", "cut"]
)
def test_a_graph_that_is_not_the_manifests_is_refused(graph: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        TensorReference(tensors_bundle(MLP_MANIFEST, graph))
    assert caught.value.code == "bad_graph"
