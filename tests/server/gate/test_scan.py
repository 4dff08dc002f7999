"""The static scan: what it counts, and what it refuses that other readers of protobuf would let pass."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.gate.operators import REFUSED
from server.gate.scan import MAX_DEPTH, ScanError, scan
from tests.fuzz.fuzz_scan import varint
from tests.server.gate.bundles import graph, tiny_model
from tests.tiny import tiny_onnx


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def test_a_sound_graph_is_counted() -> None:
    found = scan(tiny_onnx())
    assert (found.nodes, found.subgraphs, found.initializers) == (7, 0, 3)
    assert found.initializer_bytes == 12 * 4 * 4 + 8 + 4
    assert found.opsets == {"ai.onnx": 17}
    assert found.operators == ["Cast", "Div", "Equal", "Gather", "Not", "ReduceSum"]
    assert found.tables == {"input_ids": 12}


def nested(depth: int) -> bytes:
    inner = helper.make_node("Identity", ["condition"], [f"y{depth}"])
    for level in range(depth, 0, -1):
        outputs = [helper.make_tensor_value_info(f"y{level}", TensorProto.BOOL, [])]
        branch = helper.make_graph([inner], "branch", [], outputs)
        inner = helper.make_node("If", ["condition"], [f"y{level - 1}"], then_branch=branch, else_branch=branch)
    return graph(
        [inner, helper.make_node("Cast", ["y0"], ["logits"], to=1)],
        inputs=[helper.make_tensor_value_info("condition", TensorProto.BOOL, [])],
    )


def test_if_may_hold_subgraphs_that_see_what_stands_before() -> None:
    assert scan(nested(2)).subgraphs == 2 + 4
    assert scan(nested(MAX_DEPTH)).subgraphs
    with pytest.raises(ScanError, match="deeper"):
        scan(nested(MAX_DEPTH + 1))


def test_loops_pass_only_where_an_operator_allows_them() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c", 9, [])],
        [helper.make_tensor_value_info("d", 9, [])],
    )
    nodes = [
        helper.make_node("Loop", ["n", ""], [], body=body),
        helper.make_node("Cast", ["input_ids"], ["logits"], to=1),
    ]
    model = graph(nodes, initializers=((np.array(3), "n"),))
    with pytest.raises(ScanError, match="an operator can allow it"):
        scan(model)
    assert scan(model, allows_loops=True).operators == ["Cast", "Identity", "Loop"]


def test_a_subgraph_belongs_to_if_alone() -> None:
    model = tiny_model()
    attribute = helper.make_attribute("body", helper.make_graph([], "g", [], []))
    model.graph.node[0].attribute.append(attribute)
    with pytest.raises(ScanError, match="only If"):
        scan(model.SerializeToString())


@pytest.mark.parametrize("operator", REFUSED)
def test_operators_that_reach_out_are_refused_in_every_domain(operator: str) -> None:
    for domain in ("", "ai.onnx", "com.microsoft", "ai.onnx.ml"):
        model = tiny_model()
        model.graph.node.insert(0, helper.make_node(operator, ["input_ids"], ["x"], domain=domain))
        if domain not in ("", "ai.onnx"):
            model.opset_import.add(domain=domain, version=1)
        with pytest.raises(ScanError, match=operator):
            scan(model.SerializeToString())


def test_both_names_of_onnxs_own_domain_are_one() -> None:
    model = tiny_model()
    model.opset_import.add(domain="ai.onnx", version=18)
    with pytest.raises(ScanError, match="twice"):
        scan(model.SerializeToString())


def test_a_domain_must_be_imported() -> None:
    model = tiny_model()
    model.graph.node.insert(0, helper.make_node("Gelu", ["input_ids"], ["x"], domain="com.microsoft"))
    with pytest.raises(ScanError, match="does not import"):
        scan(model.SerializeToString())


@pytest.mark.parametrize("location", [1, 2, 1 << 32 | 1, (1 << 64) - 1])
def test_data_in_another_file_is_seen_however_it_is_written(location: int) -> None:
    """Readers cut an enumeration to 32 bits: 2^32 + 1 is EXTERNAL to them."""
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]).SerializeToString()
    model = tiny_model()
    data = model.SerializeToString()
    appended = field(7, field(5, tensor + field(14, location)))
    model.ClearField("graph")
    with pytest.raises(ScanError, match="another file"):
        scan(model.SerializeToString() + appended)
    assert scan(data)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (field(7, b""), "twice"),
        (field(9, b""), "unknown"),
        (field(25, b""), "functions"),
        (field(20, b""), "training"),
        (field(1, b"\x08"), "a way that is not its own"),
        (field(8, field(1, b"") + field(2, 17)), "imported twice"),
        (b"\x0b", "not an ONNX model"),
        (b"\xff", "not an ONNX model"),
        (field(2, b"\xff\xfe") + b"\x80" * 11, "not an ONNX model"),
    ],
)
def test_what_readers_differ_about_is_refused(extra: bytes, words: str) -> None:
    with pytest.raises(ScanError, match=words):
        scan(tiny_onnx() + extra)


def initializer(**parts: Any) -> bytes:
    """The tiny graph with one more tensor, of these fields."""
    model = tiny_model()
    model.graph.initializer.append(onnx.TensorProto(name="w", **parts))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"data_type": 1, "dims": [2], "raw_data": b"1234"}, "claims 2 elements and holds 4 bytes"),
        ({"data_type": 1, "dims": [2], "float_data": [1.0]}, "claims 2 elements and holds 1 at most"),
        ({"data_type": 11, "dims": [3], "double_data": [1.0, 2.0]}, "holds 2 at most"),
        ({"data_type": 7, "dims": [5], "int64_data": [1, 1]}, "holds 2 at most"),
        ({"data_type": 8, "dims": [2], "string_data": [b"a"]}, "claims 2 strings and holds 1"),
        ({"data_type": 99, "dims": [1], "raw_data": b"1"}, "unknown type"),
        ({"data_type": 1, "dims": [1] * 65, "raw_data": b"1234"}, "more than 64 dimensions"),
        ({"data_type": 1, "dims": [1], "segment": {"begin": 0}, "raw_data": b"1234"}, "segments"),
    ],
)
def test_a_tensor_holds_what_it_claims(parts: dict[str, object], words: str) -> None:
    with pytest.raises(ScanError, match=words):
        scan(initializer(**parts))


@pytest.mark.parametrize("kind", ["float32", "float64", "int8", "uint8", "int32", "int64", "bool", "float16"])
def test_tensors_of_every_usual_type_pass_in_both_forms(kind: str) -> None:
    array = np.ones((3, 5), kind)
    model = tiny_model()
    model.graph.initializer.append(numpy_helper.from_array(array, "raw"))
    model.graph.initializer.append(
        helper.make_tensor("typed", numpy_helper.from_array(array).data_type, [3, 5], array.ravel().tolist())
    )
    assert scan(model.SerializeToString()).initializers == 5


def test_a_name_is_made_once_and_before_it_is_used() -> None:
    model = tiny_model()
    model.graph.node.append(helper.make_node("Identity", ["input_ids"], ["logits"]))
    with pytest.raises(ScanError, match="made twice"):
        scan(model.SerializeToString())
    model = tiny_model()
    model.graph.node.insert(0, helper.make_node("Identity", ["total"], ["x"]))
    with pytest.raises(ScanError, match="before anything makes it"):
        scan(model.SerializeToString())
