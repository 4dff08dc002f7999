"""Sequential tests: how often they are wrong when they are looked at all the time, and how soon they see something."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.sequential import (
    BINS,
    bin_of,
    log_evidence,
    log_evidence_below,
    lower_bound,
    of_outcomes,
    upper_bound,
)

bins = st.lists(st.integers(0, 200), min_size=2, max_size=BINS + 1)
means = st.floats(0.001, 0.999)


@pytest.mark.parametrize("bound", [0.01, 0.1, 0.5])
def test_at_its_bound_it_is_rarely_wrong_though_it_is_looked_at_after_every_value(bound: float) -> None:
    """The worst case that it must not reject: a mean that is exactly the bound. 300 runs of 1,000 values."""
    dice, alpha, wrong = random.Random(7), 0.05, 0
    for _ in range(300):
        ones = 0
        for number in range(1, 1001):
            if dice.random() < bound:  # only then does the evidence grow
                ones += 1
                if log_evidence(of_outcomes(number, ones), bound) >= math.log(1 / alpha):
                    wrong += 1
                    break
    assert wrong <= alpha * 300


def test_it_sees_what_is_there_soon() -> None:
    """A mean of 0.1 where 0.02 is allowed, at alpha 0.0125: within 400 values nearly always."""
    dice, seen = random.Random(7), []
    for _ in range(200):
        ones = 0
        for number in range(1, 2001):
            ones += dice.random() < 0.1
            if log_evidence(of_outcomes(number, ones), 0.02) >= math.log(80):
                seen.append(number)
                break
    assert len(seen) == 200
    assert sorted(seen)[100] < 100
    assert sorted(seen)[190] < 400


@given(bins, means, means)
def test_a_higher_bound_is_never_rejected_sooner(counts: list[int], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert log_evidence(counts, high) <= log_evidence(counts, low) + 1e-6


@given(bins, st.floats(0.001, 0.5))
def test_bounds_are_where_the_evidence_is_and_hold_the_mean_between_them(counts: list[int], alpha: float) -> None:
    low, high = lower_bound(counts, alpha), upper_bound(counts, alpha)
    assert 0.0 <= low <= high <= 1.0
    if any(counts):
        mean = sum(i * n for i, n in enumerate(counts)) / (len(counts) - 1) / sum(counts)
        assert low - 1e-9 <= mean <= high + 1e-9
    else:
        assert (low, high) == (0.0, 1.0)
    if low > 1e-9:
        assert log_evidence(counts, low * 0.999) >= math.log(1 / alpha) - 1e-6


@given(bins, means)
def test_evidence_that_it_is_less_is_evidence_that_the_opposite_is_more(counts: list[int], bound: float) -> None:
    assert log_evidence_below(counts, bound) == log_evidence(counts[::-1], 1.0 - bound)


def test_what_has_been_seen_once_cannot_be_impossible() -> None:
    assert log_evidence(of_outcomes(10, 1), 0.0) == math.inf
    assert log_evidence(of_outcomes(10, 0), 0.0) == 0.0
    assert log_evidence(of_outcomes(10, 10), 1.0) == 0.0


@pytest.mark.parametrize(
    ("value", "bin_"),
    [(0.0, 0), (1.0, BINS), (0.5, BINS // 2), (-3.0, 0), (7.0, BINS), (float("nan"), BINS), (0.024, 0), (0.026, 1)],
)
def test_values_are_counted_in_the_nearest_bin(value: float, bin_: int) -> None:
    assert bin_of(value) == bin_
