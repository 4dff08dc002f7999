"""What a task is: the contract between a ticket's session and the worker that runs it.

Owns the small vocabulary shared by all tasks. One module per task (such as
`server.text_classification`) turns tensors into rows, runs rows in batches and lays out
the results; nothing else in the worker knows what a task computes.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from routing.cost import Cost
from server.tensor import Tensor, element_count, encode_bytes

MAX_ROWS = 1024
"""Rows that one ask may have."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One ask, checked: its rows, the estimated tokens of the longest, the outputs it wants.

    ``longest`` is the size that the worker's `Cost` is about: see `Task.sample_rows`.
    """

    rows: Sequence[Any]
    longest: int
    outputs: list[str]


class FixedColumn(msgspec.Struct, frozen=True, kw_only=True):
    """An output of a batch with elements of one size: row-major bytes, ``row_bytes`` for each row."""

    datatype: str
    row_shape: list[int]
    row_bytes: int
    data: bytes

    def rows(self, start: int, stop: int) -> bytes:
        """The bytes of rows ``start`` to ``stop``."""
        return self.data[start * self.row_bytes : stop * self.row_bytes]

    def tensor(self, name: str, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` as a tensor of this name."""
        data = self.data[start * self.row_bytes : stop * self.row_bytes]
        return Tensor(name, self.datatype, [stop - start, *self.row_shape], data)


class BytesColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A BYTES output, laid out already (length, then bytes of each element): what each row has of it."""

    elements: list[bytes]
    datatype: str = "BYTES"
    row_shape: list[int] = []

    def rows(self, start: int, stop: int) -> bytes:
        """The bytes of rows ``start`` to ``stop``."""
        return b"".join(self.elements[start:stop])

    def tensor(self, name: str, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` as a tensor of this name."""
        return Tensor(name, self.datatype, [stop - start, *self.row_shape], b"".join(self.elements[start:stop]))


class PiecesColumn(msgspec.Struct, frozen=True, kw_only=True):
    """An output whose rows differ in shape, or that has one piece for each ask (``is_whole``): a shape and the
    bytes of each. All rows of one ask have one shape."""

    datatype: str
    shapes: list[list[int]]
    pieces: list[bytes]
    is_whole: bool

    def rows(self, start: int, stop: int) -> bytes:
        """The bytes of rows ``start`` to ``stop``."""
        return b"".join(self.pieces[start:stop])

    def tensor(self, name: str, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop``, or the ask at ``start``, as a tensor of this name."""
        shape = self.shapes[start] if self.is_whole else [stop - start, *self.shapes[start]]
        return Tensor(name, self.datatype, shape, b"".join(self.pieces[start:stop]))


Column = FixedColumn | BytesColumn | PiecesColumn


class Columns(dict[str, Column]):
    """The outputs of a batch by name; every column has the batch's rows. Besides those that the manifest names
    there may be `CONFIDENCE` and `CHOICE`, for the system itself: nobody can name them."""

    tokenize_s: float = 0.0
    """Of the run, what was spent on turning texts into tokens, in seconds."""


CONFIDENCE = "confidence"
"""FP32: how sure the ticket is of each row, calibrated, 0 to 1."""
CHOICE = "choice"
"""INT32: the number of each row's best label, in the manifest's order."""
IN_SCOPE = "in_scope"
"""BOOL: whether each row is in scope."""


def tensors(columns: Columns, names: Sequence[str], start: int, stop: int) -> list[Tensor]:
    """Rows ``start`` to ``stop`` of the named columns."""
    return [columns[name].tensor(name, start, stop) for name in names]


def joined(parts: Sequence[list[Tensor]]) -> list[Tensor]:
    """The outputs of an ask that ran in several slices, in order, as if it had run in one."""
    if len(parts) == 1:
        return parts[0]
    whole = []
    for pieces in zip(*parts, strict=True):
        shape = [sum(piece.shape[0] for piece in pieces), *pieces[0].shape[1:]]
        whole.append(Tensor(pieces[0].name, pieces[0].datatype, shape, b"".join(piece.data for piece in pieces)))
    return whole


def length_prefixed(element: str) -> bytes:
    """One BYTES element as it is laid out in a tensor."""
    return encode_bytes([element.encode()])


def rows_claimed(inputs: Sequence[Tensor]) -> int:
    """How many rows an unchecked ask claims to have, from 1 to MAX_ROWS: for bounds before it can be checked."""
    claimed = max((element_count(tensor.shape[:1]) for tensor in inputs), default=1)
    return min(max(1, claimed), MAX_ROWS)


class Task(Protocol):
    """A loaded ticket. ``parse`` is called on the connections' thread, ``run`` on the run thread."""

    max_size: int
    """No `Work.longest` is above this: the task cuts larger rows."""

    def parse(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> Work:
        """Check one ask completely. Raises server.errors.BadRequest."""

    def warm_up(self) -> None:
        """Run something small, so that the first ask is as fast as the next. Any exception: the ticket is bad."""

    def run(self, rows: Sequence[Any]) -> Columns:
        """Run one batch of rows that ``parse`` has made. Any exception is the batch's failure."""

    def sample_rows(self, rows: int, size: int) -> list[Any]:
        """Rows to measure with, each of ``size`` (as `Work.longest` counts; at most ``max_size``)."""

    def cost_in_bytes(self, cost: Cost) -> Cost:
        """A cost whose sizes are counted as `Work.longest`, for those who only know the bytes of a row's input."""
