"""Tensors as they travel: named, typed, shaped, raw little-endian bytes.

The one representation shared by the HTTP API, the wire and the sessions, so that bytes
are copied and never reinterpreted. BYTES elements are laid out as the inference
protocol's binary extension does: a 4-byte little-endian length before each element.
"""

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1",
        "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
    }.items()
}  # fmt: skip
"""Element types by protocol name; BYTES is not here because its elements vary in size."""

_LENGTH = struct.Struct("<I")
_EXACT_ROWS = 128
_FEW = 256
_STRUCT_CODES = {"BOOL": "?", "FP32": "f", "FP64": "d", "INT32": "i", "INT64": "q"}


class TensorError(ValueError):
    """Bytes that do not make the tensor they claim to be."""


class Tensor(msgspec.Struct, frozen=True, array_like=True):
    """``data`` is row-major; its length has been checked against ``datatype`` and ``shape`` at the edge."""

    name: str
    datatype: str
    shape: list[int]
    data: bytes


def element_count(shape: Sequence[int]) -> int:
    """The number of elements of a fully known shape."""
    count = 1
    for size in shape:
        count *= size
    return count


def encode_bytes(elements: Sequence[bytes]) -> bytes:
    """Lay out BYTES elements."""
    return b"".join(_LENGTH.pack(len(e)) + e for e in elements)


def decode_bytes(data: bytes, count: int) -> list[bytes]:
    """Read exactly ``count`` BYTES elements that fill ``data``. Raises TensorError otherwise."""
    elements: list[bytes] = []
    at = 0
    for _ in range(count):
        if at + 4 > len(data):
            raise TensorError(f"BYTES tensor ends inside a length prefix ({len(elements)} of {count} elements read)")
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4
        if at + length > len(data):
            raise TensorError(f"BYTES element {len(elements)} claims {length} bytes; {len(data) - at} are left")
        elements.append(data[at : at + length])
        at += length
    if at != len(data):
        raise TensorError(f"{len(data) - at} bytes follow the last of {count} BYTES elements")
    return elements


def row_count(inputs: Sequence[Tensor]) -> int:
    """How many rows tensors of a request have: the first dimension of the first."""
    return inputs[0].shape[0] if inputs and inputs[0].shape else 1


def row_size(inputs: Sequence[Tensor], rows: int) -> int:
    """Bytes of the largest row, all inputs together: exact where elements are BYTES and few, else the average."""
    if len(inputs) == 1 and rows == 1:
        tensor = inputs[0]
        return len(tensor.data) - (_LENGTH.size if tensor.datatype == "BYTES" and tensor.shape == [1] else 0)
    return sum(_largest_row(tensor, rows) for tensor in inputs)


def _largest_row(tensor: Tensor, rows: int) -> int:
    if tensor.datatype != "BYTES" or len(tensor.shape) != 1 or rows > _EXACT_ROWS:
        return len(tensor.data) // max(1, rows)
    largest = at = 0  # its lengths were checked at the edge
    while at + _LENGTH.size <= len(tensor.data):
        (length,) = _LENGTH.unpack_from(tensor.data, at)
        at += _LENGTH.size + length
        largest = max(largest, length)
    return largest


def take_rows(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """The tensor with these of its rows only, in this order. Raises TensorError where it has no such rows."""
    if not tensor.shape or not all(0 <= row < tensor.shape[0] for row in rows):
        raise TensorError(f"tensor {tensor.name!r} of shape {tensor.shape} has no rows {list(rows)[:8]}")
    pieces = row_pieces(tensor)
    return Tensor(tensor.name, tensor.datatype, [len(rows), *tensor.shape[1:]], b"".join(pieces[row] for row in rows))


def row_pieces(tensor: Tensor) -> list[bytes]:
    """The bytes of each row, as they stand in ``data``; joined they are ``data`` again. Raises TensorError."""
    count = tensor.shape[0]
    if tensor.datatype == "BYTES":
        elements = decode_bytes(tensor.data, element_count(tensor.shape))
        per_row = element_count(tensor.shape[1:])
        return [encode_bytes(elements[row * per_row : (row + 1) * per_row]) for row in range(count)]
    to_array(tensor)  # checks the length
    size = len(tensor.data) // count if count else 0
    return [tensor.data[row * size : (row + 1) * size] for row in range(count)]


def to_array(tensor: Tensor) -> NDArray[Any]:
    """A numpy view of a fixed-size tensor. Raises TensorError when sizes disagree."""
    dtype = NUMPY_TYPES.get(tensor.datatype)
    if dtype is None:
        raise TensorError(f"datatype {tensor.datatype} has no fixed element size")
    expected = element_count(tensor.shape) * dtype.itemsize
    if len(tensor.data) != expected:
        raise TensorError(f"tensor {tensor.name!r} has {len(tensor.data)} bytes; its shape needs {expected}")
    return np.frombuffer(tensor.data, dtype=dtype).reshape(tensor.shape)


def to_list(tensor: Tensor) -> list[Any]:
    """The elements of a fixed-size tensor, flat. Raises TensorError when sizes disagree.

    For a few elements this is ten times as fast as by way of numpy.
    """
    code = _STRUCT_CODES.get(tensor.datatype)
    count = 1 if tensor.shape == [1] else element_count(tensor.shape)
    if code is None or count > _FEW:
        flat: list[Any] = to_array(tensor).ravel().tolist()
        return flat
    try:
        return list(struct.unpack("<" + code * count, tensor.data))
    except struct.error as error:
        raise TensorError(f"tensor {tensor.name!r} of shape {tensor.shape}: {error}") from error


def from_array(name: str, datatype: str, array: NDArray[Any]) -> Tensor:
    """A tensor with the contents of ``array``, converted to ``datatype``."""
    contiguous = np.ascontiguousarray(array, dtype=NUMPY_TYPES[datatype])
    return Tensor(name, datatype, list(array.shape), contiguous.tobytes())


def from_texts(name: str, texts: Sequence[str]) -> Tensor:
    """A one-dimensional BYTES tensor of UTF-8 texts."""
    return Tensor(name, "BYTES", [len(texts)], encode_bytes([t.encode() for t in texts]))
