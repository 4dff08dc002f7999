"""Tensor data as the inference protocol writes it: JSON or raw bytes, in and out.

Owns the conversion of one tensor's data and the check that it is as long as its shape
says, nothing more or less. It leaves names, datatypes against a model, and everything else
in a request to `server.oip`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from server.errors import BadRequest
from server.tensor import NUMPY_TYPES, Tensor, TensorError, decode_bytes, element_count, encode_bytes, to_array, to_list
from server.text import text_tensor
from tickets.manifest import Tensor as Spec

MAX_ELEMENTS = 1 << 24
"""Of one tensor: bounds what a shape may claim before anything is allocated."""


class Input(Protocol):
    """The part of a request's input that is read here."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> list[int]: ...  # noqa: D102
    @property
    def datatype(self) -> str: ...  # noqa: D102
    @property
    def parameters(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def data(self) -> Any: ...  # noqa: ANN401, D102


def read_inputs(inputs: Sequence[Input], binary: memoryview, *, is_text: bool) -> list[Tensor]:
    """The input tensors, taking binary ones from ``binary`` in order, all of which must be used. Raises BadRequest."""
    tensors: list[Tensor] = []
    at = 0
    for given in inputs:
        size = _binary_size(given)
        if size is None:
            tensors.append(_from_json(given, is_text))
            continue
        if size > len(binary) - at:
            raise BadRequest(
                f"unexpected size for input '{given.name}': expecting {size} bytes, {len(binary) - at} are left"
            )
        tensors.append(_from_binary(given, bytes(binary[at : at + size]), is_text))
        at += size
    if at != len(binary):
        raise BadRequest(f"unexpected additional input data: {len(binary) - at} bytes follow the last tensor")
    return tensors


def read_raw(body: bytes, spec: Spec, *, is_text: bool) -> Tensor:
    """The only input of a raw binary request: one BYTES element (no length prefix), or as many numbers as fit."""
    if spec.shape.count(-1) > 1:
        raise BadRequest(f"raw input '{spec.name}' may have one variable dimension; it has {spec.shape.count(-1)}")
    known = element_count([size for size in spec.shape if size != -1])
    if spec.datatype == "BYTES":
        if known != 1:
            raise BadRequest(f"for BYTES datatype raw input, the model must take shape [1]; it takes {spec.shape}")
        shape = [1] * len(spec.shape)
        return text_tensor(spec.name, [body], shape) if is_text else _bytes_tensor(spec.name, [body], shape)
    unit = known * NUMPY_TYPES[spec.datatype].itemsize
    variable = len(body) // unit if -1 in spec.shape and unit else 1
    if not body or len(body) != unit * variable:
        raise BadRequest(f"unexpected size for input '{spec.name}': {len(body)} bytes, a multiple of {unit} is needed")
    return Tensor(spec.name, spec.datatype, [variable if size == -1 else size for size in spec.shape], body)


def to_json(tensor: Tensor) -> list[Any]:
    """The tensor's data as a flat JSON list; BYTES become strings. Raises BadRequest where JSON has no form for it."""
    if tensor.datatype == "BYTES":
        try:
            return [e.decode() for e in decode_bytes(tensor.data, element_count(tensor.shape))]
        except UnicodeDecodeError as error:
            raise BadRequest(f"output '{tensor.name}' is not UTF-8: ask for it with binary_data true") from error
    if tensor.datatype == "FP16":
        raise BadRequest(f"output '{tensor.name}' is FP16, which JSON cannot carry: ask for it with binary_data true")
    return to_list(tensor)


def _binary_size(given: Input) -> int | None:
    size = given.parameters.get("binary_data_size")
    if size is None:
        if given.data is msgspec.UNSET:
            raise BadRequest(f"input '{given.name}' must have 'data' or the parameter 'binary_data_size'")
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise BadRequest(f"parameter 'binary_data_size' of input '{given.name}' must be an integer of 0 or more")
    if given.data is not msgspec.UNSET:
        raise BadRequest(f"input '{given.name}' must not have both 'data' and 'binary_data_size'")
    return size


def _from_binary(given: Input, data: bytes, is_text: bool) -> Tensor:
    count = _count(given)
    if given.datatype == "BYTES":
        try:
            elements = decode_bytes(data, count)
        except TensorError as error:
            raise BadRequest(f"unexpected size for input '{given.name}': {error}") from error
        return (text_tensor if is_text else _bytes_tensor)(given.name, elements, given.shape)
    tensor = Tensor(given.name, given.datatype, given.shape, data)
    try:
        to_array(tensor)
    except TensorError as error:
        raise BadRequest(f"unexpected size for input '{given.name}': {error}") from error
    if given.datatype == "BOOL" and data.translate(None, b"\0\1"):
        raise BadRequest(f"input '{given.name}' has BOOL bytes that are neither 0 nor 1")
    return tensor


def _from_json(given: Input, is_text: bool) -> Tensor:
    count = _count(given)
    flat: list[Any] = []
    if not isinstance(given.data, list):
        raise BadRequest(f"data of input '{given.name}' must be an array")
    if given.data and isinstance(given.data[0], list):
        _flatten(given.name, given.data, given.shape, flat)
    else:
        flat = given.data
    if len(flat) != count:
        raise BadRequest(
            f"unexpected number of elements for input '{given.name}':"
            f" shape {given.shape} needs {count}, got {len(flat)}"
        )
    if given.datatype == "BYTES":
        if not all(type(e) is str for e in flat):
            raise BadRequest(f"data of input '{given.name}' must be strings (BYTES)")
        if is_text:
            return text_tensor(given.name, flat, given.shape)
        return _bytes_tensor(given.name, [e.encode() for e in flat], given.shape)
    return Tensor(given.name, given.datatype, given.shape, _numbers(given, flat))


def _numbers(given: Input, flat: list[Any]) -> bytes:
    dtype = NUMPY_TYPES[given.datatype]
    if given.datatype == "FP16":
        raise BadRequest(f"input '{given.name}' is FP16, which JSON cannot carry: send it as binary data")
    allowed: tuple[type, ...] = {"b": (bool,), "f": (int, float)}.get(dtype.kind, (int,))
    if not all(type(e) in allowed for e in flat):
        raise BadRequest(f"data of input '{given.name}' must be {' or '.join(t.__name__ for t in allowed)} values")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=dtype).tobytes()
    except (OverflowError, ValueError) as error:
        raise BadRequest(f"data of input '{given.name}' does not fit {given.datatype}: {error}") from error


def _flatten(name: str, data: list[Any], shape: Sequence[int], out: list[Any]) -> None:
    """Append the elements of ``data``, which must be nested exactly as ``shape`` says."""
    if not shape or len(data) != shape[0]:
        raise BadRequest(f"data of input '{name}' is not nested as its shape says")
    if len(shape) == 1:
        out.extend(data)
        return
    for row in data:
        if not isinstance(row, list):
            raise BadRequest(f"data of input '{name}' is not nested as its shape says")
        _flatten(name, row, shape[1:], out)


def _count(given: Input) -> int:
    count = element_count(given.shape)
    if count > MAX_ELEMENTS:
        raise BadRequest(f"shape {given.shape} of input '{given.name}' has too many elements")
    return count


def _bytes_tensor(name: str, elements: Sequence[bytes], shape: list[int]) -> Tensor:
    return Tensor(name, "BYTES", list(shape), encode_bytes(elements))
