"""Look-up tables in a graph: which of its large initializers are read row by row and nothing else.

Owns as much of ONNX's protobuf layout as that takes (the serving environment has no `onnx`). Those
are the tensors that gain from being held outside the session: matrices are repacked when a session is
made, so a shared original would only come on top. Whatever cannot be read is passed over; whether a
graph is sound is the runtime's to say.
"""

from collections.abc import Iterator

import msgspec

MIN_BYTES = 64 << 10

_GRAPH = 7  # of ModelProto
_NODE, _INITIALIZER = 1, 5  # of GraphProto
_NODE_INPUT, _NODE_OP = 1, 4
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9  # of TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


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
    for field, graph in _fields(model):
        if field == _GRAPH and isinstance(graph, memoryview):
            parts = list(_fields(graph))
            large = [
                table
                for part, content in parts
                if part == _INITIALIZER and isinstance(content, memoryview) and len(content) >= MIN_BYTES
                for table in _table(content)
            ]
            nodes = [bytes(content) for part, content in parts if part == _NODE and isinstance(content, memoryview)]
            tables += [table for table in large if _is_only_gathered(table.name, nodes)]
    return tables


def _table(tensor: memoryview) -> Iterator[GraphTable]:
    name, element_type, shape, data = "", 0, list[int](), memoryview(b"")
    for field, value in _fields(tensor):
        if field == _NAME and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif field == _TYPE and isinstance(value, int):
            element_type = value
        elif field == _RAW and isinstance(value, memoryview):
            data = value
        elif field == _DIMS:
            shape += [value] if isinstance(value, int) else _packed(value)
    if name and len(data) >= MIN_BYTES:
        yield GraphTable(name=name, element_type=element_type, shape=shape, data=data)


def _is_only_gathered(name: str, nodes: list[bytes]) -> bool:
    """Whether all nodes that use ``name`` are Gathers, as what they gather from."""
    raw = name.encode()
    for node in nodes:
        if raw in node:
            fields = [(field, bytes(value)) for field, value in _fields(memoryview(node)) if not isinstance(value, int)]
            inputs = [value for field, value in fields if field == _NODE_INPUT]
            if raw in (inputs[1:] if (_NODE_OP, b"Gather") in fields else inputs):
                return False
    return True


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of a message's fields: integers, or the bytes of the others."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield tag >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise ValueError("a field ends beyond its message")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")


def _packed(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values
