"""Opening: from a bundle to a task that has run, for every kind of ticket, or the reason why not."""

import json

import numpy as np
import pytest

from server.opening import MIN_BYTES, LoadError, Opened, open_ticket
from server.sharing import Shared
from server.tensors_task import TensorsTask
from tests import models
from tests.models import MLP_CASE, MLP_MANIFEST, tensor, tensors_bundle, tensors_manifest
from tests.tiny import tiny_manifest, tiny_tokenizer
from tickets.bundle import Bundle, pack, parse
from tickets.tensor_samples import Recorded

WHOLE_ASKS = tensors_manifest([tensor("x", "FP32", 2, 3)], [tensor("y", "FP32", 3)])


def opened(bundle: Bundle) -> Opened:
    return open_ticket(bundle, ["CPUExecutionProvider"], Shared(lambda: 0))


def test_a_ticket_of_tensors_is_opened_run_and_measured() -> None:
    got = opened(tensors_bundle(MLP_MANIFEST, models.mlp(), [MLP_CASE]))
    assert isinstance(got.task, TensorsTask)
    assert got.cost.of(1, 1) > 0
    assert got.own_bytes >= MIN_BYTES


def test_an_exported_encoder_is_opened_run_and_measured() -> None:
    members = {"model.onnx": models.exported(), "tokenizer.json": tiny_tokenizer()}
    got = opened(parse(pack(tiny_manifest(), members)))
    assert got.task.max_size == 64
    assert got.cost.of(8, 16) > 0


def bad_samples() -> Bundle:
    members = {"model.onnx": models.mlp(), "samples.json": json.dumps({"texts": ["a"], "labels": ["b"]}).encode()}
    return parse(pack(MLP_MANIFEST, members))


def crashes_on_its_samples() -> Bundle:
    """The graph looks up row 5 of a table of three."""
    from onnx import TensorProto, helper

    graph = models.model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        {"x": (TensorProto.INT64, ["n"])}, {"y": (TensorProto.FLOAT, ["n"])}, table=np.zeros(3, np.float32),
    )  # fmt: skip
    manifest = tensors_manifest([tensor("x", "INT64", -1)], [tensor("y", "FP32", -1)])
    case = Recorded(inputs={"x": np.array([5])}, outputs={"y": np.zeros(1, np.float32)})
    return tensors_bundle(manifest, graph, [case])


@pytest.mark.parametrize(
    ("bundle", "says"),
    [
        (tensors_bundle(WHOLE_ASKS, models.mlp()), "the manifest says"),
        (tensors_bundle(WHOLE_ASKS, b"no graph"), "cannot open the graph"),
        (bad_samples(), "does not decode"),
        (crashes_on_its_samples(), "idx=5"),
    ],
)
def test_what_cannot_be_served_says_why(bundle: Bundle, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        opened(bundle)
