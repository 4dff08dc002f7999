"""Asks for an imported ticket of tensors: those that its TOML gives, or made-up ones within its ranges.

Owns the step from the TOML's samples, ranges and shapes to arrays, and the recording of what the model answers.
Made-up values come from a fixed seed: the same TOML gives the same ticket.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.import_error import ImportedError
from tickets.manifest import Tensor
from tickets.tensor_reference import TensorReference
from tickets.tensor_samples import MAX_CASES, MAX_ELEMENTS, NUMPY_TYPES, Arrays, Element, Recorded, to_array

SEED = 0
ROWS = 4
"""Of a made-up ask, where the first dimension varies: enough to show whether rows bear company."""
INNER = 8
"""Of an inner dimension that varies and that no field says the size of."""

Ranges = Mapping[str, Sequence[float]]
Shapes = Mapping[str, Sequence[int]]


def made_cases(reference: TensorReference, samples: Sequence[Any], ranges: Ranges, shapes: Shapes) -> list[Recorded]:
    """The asks with the model's answers. Raises ImportedError that names the field, BundleError where the model
    cannot answer."""
    specs = reference.bundle.manifest.inputs
    for field, names in (("ranges", ranges), ("shapes", shapes)):
        unknown = sorted(set(names) - {spec.name for spec in specs})
        if unknown:
            raise ImportedError(f"{field}.{unknown[0]}", f"the graph takes {[spec.name for spec in specs]}")
    asks = [_given(specs, sample, number) for number, sample in enumerate(samples)]
    if len(asks) > MAX_CASES:
        raise ImportedError("samples", f"has {len(asks)} entries; at most {MAX_CASES} are kept")
    asks = asks or _made_up(specs, ranges, shapes)
    cases = [Recorded(inputs=ask, outputs=reference.run(ask)) for ask in asks]
    elements = sum(array.size for case in cases for part in (case.inputs, case.outputs) for array in part.values())
    if elements > MAX_ELEMENTS:
        raise ImportedError("samples", f"they have {elements} elements; at most {MAX_ELEMENTS} travel in a ticket")
    return cases


def _given(specs: Sequence[Tensor], sample: Any, number: int) -> Arrays:  # noqa: ANN401 - as the TOML has it
    place = f"samples[{number}]"
    if not isinstance(sample, dict) or sample.keys() != {spec.name for spec in specs}:
        raise ImportedError(place, f"must name every input once: {[spec.name for spec in specs]}")
    ask: Arrays = {}
    for spec in specs:
        try:
            shape, flat = _unnested(sample[spec.name])
            ask[spec.name] = to_array(spec, shape, flat)
        except ValueError as error:
            raise ImportedError(f"{place}.{spec.name}", str(error)) from error
    return ask


def _unnested(value: Any) -> tuple[list[int], list[Element]]:  # noqa: ANN401 - as the TOML has it
    """The shape of nested lists and their elements in order. Raises ValueError where rows differ in length."""
    if not isinstance(value, list):
        return [], [value]
    if not value:
        raise ValueError("an empty list has no elements")
    parts = [_unnested(item) for item in value]
    if any(shape != parts[0][0] for shape, _ in parts):
        raise ValueError("the rows differ in length")
    return [len(value), *parts[0][0]], [element for _, flat in parts for element in flat]


def _made_up(specs: Sequence[Tensor], ranges: Ranges, shapes: Shapes) -> list[Arrays]:
    random = np.random.default_rng(SEED)
    by_row = all(spec.shape and spec.shape[0] == -1 for spec in specs)
    counts = (ROWS, 1) if by_row and not shapes else (1, 1)
    return [
        {spec.name: _drawn(spec, _sizes(spec, shapes.get(spec.name), rows), ranges.get(spec.name), random)
         for spec in specs}
        for rows in counts
    ]  # fmt: skip


def _sizes(spec: Tensor, wanted: Sequence[int] | None, rows: int) -> list[int]:
    if wanted is not None:
        if len(wanted) != len(spec.shape) or any(
            size < 1 or want not in (-1, size) for size, want in zip(wanted, spec.shape, strict=True)
        ):
            raise ImportedError(f"shapes.{spec.name}", f"the graph takes {spec.shape}; got {list(wanted)}")
        return list(wanted)
    return [size if size != -1 else INNER if place else rows for place, size in enumerate(spec.shape)]


def _drawn(spec: Tensor, shape: list[int], bounds: Sequence[float] | None, random: np.random.Generator) -> NDArray[Any]:
    dtype = NUMPY_TYPES[spec.datatype]
    if spec.datatype == "BYTES":
        raise ImportedError("samples", f"input {spec.name!r} takes texts, which cannot be made up: give some")
    low, high = bounds or (0.0, 1.0)
    if not low <= high:
        raise ImportedError(f"ranges.{spec.name}", f"is [lowest, highest]; got [{low:g}, {high:g}]")
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.kind == "f":
        return random.uniform(low, high, shape).astype(dtype)
    limits = np.iinfo(dtype)
    if not limits.min <= int(low) <= int(high) <= limits.max:
        raise ImportedError(f"ranges.{spec.name}", f"does not fit {spec.datatype}")
    return random.integers(int(low), int(high), shape, dtype=dtype, endpoint=True)
