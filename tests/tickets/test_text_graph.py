"""Which graphs classify texts: by the names, types and shapes of what they take and give."""

import numpy as np
import pytest

from tickets.onnx_reader import Value
from tickets.text_graph import IDS, LOGITS, MASK, TYPES, TextForm, text_form

TOKENS: list[int | str] = ["batch", "sequence"]


def value(name: str, datatype: str = "INT64", dims: list[int | str] | None = TOKENS) -> Value:
    return Value(name=name, datatype=datatype, dims=dims)


def logits(name: str = LOGITS, datatype: str = "FP32", dims: list[int | str] | None = None) -> Value:
    return value(name, datatype, dims or ["batch", 4])


def test_our_own_form_is_plain() -> None:
    form = text_form([value(IDS, "INT32")], [logits()], 4)
    assert form.is_plain
    assert form.output == LOGITS


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([value(IDS)], [logits()]),
        ([value(MASK), value(IDS)], [logits("output_0")]),
        ([value(IDS), value(MASK, "INT32"), value(TYPES)], [logits(), value("hidden", "FP32")]),
        ([value(IDS, dims=None)], [logits(dims=["batch", "n"])]),
    ],
)
def test_exported_forms_are_taken(inputs: list[Value], outputs: list[Value]) -> None:
    form = text_form(inputs, outputs, 4)
    assert not form.is_plain
    assert form.inputs == {one.name: one.datatype for one in inputs}


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ([], [logits()], "must take input_ids"),
        ([value(MASK)], [logits()], "must take input_ids"),
        ([value(IDS), value("position_ids")], [logits()], "position_ids"),
        ([value(IDS), value(IDS)], [logits()], "must take input_ids"),
        ([value(IDS, "FP32")], [logits()], "FP32"),
        ([value(IDS, dims=["batch"])], [logits()], "texts, tokens"),
        ([value(IDS, dims=["batch", 128])], [logits()], "variable"),
        ([value(IDS, dims=[1, "sequence"])], [logits()], "variable"),
        ([value(IDS)], [], "must give logits"),
        ([value(IDS)], [logits("a"), logits("b")], "one output only"),
        ([value(IDS)], [logits(datatype="FP16")], "fp32"),
        ([value(IDS)], [logits(dims=["batch"])], "fp32"),
        ([value(IDS)], [logits(dims=["batch", 5])], "5 logits"),
    ],
)
def test_other_graphs_are_refused_with_what_does_not_fit(inputs: list[Value], outputs: list[Value], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        text_form(inputs, outputs, 4)


def test_the_mask_is_one_for_tokens_and_zero_for_padding() -> None:
    ids = np.array([[5, 6, 0], [7, 0, 0]], np.int32)
    feeds = TextForm(inputs={IDS: "INT64", MASK: "INT32", TYPES: "INT64"}, output=LOGITS).feeds(ids, [2, 1])
    assert {name: array.dtype.name for name, array in feeds.items()} == {IDS: "int64", MASK: "int32", TYPES: "int64"}
    assert feeds[MASK].tolist() == [[1, 1, 0], [1, 0, 0]]
    assert feeds[IDS].tolist() == ids.tolist()
    assert not feeds[TYPES].any()
