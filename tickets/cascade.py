"""Cascades: how sure a small ticket must be for its answer to stand, instead of asking a larger one.

Owns the arithmetic on what two tickets made of the same validation texts; it opens no ticket and
reads no data (`tickets.factory.cascade` does). The chosen threshold is to hold its promise on texts
nobody has seen, so it is tested and not just fitted. Thresholds are tried from 1 downwards, each
with an exact binomial test, and the first that fails ends it: fixed-sequence testing, by which the
chance that the choice breaks the promise stays below ``1 - certainty`` however many are tried
(Angelopoulos, Bates, Candes, Jordan & Lei 2021, "Learn then Test", sections 2 and 4.1).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CERTAINTY = 0.95
GRID = tuple(sorted({i / 1000 for i in range(1001)} | {i / 10000 for i in range(9900, 10001)}, reverse=True))
"""The thresholds that are tried: fixed before any data is seen, finer where calibrated confidences crowd."""

Flags = NDArray[np.bool_]


class CascadeError(ValueError):
    """A cascade that makes no sense, or a promise that these texts cannot show to hold."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The promise that the cascade is right on at least this share of texts."""

    accuracy: float

    @property
    def failures(self) -> float:
        """The share of texts on which the promise may be broken."""
        return 1 - self.accuracy


@dataclass(frozen=True, slots=True)
class Within:
    """The promise that at most so many of 100 texts are answered wrongly where the large ticket alone is right.

    The cascade's accuracy then lies at most ``points`` below the large ticket's. Texts on which only the small one is
    right are not set against the losses: the promise is the stronger one, and falls with the threshold.
    """

    points: float

    @property
    def failures(self) -> float:
        """The share of texts on which the promise may be broken."""
        return self.points / 100


Promise = Hold | Within


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What two tickets made of the same n texts, as arrays [n].

    ``confidence`` is the small ticket's, calibrated. An answer is right where an in-scope text is found to be in scope
    and gets its label, or an out-of-scope text is found out of scope. ``in_scope`` is the truth.
    """

    confidence: NDArray[np.float32]
    small_right: Flags
    large_right: Flags
    in_scope: Flags

    def answered_by_small(self, threshold: float) -> Flags:
        """Where the small ticket's answer stands."""
        return np.asarray(self.confidence >= np.float32(threshold))

    def right(self, threshold: float) -> Flags:
        """Where the cascade is right."""
        return np.where(self.answered_by_small(threshold), self.small_right, self.large_right)

    def broken(self, promise: Promise, threshold: float) -> int:
        """On how many texts the cascade breaks the promise."""
        if isinstance(promise, Hold):
            return int((~self.right(threshold)).sum())
        return int((self.answered_by_small(threshold) & ~self.small_right & self.large_right).sum())


