"""ONNX files read without ONNX: the same inputs and outputs as ONNX itself tells, and an error for anything else."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests import models
from tests.tiny import tiny_onnx
from tickets.onnx_reader import DATATYPES, OnnxError, Value, describe, only_known

MODELS = [
    models.mlp(), models.fixed(), models.words(), models.lengths(), models.positions(), models.exported(), tiny_onnx()
]  # fmt: skip


def told_by_onnx(model: bytes) -> tuple[list[tuple[str, list[object]]], list[tuple[str, list[object]]]]:
    graph = onnx.load_from_string(model).graph

    def ports(values: object) -> list[tuple[str, list[object]]]:
        return [
            (value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
            for value in values  # type: ignore[attr-defined]
        ]

    return ports(graph.input), ports(graph.output)


@pytest.mark.parametrize("model", MODELS)
def test_it_reads_what_onnx_reads(model: bytes) -> None:
    described = describe(model)
    inputs, outputs = told_by_onnx(model)
    assert [(value.name, value.dims) for value in described.inputs] == inputs
    assert [(value.name, value.dims) for value in described.outputs] == outputs
    assert described.opsets[""] == 17


@pytest.mark.parametrize(("number", "datatype"), DATATYPES.items())
def test_every_type_has_the_protocols_name(number: int, datatype: str) -> None:
    (value,) = describe(models.identity(number)).inputs
    assert value.datatype == datatype
    assert value.shape == [-1, 2]


def built(inputs: list[onnx.ValueInfoProto], *initializers: onnx.TensorProto) -> bytes:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", inputs, [], list(initializers))
    return bytes(helper.make_model(graph).SerializeToString())


def test_an_input_with_a_default_need_not_be_given() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, [2])
    model = built([x, w], numpy_helper.from_array(np.ones(2, np.float32), "w"))
    assert [value.name for value in describe(model).inputs] == ["x"]


def test_what_is_no_tensor_or_has_no_shape_says_so() -> None:
    unknown = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    (value,) = describe(built([unknown])).inputs
    assert value.dims is None
    with pytest.raises(OnnxError, match="how many dimensions"):
        _ = value.shape
    for odd in (
        helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["n"]),
        helper.make_tensor_value_info("x", TensorProto.COMPLEX64, ["n"]),
    ):
        with pytest.raises(OnnxError, match="can be served"):
            only_known(describe(built([odd])).inputs)


def test_dimensions_without_a_size_vary() -> None:
    assert Value(name="x", datatype="FP32", dims=["n", "", 0, 3]).shape == [-1, -1, -1, 3]


def test_two_graphs_in_one_file_are_refused() -> None:
    """Readers that merge them and readers that take the last would see different models."""
    with pytest.raises(OnnxError, match="two graphs"):
        describe(models.mlp() + models.fixed())


def test_a_crowd_of_inputs_is_refused() -> None:
    crowd = [helper.make_tensor_value_info(f"x{k}", TensorProto.FLOAT, ["n"]) for k in range(5000)]
    with pytest.raises(OnnxError, match="more than"):
        describe(built(crowd))


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x3a\x05ab", b"\xff" * 30])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(OnnxError):
        describe(data)


@settings(max_examples=200)
@given(st.sampled_from(MODELS), st.integers(0, 400), st.binary(min_size=1, max_size=8), st.booleans())
def test_a_damaged_model_is_described_or_refused_never_worse(model: bytes, at: int, junk: bytes, cut: bool) -> None:
    at %= len(model)
    damaged = model[:at] + junk if cut else model[:at] + junk + model[at + len(junk) :]
    try:
        for value in describe(damaged).inputs:
            assert isinstance(value.name, str)
    except OnnxError:
        pass
