"""Arithmetic on histogram buckets: quantiles, and steps put together to points of a curve. Pure.

Owns the interpolation, which is Prometheus's (`histogram_quantile`): evenly within a bucket, and never beyond the
largest finite bound. Counts are of each bucket alone, bounds are upper ones, ascending, the last infinite.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def quantiles(counts: Floats, bounds: Floats, q: float) -> Floats:
    """The ``q`` quantile of each row of ``counts``; NaN where a row has counted nothing."""
    found = np.full(len(counts), math.nan)
    totals = counts.sum(axis=1)
    some = totals.nonzero()[0]
    if not len(some):
        return found
    counts = counts[some]
    up_to = counts.cumsum(axis=1)
    target = q * totals[some]
    at = (up_to < target[:, None]).sum(axis=1).clip(0, len(bounds) - 1)
    rows = np.arange(len(some))
    inside = counts[rows, at]
    lower, upper = np.concatenate(([0.0], bounds[:-1]))[at], bounds[at]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = lower + (upper - lower) * (target - up_to[rows, at] + inside) / inside
    found[some] = np.where(np.isinf(upper), lower, value)
    return found


def quantile(counts: Sequence[float], bounds: Sequence[float], q: float) -> float | None:
    """The ``q`` quantile of one histogram; None where it has counted nothing."""
    total = sum(counts)
    if not total:
        return None
    target, up_to, lower = q * total, 0.0, 0.0
    for inside, upper in zip(counts, bounds, strict=True):
        if inside and up_to + inside >= target:
            return lower if math.isinf(upper) else lower + (upper - lower) * (target - up_to) / inside
        up_to += inside
        if not math.isinf(upper):
            lower = upper
    return lower


class Points:
    """The points of a curve: each some steps together. They lie at fixed times, so that curves do not flicker as the
    window moves; where a point is no longer than a step, each step is one."""

    def __init__(self, at: Floats, seconds: Floats, *, point_s: float, step_s: float) -> None:
        """``at``: when each step ended, ``seconds`` how long it was."""
        self.point_s = point_s
        self.ends_at = float(at[-1]) if len(at) else 0.0
        if point_s <= step_s or not len(at):
            self._starts = np.arange(len(at))
        else:
            number = np.ceil(at / point_s)
            self._starts = np.flatnonzero(np.concatenate(([True], number[1:] != number[:-1])))
        self.seconds = self.add_up(seconds[:, None])[:, 0]

    def __len__(self) -> int:
        return len(self._starts)

    def add_up(self, steps: Floats) -> Floats:
        """Rows of steps as rows of points."""
        return np.add.reduceat(steps, self._starts, axis=0) if len(self._starts) else steps[:0]


def listed(values: Floats, digits: int = 3) -> list[float | None]:
    """As JSON has it: rounded, and None for NaN."""
    return [None if value != value else value for value in np.round(values, digits).tolist()]
