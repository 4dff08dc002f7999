"""Tickets of any tensors take the same steps: their recorded cases are answered again, their shapes looked at."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from routing.account import Policy
from tests.server.gate.bundles import bundle, examine_bytes, graph
from tickets.manifest import Tensor
from tickets.tensor_samples import Recorded, encode_cases

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.array([[1], [2]], np.int64)


def mlp(*, recorded_offset: float = 0.0, **manifest: Any) -> bytes:
    """Two inputs, two outputs: a * 2 and a + b."""
    model = graph(
        [
            helper.make_node("Mul", ["a", "two"], ["doubled"]),
            helper.make_node("Cast", ["b"], ["b_float"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["a", "b_float"], ["sums"]),
        ],
        initializers=((np.array(2, np.float32), "two"),),
        inputs=[
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("b", TensorProto.INT64, ["batch", 1]),
        ],
        outputs=[
            helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["batch", 3]),
        ],
    )
    case = Recorded(inputs={"a": A, "b": B}, outputs={"doubled": A * 2 + recorded_offset, "sums": A + B})
    fields = {
        "task": "tensors",
        "inputs": [Tensor(name="a", datatype="FP32", shape=[-1, 3]), Tensor(name="b", datatype="INT64", shape=[-1, 1])],
        "outputs": [Tensor(name=name, datatype="FP32", shape=[-1, 3]) for name in ("doubled", "sums")],
    }
    return bundle(model=model, samples=encode_cases([case]), **(fields | manifest))


async def test_a_graph_of_tensors_is_accepted(tmp_path: Path) -> None:
    steps, report = await examine_bytes(mlp(), tmp_path)
    assert report.accepted, report.message
    assert {step.name: step.detail for step in steps}["samples"].startswith("1 cases")
    assert report.service_ms > 0


async def test_a_case_that_is_answered_otherwise_is_refused(tmp_path: Path) -> None:
    _, report = await examine_bytes(mlp(recorded_offset=0.5), tmp_path)
    assert report.refusal == "samples_differ"
    assert "case 0: output 'doubled' differs by 0.5" in report.message


async def test_a_manifest_of_another_shape_is_refused(tmp_path: Path) -> None:
    inputs = [Tensor(name="a", datatype="FP32", shape=[-1, 4]), Tensor(name="b", datatype="INT64", shape=[-1, 1])]
    _, report = await examine_bytes(mlp(inputs=inputs), tmp_path)
    assert report.refusal == "manifest_mismatch"


async def test_texts_as_evidence_say_nothing_of_tensors(tmp_path: Path) -> None:
    _, report = await examine_bytes(mlp(), tmp_path, policy=Policy(requires_evidence=True))
    assert report.refusal == "gate_failed"
