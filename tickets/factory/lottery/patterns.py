"""Patterns: which weights of a matrix may stay where hardware wants zeros in places it can skip.

Owns three shapes of a mask on a matrix [out, in], each chosen by magnitude: N of every M neighbours along the input
(what sparse tensor cores read; Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks", section 3), whole blocks
(Gray et al. 2017, "GPU Kernels for Block-Sparse Weights"), and any weights at all, the yardstick of the same density.
Pure functions on arrays; training with them is `tickets.factory.lottery.patterned`.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Values = NDArray[Any]

FORMS = "2:4 (N:M), block:16x16@0.5 (ROWSxCOLUMNS@DENSITY), or any@0.5 (unstructured at that density)"
_N_OF_M = re.compile(r"(\d+):(\d+)")
_BLOCK = re.compile(r"block:(\d+)x(\d+)@(\d*\.?\d+)")
_ANY = re.compile(r"any@(\d*\.?\d+)")


class PatternError(ValueError):
    """A pattern that cannot be, a matrix that it does not fit, or one that breaks it; the message names the place."""


@dataclass(frozen=True, slots=True)
class NofM:
    """Of every ``of`` neighbours along the input dimension, ``keep`` stay."""

    keep: int
    of: int

    def __post_init__(self) -> None:
        if not 0 < self.keep < self.of:
            raise PatternError(f"{self}: N must be at least 1 and less than M")

    def __str__(self) -> str:
        return f"{self.keep}:{self.of}"

    @property
    def density(self) -> float:
        """The share of weights that stay."""
        return self.keep / self.of


@dataclass(frozen=True, slots=True)
class Blocks:
    """Whole blocks of ``rows`` outputs x ``columns`` inputs stay or go; ``density`` of each matrix's blocks stay."""

    rows: int
    columns: int
    density: float

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1:
            raise PatternError(f"{self}: a block has at least one row and one column")
        _check_density(self, self.density)

    def __str__(self) -> str:
        return f"block:{self.rows}x{self.columns}@{self.density:g}"


@dataclass(frozen=True, slots=True)
class Unstructured:
    """Any weights stay, ``density`` of each matrix."""

    density: float

    def __post_init__(self) -> None:
        _check_density(self, self.density)

    def __str__(self) -> str:
        return f"any@{self.density:g}"


Pattern = NofM | Blocks | Unstructured


def parse_pattern(text: str) -> Pattern:
    """Read ``2:4``, ``block:16x16@0.5`` or ``any@0.5``. Raises PatternError that shows the forms."""
    if found := _N_OF_M.fullmatch(text):
        return NofM(int(found[1]), int(found[2]))
    if found := _BLOCK.fullmatch(text):
        return Blocks(int(found[1]), int(found[2]), float(found[3]))
    if found := _ANY.fullmatch(text):
        return Unstructured(float(found[1]))
    raise PatternError(f"cannot read pattern {text!r}; write {FORMS}")


def mask_of(weight: Values, pattern: Pattern, name: str = "matrix") -> Bools:
    """The mask of the most magnitude that the pattern allows, of the shape of ``weight`` [out, in]; False is pruned.

    Of equal magnitudes the first in reading order stay. ``name`` is for the message where the shape does not divide
    (PatternError).
    """
    _check_shape(weight, pattern, name)
    magnitude = np.abs(weight).astype(np.float64)
    match pattern:
        case NofM(keep, of):
            groups = magnitude.reshape(-1, of)
            mask = np.zeros(groups.shape, np.bool_)
            np.put_along_axis(mask, np.argsort(-groups, axis=1, kind="stable")[:, :keep], True, axis=1)
            return mask.reshape(weight.shape)
        case Blocks(rows, columns, _):
            sums = _blocks(magnitude, rows, columns).sum(axis=(1, 3))
            return np.repeat(np.repeat(_largest(sums, pattern), rows, axis=0), columns, axis=1)
        case Unstructured():
            return _largest(magnitude, pattern)


