"""Sequential tests: what counts prove about a mean, however often one looks at them. Pure arithmetic.

Owns test martingales by betting (Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting",
JRSS-B 2024). For values in [0, 1] whose mean is at most m, the capital of a gambler who starts with 1 and puts a
fraction c of it on every next value being larger is multiplied by 1 - c + c * value / m, which is at most 1 on average.
So the capital exceeds 1/alpha with probability alpha at most, ever (Ville 1939): it may be looked at after every value.
Several gamblers with fixed fractions share the first capital; no order of the values changes it, so that counts are
enough, and counts of several gateways can be added. What is tested, and what follows, is `routing.verdict`'s.
"""

import math
from collections.abc import Sequence

BINS = 20
"""Values are counted in BINS + 1 bins: 0, 1/BINS, ... 1."""
FRACTIONS = (0.003, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8, 0.95)
"""What the gamblers bet. A fraction c is the best bet where the mean is about m + c (1 - m)."""
_STEPS = 40

Bins = Sequence[int]
"""How many values there were in each bin, from 0 to 1, evenly spaced: ``(failures, successes)`` for yes and no."""


def of_outcomes(of: int, ones: int) -> Bins:
    """The counts of ``of`` values of which ``ones`` are 1 and the others 0."""
    return (of - ones, ones)


def log_evidence(counts: Bins, bound: float) -> float:
    """The logarithm of the capital against "the mean is at most ``bound``": at least log(1/alpha) rejects that.

    It falls as ``bound`` rises, and is 0 where nothing has been counted.
    """
    if bound >= 1.0 or not any(counts):
        return 0.0
    if bound <= 0.0:
        return math.inf if any(counts[1:]) else 0.0
    last = len(counts) - 1
    seen = [(number / last, count) for number, count in enumerate(counts) if count]
    logs = [sum(count * math.log1p(c * (value / bound - 1.0)) for value, count in seen) for c in FRACTIONS]
    most = max(logs)
    return most + math.log(sum(math.exp(one - most) for one in logs) / len(logs))


def log_evidence_below(counts: Bins, bound: float) -> float:
    """The same against "the mean is at least ``bound``"."""
    return log_evidence(tuple(reversed(counts)), 1.0 - bound)


def lower_bound(counts: Bins, alpha: float) -> float:
    """What the mean is at least, wrong with probability ``alpha`` at most, over all looks together."""
    wanted = math.log(1.0 / alpha)
    if log_evidence(counts, 0.0) < wanted:
        return 0.0
    below, above = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (below + above) / 2
        below, above = (middle, above) if log_evidence(counts, middle) >= wanted else (below, middle)
    return below


def upper_bound(counts: Bins, alpha: float) -> float:
    """What the mean is at most, wrong with probability ``alpha`` at most, over all looks together."""
    return 1.0 - lower_bound(tuple(reversed(counts)), alpha)


def bin_of(value: float) -> int:
    """The bin of a value between 0 and 1: the nearest. What is no number is as far off as can be: the last one."""
    return round(min(1.0, max(0.0, value)) * BINS) if value == value else BINS
