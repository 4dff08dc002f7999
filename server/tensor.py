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


def to_array(tensor: Tensor) -> NDArray[Any]:
    """A numpy view of a fixed-size tensor. Raises TensorError when sizes disagree."""
    dtype = NUMPY_TYPES.get(tensor.datatype)
    if dtype is None:
        raise TensorError(f"datatype {tensor.datatype} has no fixed element size")
    expected = element_count(tensor.shape) * dtype.itemsize
    if len(tensor.data) != expected:
        raise TensorError(f"tensor {tensor.name!r} has {len(tensor.data)} bytes; its shape needs {expected}")
    return np.frombuffer(tensor.data, dtype=dtype).reshape(tensor.shape)


def from_array(name: str, datatype: str, array: NDArray[Any]) -> Tensor:
    """A tensor with the contents of ``array``, converted to ``datatype``."""
    contiguous = np.ascontiguousarray(array, dtype=NUMPY_TYPES[datatype])
    return Tensor(name, datatype, list(array.shape), contiguous.tobytes())


def from_texts(name: str, texts: Sequence[str]) -> Tensor:
    """A one-dimensional BYTES tensor of UTF-8 texts."""
    return Tensor(name, "BYTES", [len(texts)], encode_bytes([t.encode() for t in texts]))
