"""Look-up tables in a graph: found where they are only gathered from, and never a reason to fail."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.graph_tables import MIN_BYTES, find_tables

ROWS = MIN_BYTES // 16
TABLE = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)


def model(*nodes: onnx.NodeProto, table: np.ndarray = TABLE) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(table, "words"), numpy_helper.from_array(np.zeros(4, np.float32), "words_too")],
    )
    return bytes(helper.make_model(graph).SerializeToString())


GATHER = helper.make_node("Gather", ["words", "ids"], ["x"])
ADD = helper.make_node("Add", ["x", "words_too"], ["y"])


def test_a_table_that_is_gathered_from_is_found_with_its_bytes() -> None:
    (table,) = find_tables(model(GATHER, ADD))
    assert (table.name, table.element_type, table.shape) == ("words", TensorProto.FLOAT, [ROWS, 4])
    assert bytes(table.data) == TABLE.tobytes()


@pytest.mark.parametrize(
    "nodes",
    [
        (GATHER, helper.make_node("Add", ["x", "words"], ["y"])),
        (helper.make_node("MatMul", ["ids", "words"], ["y"]),),
        (helper.make_node("Gather", ["words_too", "words"], ["y"]),),
    ],
)
def test_what_is_used_otherwise_is_not(nodes: tuple[onnx.NodeProto, ...]) -> None:
    assert find_tables(model(*nodes)) == []


def test_a_small_table_is_not_worth_it() -> None:
    assert find_tables(model(GATHER, ADD, table=TABLE[:-1])) == []


def test_what_is_no_model_has_no_tables() -> None:
    good = model(GATHER, ADD)
    assert find_tables(b"") == []
    assert find_tables(b"not a model at all") == []
    for stop in range(1, len(good), 997):
        find_tables(good[:stop])
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(good)
        damaged[int(rng.integers(0, 200))] = int(rng.integers(0, 256))
        damaged[int(rng.integers(len(good) - 300, len(good)))] = int(rng.integers(0, 256))
        find_tables(bytes(damaged))
