"""ONNX files read without ONNX: the protobuf layout, as much of it as says what a graph takes and gives.

Owns the bounded walk over a message's fields and the `describe` of a model's inputs and outputs. The serving
environment has no `onnx`, and whoever reads a stranger's graph wants neither recursion nor copies. Nothing
here says whether a graph is sound: that is the runtime's, and before it the gate's.
"""

from collections.abc import Iterator, Sequence

import msgspec

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Protobuf's wire types; groups (3, 4) are not used by ONNX and are refused."""

MODEL_OPSET, MODEL_GRAPH = 8, 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
TENSOR_NAME = 8
_SPARSE_INITIALIZER, _SPARSE_VALUES = 15, 1  # of GraphProto, of SparseTensorProto
_VALUE_NAME, _VALUE_TYPE = 1, 2  # of ValueInfoProto
_TYPE_TENSOR, _TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE, _DIM_PARAM = 1, 1, 2, 1, 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2

DATATYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 8: "BYTES", 9: "BOOL",
    10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64",
}  # fmt: skip
"""ONNX's numbers of element types, as the inference protocol names them; what is missing cannot be served."""

MAX_VALUES = 4096
"""Inputs, outputs and initializers' names that are read of one graph's head."""

Field = tuple[int, int | memoryview]


class OnnxError(ValueError):
    """Bytes that are no ONNX model, or not one of a form that can be served; the message says what."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """An input or output of a graph. A dimension is a size, or the name it goes by ("" where it has none)."""

    name: str
    datatype: str
    """As the inference protocol names it; "" for what is not a tensor, or of a type that the protocol lacks."""
    dims: list[int | str] | None
    """None: the graph does not even say how many."""

    @property
    def shape(self) -> list[int]:
        """The dimensions with -1 for those that vary. Raises OnnxError where their number is not known."""
        if self.dims is None:
            raise OnnxError(f"the graph does not say how many dimensions {self.name!r} has")
        return [dim if isinstance(dim, int) and dim > 0 else -1 for dim in self.dims]


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a graph takes and gives. ``opsets``: the version of each operator domain it uses ("" is ONNX's own)."""

    inputs: list[Value]
    outputs: list[Value]
    opsets: dict[str, int]


def describe(model: bytes | memoryview) -> Described:
    """The inputs that a caller must give, and the outputs. Raises OnnxError for what is no model with a graph."""
    try:
        return _describe(memoryview(model))
    except OnnxError:
        raise
    except (ValueError, IndexError) as error:
        raise OnnxError(f"this is not an ONNX model: {error or 'it ends too early'}") from error


def fields(message: memoryview) -> Iterator[Field]:
    """Numbers and values of a message's fields, in order: integers, or the bytes of the others (views, not copies).

    Raises ValueError or IndexError where the bytes are no message.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            number, at = _varint(message, at)
            yield tag >> 3, number
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise ValueError("a field ends beyond its message")
        yield tag >> 3, message[at : at + size]
        at += size


def messages(message: memoryview, field: int) -> Iterator[memoryview]:
    """The values of one field that are bytes (messages, strings), in order. Raises as `fields` does."""
    for number, value in fields(message):
        if number == field and isinstance(value, memoryview):
            yield value


def packed(data: memoryview) -> list[int]:
    """The integers of a packed repeated field. Raises ValueError or IndexError."""
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def text(data: memoryview) -> str:
    """A string field. Raises ValueError where it is not UTF-8."""
    return bytes(data).decode()


def _describe(model: memoryview) -> Described:
    graph: memoryview | None = None
    opsets: dict[str, int] = {}
    for number, value in fields(model):
        if number == MODEL_GRAPH and isinstance(value, memoryview):
            if graph is not None:  # a protobuf reader would merge the two: nobody writes such files honestly
                raise OnnxError("the model has two graphs")
            graph = value
        elif number == MODEL_OPSET and isinstance(value, memoryview):
            domain, version = _opset(value)
            opsets[domain] = version
    if graph is None:
        raise OnnxError("this is not an ONNX model: it has no graph")
    inputs: list[Value] = []
    outputs: list[Value] = []
    given: set[str] = set()
    for number, value in fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == GRAPH_INPUT:
            inputs.append(_value(value))
        elif number == GRAPH_OUTPUT:
            outputs.append(_value(value))
        elif number == GRAPH_INITIALIZER:
            given |= set(_names(value))
        elif number == _SPARSE_INITIALIZER:
            given |= {name for values in messages(value, _SPARSE_VALUES) for name in _names(values)}
        if len(inputs) + len(outputs) > MAX_VALUES:
            raise OnnxError(f"the graph has more than {MAX_VALUES} inputs and outputs")
    # An input with an initializer of its name has a default: nobody needs to give it.
    return Described(inputs=[one for one in inputs if one.name not in given], outputs=outputs, opsets=opsets)


def _names(tensor: memoryview) -> Iterator[str]:
    return (text(name) for name in messages(tensor, TENSOR_NAME))


def _opset(entry: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in fields(entry):
        if number == _OPSET_DOMAIN and isinstance(value, memoryview):
            domain = text(value)
        elif number == _OPSET_VERSION and isinstance(value, int):
            version = value
    return domain, version


def _value(info: memoryview) -> Value:
    name, datatype, dims = "", "", None
    for number, value in fields(info):
        if not isinstance(value, memoryview):
            continue
        if number == _VALUE_NAME:
            name = text(value)
        elif number == _VALUE_TYPE:
            for tensor in messages(value, _TYPE_TENSOR):
                datatype, dims = _tensor_type(tensor)
    return Value(name=name, datatype=datatype, dims=dims)


def _tensor_type(tensor: memoryview) -> tuple[str, list[int | str] | None]:
    datatype, dims = "", None
    for number, value in fields(tensor):
        if number == _TENSOR_ELEMENT and isinstance(value, int):
            datatype = DATATYPES.get(value, "")
        elif number == _TENSOR_SHAPE and isinstance(value, memoryview):
            dims = [_dim(dim) for dim in messages(value, _SHAPE_DIM)]
    return datatype, dims


def _dim(dim: memoryview) -> int | str:
    for number, value in fields(dim):
        if number == _DIM_VALUE and isinstance(value, int):
            return value if value < 1 << 63 else ""  # negative sizes mean unknown
        if number == _DIM_PARAM and isinstance(value, memoryview):
            return text(value)
    return ""


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


def only_known(values: Sequence[Value]) -> None:
    """Raise OnnxError for the first value that is no tensor of a type that can be served."""
    for value in values:
        if not value.datatype:
            raise OnnxError(f"{value.name!r} is not a tensor of a type that can be served ({', '.join(_served())})")


def _served() -> list[str]:
    return sorted(DATATYPES.values())