@dataclass(frozen=True, slots=True)
class Measured:
    """What always asking one ticket, or the cascade, comes to. Shares of texts; ``None`` where there are none.

    ``accuracy`` is taken at a stated mix of in-scope and out-of-scope texts, so that splits can be compared.
    """

    accuracy: float
    in_scope_right: float | None
    out_of_scope_found: float | None
    answered_by_small: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold that keeps its promise. ``shown``: the bound that holds with the asked certainty, on the accuracy
    (`Hold`: from below) or on the points lost (`Within`: from above).
    """

    value: float
    broken: int
    texts: int
    shown: float


def find_threshold(outcomes: Outcomes, promise: Promise, certainty: float = CERTAINTY) -> Threshold:
    """The smallest threshold that is shown to keep ``promise``. Raises CascadeError, which says what can be reached."""
    texts = len(outcomes.confidence)
    _check(outcomes, promise)
    most = most_failures(texts, promise.failures, 1 - certainty)
    chosen: float | None = None
    if outcomes.broken(promise, math.inf) <= most:
        for threshold in GRID:
            if outcomes.broken(promise, threshold) > most:
                break
            chosen = threshold
    if chosen is None or not outcomes.answered_by_small(chosen).any():
        raise CascadeError(_unreachable(outcomes, promise, certainty))
    broken = outcomes.broken(promise, chosen)
    return Threshold(chosen, broken, texts, _shown(promise, broken, texts, certainty))


def measure(outcomes: Outcomes, threshold: float, in_scope_share: float) -> Measured:
    """The cascade at ``threshold`` (0: always small, infinity: always large), weighed to ``in_scope_share``."""
    inside = outcomes.in_scope
    label, found = _rates(outcomes.right(threshold), inside)
    small_inside, small_outside = _rates(outcomes.answered_by_small(threshold), inside)
    return Measured(
        accuracy=_mixed(label, found, in_scope_share),
        in_scope_right=label,
        out_of_scope_found=found,
        answered_by_small=_mixed(small_inside, small_outside, in_scope_share),
    )


def mean_cost(small: float, large: float, answered_by_small: float) -> float:
    """What a text costs on average, where the small ticket sees all of them and the large one what is left."""
    return small + (1 - answered_by_small) * large


def most_failures(texts: int, share: float, risk: float) -> int:
    """The most failures among ``texts`` that still show, at ``risk``, that less than ``share`` of all fail.

    The largest k with P(Binomial(texts, share) <= k) <= risk; -1 where even none would not show it.
    """
    if not 0 < share < 1:
        return texts if share >= 1 else -1
    total = 0.0
    for failures in range(texts + 1):
        total += math.exp(_log_chance(failures, texts, share))
        if total > risk:
            return failures - 1
    return texts


def upper_bound(failures: int, texts: int, risk: float) -> float:
    """The share of failures that is not exceeded, at ``risk`` (Clopper & Pearson 1934, one-sided)."""
    if failures == texts:
        return 1.0
    low, high = failures / texts, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        chance = math.fsum(math.exp(_log_chance(k, texts, middle)) for k in range(failures + 1))
        low, high = (middle, high) if chance > risk else (low, middle)
    return high


def _log_chance(failures: int, texts: int, share: float) -> float:
    ways = math.lgamma(texts + 1) - math.lgamma(failures + 1) - math.lgamma(texts - failures + 1)
    return ways + failures * math.log(share) + (texts - failures) * math.log1p(-share)


def _rates(flags: Flags, inside: Flags) -> tuple[float | None, float | None]:
    """The share of True among in-scope and among out-of-scope texts; None where there are none."""
    return (
        float(flags[inside].mean()) if inside.any() else None,
        float(flags[~inside].mean()) if not inside.all() else None,
    )


def _mixed(inside: float | None, outside: float | None, in_scope_share: float) -> float:
    if inside is None or outside is None:
        return inside if inside is not None else outside if outside is not None else 0.0
    return in_scope_share * inside + (1 - in_scope_share) * outside


def _check(outcomes: Outcomes, promise: Promise) -> None:
    if not len(outcomes.confidence):
        raise CascadeError("there are no validation texts to choose a threshold on")
    if not 0 < promise.failures < 1:
        what = "--hold is an accuracy between 0 and 1" if isinstance(promise, Hold) else "--within is in points of 100"
        raise CascadeError(f"{what}, not {promise.accuracy if isinstance(promise, Hold) else promise.points:g}")
    small, large = float(outcomes.small_right.mean()), float(outcomes.large_right.mean())
    if large <= small:
        raise CascadeError(
            f"the large ticket is not better than the small one on the validation texts ({large:.2%} against "
            f"{small:.2%}): serve the small one alone"
        )


def _shown(promise: Promise, broken: int, texts: int, certainty: float) -> float:
    bound = upper_bound(broken, texts, 1 - certainty)
    return 1 - bound if isinstance(promise, Hold) else 100 * bound


def _unreachable(outcomes: Outcomes, promise: Promise, certainty: float) -> str:
    texts = len(outcomes.confidence)
    if most_failures(texts, promise.failures, 1 - certainty) < 0:
        needed = math.ceil(math.log(1 - certainty) / math.log1p(-promise.failures))
        return (
            f"{texts} validation texts are too few to show this with {certainty:.0%} certainty even if none were "
            f"wrong: it takes {needed}, or a weaker promise"
        )
    first = next((t for t in GRID if outcomes.answered_by_small(t).any()), GRID[-1])
    best = _shown(promise, outcomes.broken(promise, first), texts, certainty)
    if isinstance(promise, Within):
        return (
            f"no threshold is shown to lose at most {promise.points:g} points: the best reachable on {texts} "
            f"validation texts with {certainty:.0%} certainty is {best:.2f} points"
        )
    alone = _shown(promise, outcomes.broken(promise, math.inf), texts, certainty)
    return (
        f"no threshold is shown to hold {promise.accuracy:.2%}: the large ticket alone is right on "
        f"{outcomes.large_right.mean():.2%} of {texts} validation texts, of which {min(best, alone):.2%} is shown with "
        f"{certainty:.0%} certainty; that is the best reachable"
    )
