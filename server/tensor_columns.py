"""Columns of tensors: what a graph has answered, cut into rows or asks.

Owns the check that an output is of the type and shape that the manifest promises, and the form in which it leaves
the run thread. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from server.task import BytesColumn, Column, Columns, FixedColumn, PiecesColumn
from server.tensor_ask import laid_out
from tickets.manifest import Tensor
from tickets.tensor_samples import NUMPY_TYPES

Outputs = Mapping[str, NDArray[Any]]
Placed = tuple[Sequence[int], Outputs]
"""Results of a group of rows, and the places of those rows in the batch."""


def one_group(specs: Sequence[Tensor], outputs: Outputs) -> Columns:
    """Rows that ran together, in order. Raises ValueError where an output is not as declared."""
    return Columns({spec.name: _rows(spec, _checked(spec, outputs)) for spec in specs})


def several_groups(specs: Sequence[Tensor], groups: Sequence[Placed]) -> Columns:
    """Rows that ran in groups of one shape each. Raises as `one_group` does."""
    columns = Columns()
    for spec in specs:
        found: dict[int, tuple[list[int], bytes]] = {}
        for places, outputs in groups:
            array = _checked(spec, outputs)
            for place, row in zip(places, array, strict=True):
                found[place] = (list(array.shape[1:]), _piece(spec, row))
        in_order = [found[place] for place in sorted(found)]
        columns[spec.name] = PiecesColumn(
            datatype=spec.datatype,
            shapes=[shape for shape, _ in in_order],
            pieces=[piece for _, piece in in_order],
            is_whole=False,
        )
    return columns


def whole_asks(specs: Sequence[Tensor], answers: Sequence[Outputs]) -> Columns:
    """Asks that ran one by one. Raises as `one_group` does."""
    columns = Columns()
    for spec in specs:
        arrays = [_checked(spec, outputs) for outputs in answers]
        columns[spec.name] = PiecesColumn(
            datatype=spec.datatype,
            shapes=[list(array.shape) for array in arrays],
            pieces=[laid_out(array, spec.datatype) for array in arrays],
            is_whole=True,
        )
    return columns


def _rows(spec: Tensor, array: NDArray[Any]) -> Column:
    row_shape = list(array.shape[1:])
    if spec.datatype == "BYTES":
        return BytesColumn(elements=[_piece(spec, row) for row in array], row_shape=row_shape)
    return FixedColumn(
        datatype=spec.datatype,
        row_shape=row_shape,
        row_bytes=array.nbytes // len(array),
        data=laid_out(array, spec.datatype),
    )


def _piece(spec: Tensor, row: Any) -> bytes:  # noqa: ANN401 - an array, or the element itself where rows are scalars
    return laid_out(row, spec.datatype) if hasattr(row, "flat") else laid_out_one(row)


def laid_out_one(element: str | bytes) -> bytes:
    """One BYTES element that is a row of its own."""
    raw = element.encode() if isinstance(element, str) else element
    return len(raw).to_bytes(4, "little") + raw


def _checked(spec: Tensor, outputs: Outputs) -> NDArray[Any]:
    array = outputs[spec.name]
    if array.dtype != NUMPY_TYPES[spec.datatype]:
        raise ValueError(f"output {spec.name!r} is {array.dtype}, not {spec.datatype}")
    if array.ndim != len(spec.shape) or any(
        want not in (-1, got) for want, got in zip(spec.shape, array.shape, strict=True)
    ):
        raise ValueError(f"output {spec.name!r} has shape {list(array.shape)}, not {spec.shape}")
    return array
