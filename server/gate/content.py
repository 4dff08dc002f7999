"""A tensor's content against what it claims: its dimensions, its type, and the bytes that are there.

Owns the sizes of elements and the many ways in which ONNX writes them down. Names, places and numbers of tensors
are `server.gate.scan`'s. Pure.
"""

import math

from tickets.onnx_reader import fields

Values = dict[int, list[int | memoryview]]
"""A message's values by the number of their field, in order."""

MAX_DIM = 1 << 40
MAX_DIMS = 64

_ELEMENT_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4,
}  # fmt: skip
"""Bits of an element by ONNX's number of its type; strings (8) have no size of their own."""
_STRING = 8
_DIMS, _TYPE, _STRINGS, _RAW = 1, 2, 6, 9  # of TensorProto
_LEAST_BYTES = {4: 4.0, 5: 0.5, 7: 1.0, 10: 8.0, 11: 1.0}
"""Bytes that an element takes at least in each field of typed data; a half where it has 4 bits."""


def check_content(tensor: Values) -> tuple[list[int], int]:
    """The dimensions and the bytes in memory of a TensorProto. Raises ValueError where it claims what it has not."""
    dims = _dims(tensor)
    if any(not 0 <= dim <= MAX_DIM for dim in dims):
        raise ValueError(f"has a dimension that cannot be: {dims[:8]}")
    elements = math.prod(dims)
    (element_type,) = tensor.get(_TYPE, [0])
    assert isinstance(element_type, int)
    if element_type == _STRING:
        held = len(tensor.get(_STRINGS, ()))
        if elements != held:
            raise ValueError(f"claims {elements} strings and holds {held}")
        return dims, sum(len(value) for value in tensor.get(_STRINGS, ()) if isinstance(value, memoryview))
    bits = _ELEMENT_BITS.get(element_type)
    if bits is None:
        raise ValueError(f"is of an unknown type {element_type}")
    size = -(-elements * bits // 8)
    if _RAW in tensor:
        (raw,) = tensor[_RAW]
        assert isinstance(raw, memoryview)
        if len(raw) != size:
            raise ValueError(f"claims {elements} elements and holds {len(raw)} bytes of them")
    elif elements > _most_elements(tensor):
        raise ValueError(f"claims {elements} elements and holds {_most_elements(tensor)} at most")
    return dims, size


def _most_elements(tensor: Values) -> int:
    most = 0.0
    for number, size in _LEAST_BYTES.items():
        for value in tensor.get(number, ()):
            most += (1 / min(size, 1)) if isinstance(value, int) else len(value) / size
    return int(most)


def _dims(tensor: Values) -> list[int]:
    dims: list[int] = []
    for value in tensor.get(_DIMS, ()):
        dims += [value] if isinstance(value, int) else _varints(value)
        if len(dims) > MAX_DIMS:
            raise ValueError(f"has more than {MAX_DIMS} dimensions")
    return dims


def _varints(data: memoryview) -> list[int]:
    """A short packed list, read with the reader of fields: each integer behind a tag of its own."""
    if len(data) > 10 * MAX_DIMS:
        raise ValueError(f"has more than {MAX_DIMS} dimensions")
    tagged = bytearray()
    begins = True
    for byte in data:
        tagged += bytes([8, byte]) if begins else bytes([byte])
        begins = byte < 0x80
    return [value for _, value in fields(memoryview(bytes(tagged))) if isinstance(value, int)]