def check_pattern(values: Values, pattern: Pattern, name: str = "matrix") -> None:
    """Check a weight (no more values than the pattern allows) or, where ``values`` is bool, a mask (exactly as many).

    Raises PatternError naming the first place that breaks it; rows are outputs, columns inputs, both from 0.
    """
    _check_shape(values, pattern, name)
    is_mask = values.dtype == np.bool_
    match pattern:
        case NofM(keep, of):
            counts = np.count_nonzero(values.reshape(values.shape[0], -1, of), axis=2)
            wrong = np.argwhere(counts != keep if is_mask else counts > keep)
            if len(wrong):
                row, group = (int(i) for i in wrong[0])
                raise PatternError(
                    f"{name}: row {row}, columns {group * of} to {group * of + of - 1}: "
                    f"{counts[row, group]} weights stay; {pattern} wants {keep}"
                )
        case Blocks(rows, columns, _):
            counts = np.count_nonzero(_blocks(values, rows, columns), axis=(1, 3))
            torn = np.argwhere((counts > 0) & (counts < rows * columns)) if is_mask else np.zeros((0, 2), np.int64)
            if len(torn):
                raise PatternError(f"{name}: the {_place(torn[0], rows, columns)} is kept only in part")
            _check_count(np.argwhere(counts > 0), kept(pattern, counts.size), pattern, name, is_mask=is_mask)
        case Unstructured():
            _check_count(np.argwhere(values), kept(pattern, values.size), pattern, name, is_mask=is_mask)


def kept(pattern: Blocks | Unstructured, units: int) -> int:
    """How many of a matrix's blocks (or weights) stay: at least one, so that no matrix is emptied."""
    return max(1, round(pattern.density * units))


def softened(pattern: Pattern, rounds: int) -> list[Pattern]:
    """The patterns of gradual pruning, ending in ``pattern``; fewer than ``rounds`` where N:M has fewer steps.

    A mask chosen on weights that the one before has zeroed lies within it, for what is zero has no magnitude.
    """
    shares = [(i + 1) / rounds for i in range(rounds)]
    match pattern:
        case NofM(keep, of):
            keeps = dict.fromkeys(round(of - (of - keep) * share) for share in shares)
            return [NofM(k, of) for k in keeps if k < of]
        case Blocks(rows, columns, density):
            return [*(Blocks(rows, columns, density**share) for share in shares[:-1]), pattern]
        case Unstructured(density):
            return [*(Unstructured(density**share) for share in shares[:-1]), pattern]


def _check_density(pattern: Blocks | Unstructured, density: float) -> None:
    if not 0 < density < 1:
        raise PatternError(f"{pattern}: the density must lie between 0 and 1")


def _check_shape(values: Values, pattern: Pattern, name: str) -> None:
    if values.ndim != 2:
        raise PatternError(f"{name}: a pattern is of matrices; this has shape {list(values.shape)}")
    outputs, inputs = values.shape
    rows, columns = 1, 1
    if isinstance(pattern, NofM):
        columns = pattern.of
    elif isinstance(pattern, Blocks):
        rows, columns = pattern.rows, pattern.columns
    if outputs % rows:
        raise PatternError(f"{name}: {outputs} outputs do not divide by {rows}, as {pattern} needs")
    if inputs % columns:
        raise PatternError(f"{name}: {inputs} inputs do not divide by {columns}, as {pattern} needs")


def _check_count(
    found: NDArray[np.int64], allowed: int, pattern: Blocks | Unstructured, name: str, *, is_mask: bool
) -> None:
    unit = (pattern.rows, pattern.columns) if isinstance(pattern, Blocks) else (1, 1)
    what = "weights" if isinstance(pattern, Unstructured) else "blocks"
    if len(found) > allowed:
        raise PatternError(
            f"{name}: {len(found)} {what} stay; {pattern} allows {allowed}. The first too many is the "
            f"{_place(found[allowed], *unit)}"
        )
    if is_mask and len(found) < allowed:
        raise PatternError(f"{name}: {len(found)} {what} stay; {pattern} wants {allowed}")


def _place(index: NDArray[np.int64], rows: int, columns: int) -> str:
    row, column = int(index[0]) * rows, int(index[1]) * columns
    if rows * columns == 1:
        return f"weight at row {row}, column {column}"
    return f"block at rows {row} to {row + rows - 1}, columns {column} to {column + columns - 1}"


def _blocks(values: Values, rows: int, columns: int) -> Values:
    """[out, in] -> [out / rows, rows, in / columns, columns]."""
    return values.reshape(values.shape[0] // rows, rows, values.shape[1] // columns, columns)


def _largest(magnitude: NDArray[np.float64], pattern: Blocks | Unstructured) -> Bools:
    mask = np.zeros(magnitude.size, np.bool_)
    mask[np.argsort(-magnitude.ravel(), kind="stable")[: kept(pattern, magnitude.size)]] = True
    return mask.reshape(magnitude.shape)
