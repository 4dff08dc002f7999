"""The dynamic programme: of every set of options take one, so that the loss is least and the time is kept.

A multiple-choice knapsack, solved exactly. Kwon et al. 2022 ("A Fast Post-Training Pruning Framework for
Transformers", section 4.1) take options greedily, and their published search shrinks the budget on the way by a slip.
Kurtic et al. 2023 (ZipLM, section 3.2) run a dynamic programme over time cut into buckets, and a random search around
it. Here times are whole nanoseconds, nothing is rounded to buckets, and no option is left out without a proof:

- a partial choice goes when another one is no slower and no worse (Nemhauser & Ullmann 1969, dominance);
- or when even the best fractional completion (the lower convex hulls of the sets that are left; Sinha & Zoltners 1979)
  ends worse than a complete choice that is known. That is what keeps fronts of thousands from becoming millions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Front = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Times in nanoseconds and losses, by rising time and falling loss."""

_SLACK = 1e-9  # of all losses together: a bound may be off by rounding, and must then not exclude anything


@dataclass(frozen=True, slots=True)
class Options:
    """One set: each option's time (``ns``, whole nanoseconds) and ``loss``."""

    ns: NDArray[np.int64]
    loss: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Step:
    """The partial choices after one more set: for each, the one it continues and the option it took."""

    before: NDArray[np.int64]
    option: NDArray[np.int64]


def best_choice(sets: Sequence[Options], budget_ns: int) -> list[int]:
    """One option of every set: least total loss, and among equals least time, within ``budget_ns``.

    Raises ValueError where even the fastest options together take longer.
    """
    fastest = [int(options.ns.min()) for options in sets]
    if sum(fastest) > budget_ns:
        raise ValueError(f"the fastest options take {sum(fastest)} ns, the budget is {budget_ns} ns")
    bounds = _bounds(sets)
    known = _greedy(sets, budget_ns)
    known += _SLACK * sum(float(np.abs(options.loss).max()) for options in sets)
    steps: list[_Step] = []
    ns, loss = np.zeros(1, np.int64), np.zeros(1)
    for options, (rest_ns, rest_loss) in zip(sets, bounds[1:], strict=True):
        count = len(options.ns)
        ns, loss = (ns[:, None] + options.ns).ravel(), (loss[:, None] + options.loss).ravel()
        left = budget_ns - ns
        alive = np.flatnonzero(left >= rest_ns[0])
        alive = alive[loss[alive] + np.interp(left[alive], rest_ns, rest_loss) <= known]
        alive = alive[_undominated(ns[alive], loss[alive])]
        steps.append(_Step(alive // count, alive % count))
        ns, loss = ns[alive], loss[alive]
    return _trace(steps)


def _trace(steps: list[_Step]) -> list[int]:
    """The options that led to the last state: fronts fall, so it has the least loss."""
    at, picks = -1, []
    for step in reversed(steps):
        picks.append(int(step.option[at]))
        at = int(step.before[at])
    return picks[::-1]


def _undominated(ns: NDArray[np.int64], loss: NDArray[np.float64]) -> NDArray[np.int64]:
    """The places, by rising time, of those pairs that lose less than all faster ones."""
    order = np.lexsort((loss, ns))
    least = np.minimum.accumulate(loss[order])
    falls = np.concatenate([[True], loss[order][1:] < least[:-1]])
    return np.asarray(order[falls], np.int64)


def _hull(options: Options) -> Front:
    """The lower convex hull of a set's undominated options."""
    hull: list[tuple[int, float]] = []
    for place in _undominated(options.ns, options.loss):
        x, y = int(options.ns[place]), float(options.loss[place])
        while len(hull) > 1 and _is_above(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return np.array([x for x, _ in hull], np.int64), np.array([y for _, y in hull])


def _is_above(left: tuple[int, float], middle: tuple[int, float], right: tuple[int, float]) -> bool:
    """Whether the middle point lies on or above the line from left to right."""
    rise = (middle[1] - left[1]) * (right[0] - left[0])
    return rise >= (right[1] - left[1]) * (middle[0] - left[0])


def _bounds(sets: Sequence[Options]) -> list[Front]:
    """For every suffix of the sets (the last one empty): the least loss that a fractional choice reaches in a time,
    as the corners of a convex, falling function. It is the sum of the hulls: their pieces, the steepest first.
    """
    hulls = [_hull(options) for options in sets]
    bounds: list[Front] = []
    for first in range(len(hulls) + 1):
        start_ns = sum(int(ns[0]) for ns, _ in hulls[first:])
        start_loss = sum(float(loss[0]) for _, loss in hulls[first:])
        run = np.concatenate([np.zeros(0, np.int64), *(np.diff(ns) for ns, _ in hulls[first:])])
        fall = np.concatenate([np.zeros(0), *(np.diff(loss) for _, loss in hulls[first:])])
        order = np.argsort(fall / run, kind="stable")
        corners = np.concatenate([[0], np.cumsum(run[order])]) + start_ns
        bounds.append((corners, np.concatenate([[0.0], np.cumsum(fall[order])]) + start_loss))
    return bounds


def _greedy(sets: Sequence[Options], budget_ns: int) -> float:
    """The loss of a choice within the budget: the hulls' pieces, the steepest first, as long as they fit."""
    pieces: list[tuple[float, int, int, int, float]] = []
    left, total = budget_ns, 0.0
    for number, options in enumerate(sets):
        ns, loss = _hull(options)
        left, total = left - int(ns[0]), total + float(loss[0])
        for place, (run, fall) in enumerate(zip(np.diff(ns), np.diff(loss), strict=True)):
            pieces.append((float(fall / run), number, place, int(run), float(fall)))
    closed: set[int] = set()
    for _, number, _, run, fall in sorted(pieces):
        if number in closed or run > left:
            closed.add(number)
            continue
        left, total = left - run, total + fall
    return total
