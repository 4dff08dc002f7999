"""The verdict on a canary: what the counts of its trial prove, in numbers and in words. Pure.

Owns the four questions (errors, lateness, agreement, confidence), their bounds, and the error probabilities. Each is
asked twice, with tests that may be looked at at any time (`routing.sequential`): is it proven to be worse than its
bound, so that the canary is bad, and is it proven to be better? A canary passes where all four are. Errors and lateness
are compared with the current ticket's over the same time: half of a test's error probability goes into how well that is
known. The tests suppose that asks are independent; what hits both tickets alike, such as an overload, favours neither.
"""

import math
from typing import Literal

import msgspec

from routing.canary import Arm, Counts
from routing.sequential import Bins, log_evidence, log_evidence_below, lower_bound, of_outcomes, upper_bound

MOST = 1e12
"""Evidence is not told beyond this: it decides nothing more, and has to fit a JSON number."""


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What a canary must keep to."""

    alpha: float = 0.05
    """The probability that a canary which keeps every bound is ever called bad; and that one which breaks a bound is
    ever called good."""
    error_margin: float = 0.02
    """By so much its part of asks that fail may exceed the current ticket's."""
    late_margin: float = 0.03
    """By so much its part of asks that are late may exceed the current ticket's."""
    min_agreement: float = 0.85
    """On so many of the rows it must say the same as the current ticket. Two tickets that are right on 95 % each say
    the same on 90 % and more; a better one must be allowed to differ."""
    max_shift: float = 0.2
    """By so much its confidence may differ from the current ticket's, on average."""
    min_asks: int = 100
    """So many asks it must have been tried on before it passes, whatever they prove."""


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """One of the four questions. Evidence is a gambler's capital: 1 proves nothing, ``needed`` is proof."""

    name: Literal["errors", "late", "agreement", "shift"]
    asks: int
    observed: float | None
    """Of the canary; None where nothing has been counted."""
    bound: float
    """What it is held against: for errors and lateness the current ticket's part and the margin."""
    bad_evidence: float
    good_evidence: float
    bad_needed: float
    good_needed: float

    @property
    def is_bad(self) -> bool:
        """Whether it is proven to be worse than its bound."""
        return self.bad_evidence >= self.bad_needed

    @property
    def is_good(self) -> bool:
        """Whether it is proven to be better than its bound."""
        return self.good_evidence >= self.good_needed


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from the counts of a trial."""

    outcome: Literal["running", "passed", "bad"]
    words: str
    tests: list[Test]


USUAL = Thresholds()


def judge(counts: Counts, thresholds: Thresholds = USUAL) -> Verdict:
    """The verdict on these counts; the same for the same counts."""
    bad_alpha = thresholds.alpha / 4  # any of the four makes it bad
    tests = [
        _against_current("errors", counts, thresholds.error_margin, bad_alpha, thresholds.alpha),
        _against_current("late", counts, thresholds.late_margin, bad_alpha, thresholds.alpha),
        _at_least("agreement", counts.agreement, thresholds.min_agreement, bad_alpha, thresholds.alpha),
        _at_most("shift", counts.shift, thresholds.max_shift, bad_alpha, thresholds.alpha),
    ]
    bad = [test for test in tests if test.is_bad]
    if bad:
        return Verdict(outcome="bad", words="; ".join(_words(test, counts) for test in bad), tests=tests)
    # Tickets that give no confidence (`tensors`) are not asked for it: nothing was counted, nothing can be proven.
    asked = [test for test in tests if test.name != "shift" or test.asks]
    if counts.canary.asks >= thresholds.min_asks and all(test.is_good for test in asked):
        words = "; ".join(_words(test, counts) for test in asked)
        return Verdict(outcome="passed", words=f"all tests passed: {words}", tests=tests)
    open_ = ", ".join(test.name for test in asked if not test.is_good) or f"{thresholds.min_asks} asks"
    return Verdict(outcome="running", words=f"not proven yet after {counts.canary.asks} asks: {open_}", tests=tests)


def _against_current(
    name: Literal["errors", "late"], counts: Counts, margin: float, bad_alpha: float, good_alpha: float
) -> Test:
    canary, current = _outcomes(name, counts.canary), _outcomes(name, counts.current)
    worst = upper_bound(current, bad_alpha / 2) + margin
    best = lower_bound(current, good_alpha / 2) + margin
    asks = counts.current.asks
    return Test(
        name=name, asks=counts.canary.asks, observed=_mean(canary), bound=(_mean(current) or 0.0) + margin,
        bad_evidence=_told(log_evidence(canary, worst)) if asks else 1.0,
        good_evidence=_told(log_evidence_below(canary, best)), bad_needed=2 / bad_alpha, good_needed=2 / good_alpha,
    )  # fmt: skip


def _at_least(name: Literal["agreement"], bins: Bins, bound: float, bad_alpha: float, good_alpha: float) -> Test:
    return Test(
        name=name, asks=sum(bins), observed=_mean(bins), bound=bound,
        bad_evidence=_told(log_evidence_below(bins, bound)), good_evidence=_told(log_evidence(bins, bound)),
        bad_needed=1 / bad_alpha, good_needed=1 / good_alpha,
    )  # fmt: skip


def _at_most(name: Literal["shift"], bins: Bins, bound: float, bad_alpha: float, good_alpha: float) -> Test:
    return Test(
        name=name, asks=sum(bins), observed=_mean(bins), bound=bound,
        bad_evidence=_told(log_evidence(bins, bound)), good_evidence=_told(log_evidence_below(bins, bound)),
        bad_needed=1 / bad_alpha, good_needed=1 / good_alpha,
    )  # fmt: skip


def _outcomes(name: Literal["errors", "late"], arm: Arm) -> Bins:
    return of_outcomes(arm.asks, arm.errors if name == "errors" else arm.late)


def _mean(bins: Bins) -> float | None:
    total = sum(bins)
    return sum(number * count for number, count in enumerate(bins)) / (len(bins) - 1) / total if total else None


def _told(log: float) -> float:
    return MOST if log >= math.log(MOST) else math.exp(log)


def _words(test: Test, counts: Counts) -> str:
    """One test as a sentence's part, with what was seen and how strong the evidence is."""
    evidence = max(test.bad_evidence, test.good_evidence)
    needed = test.bad_needed if test.is_bad else test.good_needed
    proof = f"evidence {evidence:.3g}, {needed:.3g} is proof"
    observed = test.observed or 0.0
    match test.name:
        case "errors" | "late":
            arm, other = counts.canary, counts.current
            seen, of = (arm.errors, other.errors) if test.name == "errors" else (arm.late, other.late)
            verb = "failed" if test.name == "errors" else "were late"
            return (
                f"{seen} of {arm.asks} asks of the canary {verb}, {of} of {other.asks} of the current ticket "
                f"(at most {test.bound:.3f} are allowed; {proof})"
            )
        case "agreement":
            return (
                f"both said the same on {observed:.3f} of the rows of {test.asks} asks "
                f"(at least {test.bound:.3f} is asked for; {proof})"
            )
        case "shift":
            return (
                f"confidences differed by {observed:.3f} on average over {test.asks} asks "
                f"(at most {test.bound:.3f} is allowed; {proof})"
            )
