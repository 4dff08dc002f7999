"""The inference protocol's parsing and formatting: what is accepted, and every reason to refuse."""

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import oip
from server.errors import BadRequest
from server.tensor import Tensor, decode_bytes, from_array, from_texts, to_array
from tests.tiny import tiny_manifest
from tickets.manifest import Tensor as Spec

TEXT = oip.Model(name="home", inputs=tiny_manifest().inputs, outputs=tiny_manifest().outputs, is_text=True)
NUMBERS = oip.Model(
    name="numbers",
    inputs=[
        Spec(name="a", datatype="INT32", shape=[-1, 2]),
        Spec(name="b", datatype="FP32", shape=[3]),
        Spec(name="c", datatype="BOOL", shape=[1]),
    ],
    outputs=[Spec(name="y", datatype="FP32", shape=[-1])],
)


def text_request(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["song", "rain"]} | changes
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


def parse(
    document: object, binary: bytes = b"", header: int | bytes | None = None, model: oip.Model = TEXT
) -> oip.Infer:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    if header is None and binary:
        header = len(head)
    length = str(header).encode() if isinstance(header, int) else header
    return oip.parse(head + binary, length, model)


def numbers(**changes: Any) -> dict[str, Any]:
    tensors = {
        "a": {"name": "a", "datatype": "INT32", "shape": [2, 2], "data": [1, 2, 3, 4]},
        "b": {"name": "b", "datatype": "FP32", "shape": [3], "data": [1, 2.5, -3]},
        "c": {"name": "c", "datatype": "BOOL", "shape": [1], "data": [True]},
    }
    for name, change in changes.items():
        tensors[name] |= change
    return {"inputs": list(tensors.values())}


@pytest.mark.parametrize("data", [["song", "rain"], [["song", "rain"]]])
def test_a_flat_text_list_is_the_only_form_for_one_dimension(data: list[Any]) -> None:
    """One dimension cannot be nested; a nested list must have the shape's form."""
    if isinstance(data[0], list):
        with pytest.raises(BadRequest, match="not nested as its shape says"):
            parse(text_request(data=data))
    else:
        assert decode_bytes(parse(text_request(data=data)).inputs[0].data, 2) == [b"song", b"rain"]


def test_nested_and_flat_numbers_mean_the_same() -> None:
    flat = parse(numbers(), model=NUMBERS).inputs
    nested = parse(numbers(a={"data": [[1, 2], [3, 4]]}), model=NUMBERS).inputs
    assert flat == nested
    assert [t.name for t in flat] == ["a", "b", "c"]
    assert to_array(flat[0]).tolist() == [[1, 2], [3, 4]]
    assert to_array(flat[1]).tolist() == [1.0, 2.5, -3.0]


def test_binary_and_json_inputs_mix_in_the_order_of_the_json() -> None:
    a, c = struct.pack("<4i", 1, 2, 3, 4), b"\x01"
    request = numbers()
    for index, raw in ((0, a), (2, c)):
        del request["inputs"][index]["data"]
        request["inputs"][index]["parameters"] = {"binary_data_size": len(raw)}
    assert parse(request, a + c, model=NUMBERS).inputs == parse(numbers(), model=NUMBERS).inputs


def test_binary_text_equals_json_text() -> None:
    raw = from_texts("text", ["song", "rain"]).data
    binary = parse(text_request(data=None, parameters={"binary_data_size": len(raw)}), raw)
    assert binary.inputs == parse(text_request()).inputs


def test_a_raw_binary_request_is_one_text_and_gets_every_output_as_binary() -> None:
    infer = parse(b"where is my song", header=0)
    assert infer.inputs == [from_texts("text", ["where is my song"])]
    assert infer.outputs == [(spec.name, True) for spec in TEXT.outputs]


def test_a_raw_binary_request_of_numbers_fills_the_variable_dimension() -> None:
    model = oip.Model(name="m", inputs=[Spec(name="a", datatype="INT32", shape=[-1, 2])], outputs=NUMBERS.outputs)
    assert parse(struct.pack("<6i", *range(6)), header=0, model=model).inputs[0].shape == [3, 2]
    with pytest.raises(BadRequest, match="multiple of 8"):
        parse(b"12345", header=0, model=model)
    with pytest.raises(BadRequest, match="one input"):
        parse(b"1234", header=0, model=NUMBERS)


def test_id_tier_deadline_and_timeout_are_read() -> None:
    infer = parse(text_request() | {"id": "x", "parameters": {"tier": "fast", "deadline_ms": 12.5, "other": [1]}})
    assert (infer.id, infer.tier, infer.deadline_ms) == ("x", "fast", 12.5)
    assert parse(text_request() | {"parameters": {"timeout": 2500}}).deadline_ms == 2.5
    assert parse(text_request() | {"parameters": {"timeout": 0}}).deadline_ms is None
    assert parse(text_request() | {"parameters": {"deadline_ms": 0}}).deadline_ms == 0


