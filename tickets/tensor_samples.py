"""Samples of a ticket of tensors: what it was given when it was packed, and what it answered.

Owns the member ``samples.json`` of such tickets, its bounds, and when an answer counts as the recorded one:
whole numbers, truths and texts exactly, the others within a thousandth of the largest value that was recorded
(kernels differ by host, answers must not). Running is left to whoever has a session.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from tickets.bundle import Bundle, BundleError
from tickets.manifest import Tensor

MEMBER = "samples.json"
MAX_CASES = 64
MAX_ELEMENTS = 1 << 20
"""Of all tensors of all cases."""
TOLERANCE, HALF_TOLERANCE = 1e-3, 1e-2
"""Of the largest recorded value; the second is for FP16."""
MIN_SCALE = 1e-3
"""Recorded values are never taken for smaller than this together: differences below a millionth are no differences."""

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1",
        "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BYTES": "O",
    }.items()
}  # fmt: skip
"""Arrays of each datatype; BYTES are arrays of str."""
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Arrays = dict[str, NDArray[Any]]
Element = bool | int | float | str


class SampleTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One tensor: its elements row by row. What is not finite is written as NaN, Infinity or -Infinity in quotes."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=MAX_ELEMENTS)]], Meta(max_length=8)]
    data: Annotated[list[Element], Meta(max_length=MAX_ELEMENTS)]


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ask and its answer."""

    inputs: Annotated[list[SampleTensor], Meta(min_length=1, max_length=64)]
    outputs: Annotated[list[SampleTensor], Meta(min_length=1, max_length=64)]


class TensorSamples(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The member ``samples.json`` of a ticket of tensors."""

    cases: Annotated[list[Case], Meta(min_length=1, max_length=MAX_CASES)]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A case as arrays, checked against the manifest."""

    inputs: Arrays
    outputs: Arrays


def read_cases(bundle: Bundle) -> list[Recorded]:
    """The bundle's recorded cases. Raises BundleError (``bad_samples``) where there are none, or they do not fit."""
    if MEMBER not in bundle.members:
        raise BundleError("bad_samples", f"the bundle has no {MEMBER}")
    try:
        samples = msgspec.json.decode(bytes(bundle.members[MEMBER]), type=TensorSamples)
    except (ValueError, RecursionError) as error:
        raise BundleError("bad_samples", f"{MEMBER} does not decode: {error}") from error
    elements = sum(len(t.data) for case in samples.cases for t in (*case.inputs, *case.outputs))
    if elements > MAX_ELEMENTS:
        raise BundleError("bad_samples", f"{MEMBER} has {elements} elements; the limit is {MAX_ELEMENTS}")
    manifest = bundle.manifest
    cases = []
    for number, case in enumerate(samples.cases):
        try:
            cases.append(
                Recorded(inputs=_arrays(case.inputs, manifest.inputs), outputs=_arrays(case.outputs, manifest.outputs))
            )
        except ValueError as error:
            raise BundleError("bad_samples", f"case {number}: {error}") from error
    return cases


def encode_cases(cases: Sequence[Recorded]) -> bytes:
    """The member for these cases."""
    return msgspec.json.encode(
        TensorSamples(cases=[Case(inputs=_tensors(case.inputs), outputs=_tensors(case.outputs)) for case in cases])
    )


def compare(case: Recorded, answered: Mapping[str, NDArray[Any]]) -> None:
    """Raise ValueError where an answer to the case's inputs is not the recorded one."""
    for name, recorded in case.outputs.items():
        got = answered.get(name)
        if got is None or got.shape != recorded.shape:
            shape = None if got is None else list(got.shape)
            raise ValueError(f"output {name!r} has shape {shape}; recorded is {list(recorded.shape)}")
        if recorded.dtype.kind == "f":
            _compare_numbers(name, recorded.astype(np.float64), got.astype(np.float64), _tolerance(recorded))
        elif not np.array_equal(recorded, got):
            raise ValueError(f"output {name!r} differs from the recorded one")


def check_array(spec: Tensor, array: NDArray[Any]) -> None:
    """Raise ValueError where an array is not what the manifest says of this tensor."""
    if array.ndim != len(spec.shape) or any(
        want not in (-1, got) for want, got in zip(spec.shape, array.shape, strict=True)
    ):
        raise ValueError(f"tensor {spec.name!r} has shape {list(array.shape)}; the manifest says {spec.shape}")


def to_array(spec: Tensor, shape: Sequence[int], data: Sequence[Element]) -> NDArray[Any]:
    """Elements as the array of a manifest's tensor. Raises ValueError where they are not of its datatype or shape."""
    if math.prod(shape) != len(data):
        raise ValueError(f"tensor {spec.name!r} of shape {list(shape)} has {len(data)} elements")
    dtype = NUMPY_TYPES[spec.datatype]
    allowed = {"b": (bool,), "f": (int, float, str), "O": (str,)}.get(dtype.kind, (int,))
    if not all(type(element) in allowed for element in data):
        raise ValueError(f"tensor {spec.name!r} has elements that are not {spec.datatype}")
    if dtype.kind == "f":
        data = [_finite(spec, element) if isinstance(element, str) else element for element in data]
    try:
        with np.errstate(over="ignore"):
            array = np.empty(len(data), dtype)
            array[:] = data
    except (OverflowError, ValueError) as error:
        raise ValueError(f"tensor {spec.name!r}: {error}") from error
    array = array.reshape(tuple(shape))
    check_array(spec, array)
    return array


def _finite(spec: Tensor, word: str) -> float:
    if word not in _NOT_FINITE:
        raise ValueError(f"tensor {spec.name!r} has {word[:32]!r}, which is no number")
    return _NOT_FINITE[word]


def _arrays(tensors: Sequence[SampleTensor], specs: Sequence[Tensor]) -> Arrays:
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) != len(tensors) or named.keys() != {spec.name for spec in specs}:
        raise ValueError(f"tensors are {[t.name for t in tensors]}; the manifest has {[s.name for s in specs]}")
    return {spec.name: to_array(spec, named[spec.name].shape, named[spec.name].data) for spec in specs}


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> list[SampleTensor]:
    return [
        SampleTensor(name=name, shape=list(array.shape), data=[_element(value) for value in array.ravel().tolist()])
        for name, array in arrays.items()
    ]


def _element(value: Element) -> Element:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _tolerance(recorded: NDArray[Any]) -> float:
    finite = np.abs(recorded[np.isfinite(recorded)].astype(np.float64))
    largest = max(float(finite.max()) if finite.size else 0.0, MIN_SCALE)
    return largest * (HALF_TOLERANCE if recorded.dtype.itemsize == 2 else TOLERANCE)


def _compare_numbers(name: str, recorded: NDArray[Any], got: NDArray[Any], tolerance: float) -> None:
    is_finite = np.isfinite(recorded)
    if not np.array_equal(recorded[~is_finite], got[~is_finite], equal_nan=True):
        raise ValueError(f"output {name!r} is finite where the recorded one is not")
    if not np.isfinite(got[is_finite]).all():
        raise ValueError(f"output {name!r} is not finite where the recorded one is")
    worst = float(np.abs(recorded[is_finite] - got[is_finite]).max(initial=0.0))
    if not worst <= tolerance:
        raise ValueError(f"output {name!r} differs by {worst:.2g} from the recorded one (allowed: {tolerance:.2g})")
