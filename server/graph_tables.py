"""Look-up tables in a graph: which of its large initializers are read row by row and nothing else.

Those are the tensors that gain from being held outside the session: matrices are repacked when a session is
made, so a shared original would only come on top. Whatever cannot be read is passed over; whether a
graph is sound is the runtime's to say. The walk over the file is `tickets.onnx_reader`'s.
"""

from collections.abc import Iterator

import msgspec

from tickets.onnx_reader import GRAPH_INITIALIZER, GRAPH_NODE, MODEL_GRAPH, TENSOR_NAME, fields, packed

MIN_BYTES = 64 << 10

_NODE_INPUT, _NODE_OP = 1, 4
_DIMS, _TYPE, _RAW = 1, 2, 9  # of TensorProto


class GraphTable(msgspec.Struct, frozen=True, kw_only=True):
    """An initializer: its name, ONNX's number of its element type, its shape, and its bytes in the model."""

    name: str
    element_type: int
    shape: list[int]
    data: memoryview


def find_tables(model: bytes | memoryview) -> list[GraphTable]:
    """The initializers of at least MIN_BYTES that only Gather nodes use, as what they gather from."""
    try:
        return _find(memoryview(model))
    except (ValueError, IndexError):  # not a model, or not one of this layout
        return []


def _find(model: memoryview) -> list[GraphTable]:
    tables: list[GraphTable] = []
    for field, graph in fields(model):
        if field == MODEL_GRAPH and isinstance(graph, memoryview):
            parts = list(fields(graph))
            large = [
                table
                for part, content in parts
                if part == GRAPH_INITIALIZER and isinstance(content, memoryview) and len(content) >= MIN_BYTES
                for table in _table(content)
            ]
            nodes = [
                bytes(content) for part, content in parts if part == GRAPH_NODE and isinstance(content, memoryview)
            ]
            tables += [table for table in large if _is_only_gathered(table.name, nodes)]
    return tables


def _table(tensor: memoryview) -> Iterator[GraphTable]:
    name, element_type, shape, data = "", 0, list[int](), memoryview(b"")
    for field, value in fields(tensor):
        if field == TENSOR_NAME and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif field == _TYPE and isinstance(value, int):
            element_type = value
        elif field == _RAW and isinstance(value, memoryview):
            data = value
        elif field == _DIMS:
            shape += [value] if isinstance(value, int) else packed(value)
    if name and len(data) >= MIN_BYTES:
        yield GraphTable(name=name, element_type=element_type, shape=shape, data=data)


def _is_only_gathered(name: str, nodes: list[bytes]) -> bool:
    """Whether all nodes that use ``name`` are Gathers, as what they gather from."""
    raw = name.encode()
    for node in nodes:
        if raw in node:
            parts = [(field, bytes(value)) for field, value in fields(memoryview(node)) if not isinstance(value, int)]
            inputs = [value for field, value in parts if field == _NODE_INPUT]
            if raw in (inputs[1:] if (_NODE_OP, b"Gather") in parts else inputs):
                return False
    return True