def test_priority_is_read_and_zero_is_the_default() -> None:
    assert parse(text_request()).priority is None
    assert parse(text_request() | {"parameters": {"priority": 0}}).priority is None
    assert parse(text_request() | {"parameters": {"priority": 1}}).priority == 1
    for wrong in (4, -1, 1.5, "1", True):
        with pytest.raises(BadRequest, match="priority"):
            parse(text_request() | {"parameters": {"priority": wrong}})


def test_outputs_are_all_unless_selected_and_binary_is_chosen_per_output() -> None:
    assert parse(text_request()).outputs == [(spec.name, False) for spec in TEXT.outputs]
    outputs = [{"name": "probability"}, {"name": "label", "parameters": {"binary_data": False}}]
    request = text_request() | {"outputs": outputs, "parameters": {"binary_data_output": True}}
    assert parse(request).outputs == [("probability", True), ("label", False)]


REFUSED: list[tuple[object, str]] = [
    (b"", "body is empty"),
    (b"{", "failed to parse"),
    (b"[]", "Expected `object`"),
    (b"[" * 100_000, "failed to parse"),
    (b'{"inputs": [{"name": "\xff"}]}', "failed to parse"),
    ({}, "missing required field `inputs`"),
    ({"inputs": {}}, r"\$\.inputs"),
    ({"inputs": []}, "expected 1 inputs but got 0"),
    ({"inputs": [{"name": 5}]}, r"\$\.inputs\[0\]\.name"),
    (text_request(shape=["2"]), r"\$\.inputs\[0\]\.shape\[0\]"),
    (text_request(shape=[-2]), r"\$\.inputs\[0\]\.shape\[0\]"),
    (text_request(shape=[2**40]), r"\$\.inputs\[0\]\.shape\[0\]"),
    (text_request(shape=[1] * 9), "length <= 8"),
    (text_request(shape=[3]), "needs 3, got 2"),
    (text_request(shape=[2, 1]), r"Expected \[-1\], got \[2, 1\]"),
    (text_request(shape=[]), r"Expected \[-1\], got \[\]"),
    (text_request(shape=[0], data=[]), "has 0 texts"),
    (text_request(shape=[129], data=["a"] * 129), "129 texts"),
    (text_request(datatype="INT32"), "data-type is 'INT32'"),
    (text_request(name="txt"), "unexpected inference input 'txt'"),
    (text_request(data="song"), "must be an array"),
    (text_request(data=[1, 2]), "must be strings"),
    (text_request(data=["song", None]), "must be strings"),
    (text_request(data=["song", " \n"]), r"text\[1\] is empty"),
    (text_request(data=["song", "a\0b"]), "NUL"),
    (text_request(data=["song", "a" * 16385]), "limit is 16384"),
    (text_request(data=None), "must have 'data' or the parameter"),
    (text_request(parameters={"binary_data_size": 4}), "both 'data' and 'binary_data_size'"),
    (text_request(data=None, parameters={"binary_data_size": -1}), "integer of 0 or more"),
    (text_request(data=None, parameters={"binary_data_size": True}), "integer of 0 or more"),
    (text_request(data=None, parameters={"binary_data_size": "4"}), "integer of 0 or more"),
    (text_request() | {"outputs": [{"name": "nope"}]}, "unexpected inference output 'nope'"),
    (text_request() | {"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, "true or false"),
    (text_request() | {"parameters": {"binary_data_output": "yes"}}, "true or false"),
    (text_request() | {"parameters": {"tier": 3}}, "parameters.tier must be a string"),
    (text_request() | {"parameters": {"deadline_ms": "5"}}, "parameters.deadline_ms must be a number"),
    (text_request() | {"parameters": {"deadline_ms": True}}, "parameters.deadline_ms must be a number"),
    (text_request() | {"parameters": {"deadline_ms": -1}}, "not negative"),
    (text_request() | {"parameters": {"timeout": -1}}, "not negative"),
    (text_request() | {"parameters": {"deadline_ms": 10**400}}, "out of range"),
    (text_request() | {"id": 5}, r"\$\.id"),
    ({"inputs": text_request()["inputs"] * 2}, "expected 1 inputs but got 2"),
]


@pytest.mark.parametrize(("document", "reason"), REFUSED)
def test_a_request_that_makes_no_sense_is_refused_with_the_reason(document: object, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        parse(document)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"abc", "Unable to parse Inference-Header-Content-Length, got: abc"),
        (b"1.5", "Unable to parse"),
        (b"", "Unable to parse"),
        (b"\xb2", "Unable to parse"),
        (b"-1", "should be in range"),
        (b"99999", "should be in range"),
    ],
)
def test_a_bad_header_length_is_refused(header: bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        parse(text_request(), header=header)


@pytest.mark.parametrize(
    ("size", "raw", "reason"),
    [
        (12, struct.pack("<I", 4) + b"song", "expecting 12 bytes, 8 are left"),
        (8, struct.pack("<I", 4) + b"songX", "1 bytes follow the last tensor"),
        (8, struct.pack("<I", 5) + b"song", "claims 5 bytes"),
        (8, struct.pack("<I", 3) + b"song", "1 bytes follow"),
        (3, b"abc", "inside a length prefix"),
        (0, b"", "inside a length prefix"),
        (6, struct.pack("<I", 2) + b"\xff\xfe", "not valid UTF-8"),
    ],
)
def test_binary_text_of_the_wrong_length_is_refused(size: int, raw: bytes, reason: str) -> None:
    request = text_request(shape=[1], data=None, parameters={"binary_data_size": size})
    head = json.dumps(request).encode()
    with pytest.raises(BadRequest, match=reason):
        oip.parse(head + raw, str(len(head)).encode(), TEXT)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"a": {"data": [1, 2, 3, 4.5]}}, "must be int values"),
        ({"a": {"data": [1, 2, 3, True]}}, "must be int values"),
        ({"a": {"data": [1, 2, 3, 2**31]}}, "does not fit INT32"),
        ({"a": {"data": [[1, 2], [3]]}}, "not nested"),
        ({"a": {"data": [[1, 2], 3]}}, "not nested"),
        ({"a": {"data": [[[1], [2]], [[3], [4]]]}}, "must be int values"),
        ({"a": {"shape": [2, 3], "data": [1] * 6}}, r"Expected \[-1, 2\]"),
        ({"b": {"data": [1, 2]}}, "needs 3, got 2"),
        ({"b": {"data": [1, 2, "3"]}}, "must be int or float values"),
        ({"c": {"data": [1]}}, "must be bool values"),
    ],
)
def test_numbers_of_the_wrong_type_or_form_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        parse(numbers(**changes), model=NUMBERS)


