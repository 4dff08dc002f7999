"""A pattern survives export: recorded, exact in fp32 and int8, checked from the file alone, and the file runs."""

from collections.abc import Mapping

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from tickets.factory.encoder import Classifier, Shape
from tickets.factory.graph import Range, build_fp32, build_int8
from tickets.factory.lottery.onnx_zeros import MATRICES, PATTERN, check_graph, record_pattern, zero_share
from tickets.factory.lottery.patterns import Pattern, PatternError, mask_of, parse_pattern
from tickets.onnx_reader import describe

pytestmark = [pytest.mark.torch]

Weights = Mapping[str, NDArray[np.float32]]
SHAPE = Shape(
    vocabulary=40, hidden=64, head_size=32, heads=(2, 1), neurons=(96, 64), sources=(0, 1), positions=16, rank=0
)
RANGES = {f"layers.{i}.{part}": Range(0.05, 128) for i in range(2) for part in ("qkv", "out", "up", "down")}
MASKED = [f"{name}.weight" for name in RANGES]
FORMS = ["fp32", "int8"]


def masked_weights(pattern: Pattern) -> dict[str, NDArray[np.float32]]:
    """Random weights of a small encoder, its matrices pruned."""
    torch.manual_seed(3)
    weights = {name: value.numpy() for name, value in Classifier(SHAPE, 3).state_dict().items()}
    for name in MASKED:
        weights[name] = weights[name] * mask_of(weights[name], pattern, name)
    return weights


def graph_of(weights: Weights, form: str) -> bytes:
    return build_fp32(SHAPE, weights) if form == "fp32" else build_int8(SHAPE, weights, RANGES, "vnni")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["2:4", "1:4", "4:8", "block:16x16@0.5", "block:32x1@0.25", "any@0.1"])
def test_a_pattern_is_recorded_and_holds_exactly(text: str, form: str) -> None:
    """Every pruned weight is zero in the file, in fp32 and in int8; the record names pattern and matrices."""
    pattern = parse_pattern(text)
    weights = masked_weights(pattern)
    graph = record_pattern(graph_of(weights, form), weights, MASKED, pattern)

    recorded = check_graph(graph)

    assert recorded.pattern == pattern
    assert list(recorded.matrices) == MASKED
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(graph).graph.initializer}
    for parameter, name in recorded.matrices.items():
        assert held[name].dtype == (np.float32 if form == "fp32" else np.int8)
        assert not held[name][weights[parameter].T == 0].any(), parameter
    assert zero_share(graph) >= 1 - pattern.density - 0.01


@pytest.mark.parametrize("form", FORMS)
def test_a_recorded_graph_answers_as_before_and_reads_as_a_ticket(form: str) -> None:
    """Metadata changes no answer, and the reader of bundles takes the file."""
    pattern = parse_pattern("2:4")
    weights = masked_weights(pattern)
    plain = graph_of(weights, form)
    recorded = record_pattern(plain, weights, MASKED, pattern)
    ids = np.array([[2, 7, 9, 3], [2, 11, 3, 0]], np.int32)
    before, after = (
        onnxruntime.InferenceSession(g, providers=["CPUExecutionProvider"]).run(None, {"input_ids": ids})[0]
        for g in (plain, recorded)
    )
    np.testing.assert_array_equal(before, after)
    assert describe(recorded).outputs == describe(plain).outputs


@pytest.mark.parametrize("form", FORMS)
def test_a_value_in_a_wrong_place_is_found_and_named(form: str) -> None:
    """One weight brought back in the file breaks the check, by parameter and place."""
    pattern = parse_pattern("2:4")
    weights = masked_weights(pattern)
    graph = record_pattern(graph_of(weights, form), weights, MASKED, pattern)
    model = onnx.load_from_string(graph)
    name = check_graph(graph).matrices["layers.1.up.weight"]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values[8:12, 5] = 1  # [in, out]: output 5, inputs 8 to 11
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    with pytest.raises(PatternError, match=r"layers\.1\.up\.weight: row 5, columns 8 to 11: 4 weights stay"):
        check_graph(model.SerializeToString())


def test_weights_that_break_the_pattern_are_not_recorded() -> None:
    """An unstructured half is no 2:4, however many zeros it has."""
    weights = masked_weights(parse_pattern("any@0.5"))
    with pytest.raises(PatternError, match=r"layers\.0\.qkv\.weight: row \d+, columns"):
        record_pattern(build_fp32(SHAPE, weights), weights, MASKED, parse_pattern("2:4"))


def test_a_graph_of_other_weights_is_not_recorded() -> None:
    """The matrices are found by what they hold: those of another model are not there."""
    pattern = parse_pattern("2:4")
    weights = masked_weights(pattern)
    other = dict(weights) | {"layers.0.up.weight": -weights["layers.0.up.weight"][::-1]}
    for form in FORMS:
        with pytest.raises(PatternError, match=r"layers\.0\.up\.weight: the graph holds no such matrix"):
            record_pattern(graph_of(weights, form), other, MASKED, pattern)


@pytest.mark.parametrize(
    ("props", "says"),
    [
        ({}, "records no pattern"),
        ({PATTERN: "2:4"}, "records no pattern"),
        ({PATTERN: "some", MATRICES: "{}"}, "cannot be read: cannot read pattern 'some'"),
        ({PATTERN: "2:4", MATRICES: "["}, "cannot be read"),
        ({PATTERN: "2:4", MATRICES: '{"layers.0.up.weight": "gone"}'}, "the graph has no matrix 'gone'"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_refused(props: dict[str, str], says: str) -> None:
    """No record, half of one, one that cannot be read, one of matrices that are not there."""
    model = onnx.load_from_string(build_fp32(SHAPE, masked_weights(parse_pattern("2:4"))))
    onnx.helper.set_model_props(model, props)
    with pytest.raises(PatternError, match=says):
        check_graph(model.SerializeToString())
