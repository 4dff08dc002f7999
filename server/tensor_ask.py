"""An ask of tensors, checked: arrays that a graph can be run on, and their bounds.

Owns the step from tensors as they travel to numpy arrays, and every reason to refuse one. What is done with the
arrays is left to `server.tensors_task`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import BadRequest
from server.tensor import Tensor, TensorError, decode_bytes, element_count, encode_bytes, to_array
from tickets.manifest import Tensor as Spec

MAX_ELEMENTS = 1 << 24
"""Of one input; bounds what a shape may claim before anything is allocated."""
MAX_ASK_BYTES = 64 << 20
"""Of all inputs of an ask together."""


class TensorAsk:
    """The inputs of one ask by name. Two asks of one ``signature`` differ in their first dimension only."""

    __slots__ = ("arrays", "bytes", "signature")

    def __init__(self, arrays: dict[str, NDArray[Any]], size_bytes: int) -> None:
        self.arrays = arrays
        self.bytes = size_bytes
        self.signature = tuple(array.shape[1:] for array in arrays.values())

    @property
    def rows(self) -> int:
        """The first dimension, which all inputs have in common where rows are run in company."""
        return len(next(iter(self.arrays.values())))


def checked(specs: Sequence[Spec], inputs: Sequence[Tensor]) -> TensorAsk:
    """The ask that these tensors make, in the order of ``specs``. Raises BadRequest that names the tensor."""
    named = {tensor.name: tensor for tensor in inputs}
    if len(named) != len(inputs) or named.keys() != {spec.name for spec in specs}:
        raise BadRequest(f"inputs are {[spec.name for spec in specs]}, each once; got {[t.name for t in inputs]}")
    size = sum(len(tensor.data) for tensor in inputs)
    if size > MAX_ASK_BYTES:
        raise BadRequest(f"the inputs have {size} bytes; the limit is {MAX_ASK_BYTES}")
    return TensorAsk({spec.name: _array(spec, named[spec.name]) for spec in specs}, size)


def laid_out(array: NDArray[Any], datatype: str) -> bytes:
    """An array's elements as they travel. Raises ValueError for what is not of this datatype."""
    if datatype == "BYTES":
        return encode_bytes([element.encode() if isinstance(element, str) else element for element in array.flat])
    return array.tobytes()


def _array(spec: Spec, tensor: Tensor) -> NDArray[Any]:
    if tensor.datatype != spec.datatype:
        raise BadRequest(f"input '{spec.name}' is {spec.datatype}, not {tensor.datatype}")
    fits = len(tensor.shape) == len(spec.shape) and all(
        (got > 0 if want == -1 else got == want) for got, want in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits:
        raise BadRequest(f"input '{spec.name}' has shape {spec.shape}, where -1 is at least 1; got {tensor.shape}")
    count = element_count(tensor.shape)
    if count > MAX_ELEMENTS:
        raise BadRequest(f"input '{spec.name}' has {count} elements; the limit is {MAX_ELEMENTS}")
    try:
        if tensor.datatype == "BYTES":
            return _texts(spec.name, decode_bytes(tensor.data, count)).reshape(tensor.shape)
        array = to_array(tensor)
    except TensorError as error:
        raise BadRequest(f"input '{spec.name}': {error}") from error
    if tensor.datatype == "BOOL" and tensor.data.translate(None, b"\0\1"):
        raise BadRequest(f"input '{spec.name}' has BOOL bytes that are neither 0 nor 1")
    return array


def _texts(name: str, elements: Sequence[bytes]) -> NDArray[Any]:
    """ONNX Runtime takes an array of str; NUL would end a string early in many an operator."""
    texts = np.empty(len(elements), object)
    for at, element in enumerate(elements):
        try:
            texts[at] = element.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"input '{name}', element {at}, is not UTF-8: {error.reason}") from error
        if "\0" in texts[at]:
            raise BadRequest(f"input '{name}', element {at}, contains a NUL character")
    return texts