def test_binary_numbers_must_have_exactly_the_bytes_of_their_shape() -> None:
    request = numbers()
    del request["inputs"][1]["data"]
    request["inputs"][1]["parameters"] = {"binary_data_size": 8}
    with pytest.raises(BadRequest, match="8 bytes; its shape needs 12"):
        parse(request, bytes(8), model=NUMBERS)


def test_a_shape_may_not_claim_more_elements_than_could_ever_be_sent() -> None:
    with pytest.raises(BadRequest, match="too many elements"):
        parse(numbers(a={"shape": [2**30, 2]}), model=NUMBERS)


def test_bool_bytes_are_zero_or_one() -> None:
    request = numbers()
    del request["inputs"][2]["data"]
    request["inputs"][2]["parameters"] = {"binary_data_size": 1}
    with pytest.raises(BadRequest, match="neither 0 nor 1"):
        parse(request, b"\x02", model=NUMBERS)


def test_a_response_is_json_with_flat_data() -> None:
    outputs = [(from_texts("label", ["a", "b"]), False), (from_array("p", "FP32", np.eye(2)), False)]
    body, json_bytes = oip.render("7", ("home", "abc"), {"tier": "fast"}, outputs)
    assert json_bytes is None
    assert json.loads(body) == {
        "model_name": "home",
        "model_version": "abc",
        "id": "7",
        "parameters": {"tier": "fast"},
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
            {"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 0.0, 0.0, 1.0]},
        ],
    }


def test_a_mixed_response_puts_binary_outputs_after_the_json_in_order() -> None:
    label, p = from_texts("label", ["a"]), from_array("p", "FP32", np.ones(1))
    body, json_bytes = oip.render("7", ("home", "abc"), {}, [(label, True), (p, False), (p, True)])
    head = json.loads(body[:json_bytes])
    assert [o.get("parameters") for o in head["outputs"]] == [{"binary_data_size": 5}, None, {"binary_data_size": 4}]
    assert body[json_bytes:] == label.data + p.data


def test_an_output_that_json_cannot_carry_is_refused() -> None:
    with pytest.raises(BadRequest, match="binary_data true"):
        oip.render("", ("m", "v"), {}, [(Tensor("x", "BYTES", [1], b"\1\0\0\0\xff"), False)])


@given(st.binary(max_size=200), st.one_of(st.none(), st.binary(max_size=4)))
def test_no_body_and_header_can_do_worse_than_a_refusal(body: bytes, header: bytes | None) -> None:
    for model in (TEXT, NUMBERS):
        with contextlib.suppress(BadRequest):
            oip.parse(body, header, model)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.lists(st.integers(-2, 2**33), max_size=3), JSON)
def test_no_data_shape_or_parameters_can_do_worse_than_a_refusal(data: Any, shape: list[int], parameters: Any) -> None:
    request = numbers(a={"data": data, "shape": shape})
    request["parameters"] = parameters
    for document, model in ((request, NUMBERS), (text_request(data=data, shape=shape), TEXT)):
        with contextlib.suppress(BadRequest):
            parse(document, model=model)


def test_numbers_that_are_not_finite_are_null_in_json_and_themselves_in_binary() -> None:
    tensor = from_array("y", "FP32", np.array([np.nan, np.inf, 1.5], np.float32))
    body, json_bytes = oip.render("1", ("own", "0"), {}, [(tensor, False), (tensor, True)])
    assert json_bytes is not None
    outputs = json.loads(body[:json_bytes])["outputs"]
    assert outputs[0]["data"] == [None, None, 1.5]
    assert body[json_bytes:] == tensor.data
