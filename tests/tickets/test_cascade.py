"""Thresholds of cascades: the arithmetic against definitions and known values, and the promise on fresh texts."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickets.cascade import (
    GRID,
    CascadeError,
    Hold,
    Outcomes,
    Within,
    find_threshold,
    mean_cost,
    measure,
    most_failures,
    upper_bound,
)


def drawn(texts: int, seed: int) -> Outcomes:
    """A small ticket that is right with the probability it states, beside a large one that is right on 97 %."""
    random = np.random.default_rng(seed)
    confidence = random.beta(6, 1, texts).astype(np.float32)
    return Outcomes(
        confidence, random.random(texts) < confidence, random.random(texts) < 0.97, random.random(texts) < 0.7
    )


def exact_tail(failures: int, texts: int, share: float) -> float:
    return sum(math.comb(texts, k) * share**k * (1 - share) ** (texts - k) for k in range(failures + 1))


@given(st.integers(1, 120), st.floats(0.01, 0.6), st.sampled_from([0.01, 0.05, 0.2]))
def test_most_failures_is_where_the_binomial_test_still_rejects(texts: int, share: float, risk: float) -> None:
    """Against the definition with exact integers: one failure more would not."""
    most = most_failures(texts, share, risk)
    assert most == -1 or exact_tail(most, texts, share) <= risk * (1 + 1e-9)
    assert most == texts or exact_tail(most + 1, texts, share) > risk * (1 - 1e-9)


@pytest.mark.parametrize(
    ("failures", "texts", "bound"),
    [(0, 100, 1 - 0.05**0.01), (1, 10, 0.39416), (5, 100, 0.10225), (10, 10, 1.0)],
)
def test_upper_bounds_are_those_of_clopper_and_pearson(failures: int, texts: int, bound: float) -> None:
    """Values from published tables (one-sided, 95 %); no failure has a closed form."""
    assert upper_bound(failures, texts, 0.05) == pytest.approx(bound, abs=5e-5)


def test_the_threshold_is_the_smallest_that_passes_from_above() -> None:
    """Every grid value down to it keeps the promise's test, the next one does not."""
    outcomes, promise = drawn(3000, 1), Within(2)
    found = find_threshold(outcomes, promise)
    most = most_failures(3000, 0.02, 0.05)
    at = GRID.index(found.value)
    assert 0 < at < len(GRID) - 1
    assert all(outcomes.broken(promise, t) <= most for t in GRID[: at + 1])
    assert outcomes.broken(promise, GRID[at + 1]) > most
    assert found.broken <= most
    assert found.shown <= 2


@pytest.mark.parametrize("promise", [Within(2), Hold(0.95)], ids=["within", "hold"])
def test_the_promise_holds_on_fresh_texts_as_often_as_it_says(promise: Within | Hold) -> None:
    """300 times: choose on 1,000 texts, look at 200,000. At most 5 % of the choices may break the promise."""
    fresh = drawn(200_000, 999)
    limit = promise.failures * 200_000
    worst = {t: fresh.broken(promise, t) for t in GRID}
    chosen = []
    for seed in range(300):
        with contextlib.suppress(CascadeError):  # refusing breaks no promise
            chosen.append(find_threshold(drawn(1000, seed), promise).value)
    assert len(chosen) > 150
    assert sum(worst[t] > limit for t in chosen) <= 0.05 * 300 + 2 * math.sqrt(300 * 0.05 * 0.95)


def test_a_naive_choice_would_break_it_far_more_often() -> None:
    """The same trial without the guard: the smallest threshold that is good enough on the validation texts alone."""
    promise, fresh = Within(2), drawn(200_000, 999)
    worst = {t: fresh.broken(promise, t) for t in GRID}
    chosen = [min(t for t in GRID if drawn(1000, seed).broken(promise, t) <= 20) for seed in range(30)]
    assert sum(worst[t] > 0.02 * 200_000 for t in chosen) > 10


def test_a_stronger_promise_lets_the_small_ticket_answer_less() -> None:
    """Fewer points lost, higher threshold; and more certainty as well."""
    outcomes = drawn(4000, 2)
    thresholds = [find_threshold(outcomes, Within(points)).value for points in (4, 2, 1)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]
    assert find_threshold(outcomes, Within(2), 0.999).value >= find_threshold(outcomes, Within(2), 0.8).value


def test_measuring_weighs_both_kinds_of_text_as_asked() -> None:
    """Two in scope (one right), two out of scope (both found): by the mix, not by the counts."""
    flags = np.asarray([True, False, True, True])
    outcomes = Outcomes(np.full(4, 0.9, np.float32), flags, ~flags, np.asarray([True, True, False, False]))
    small = measure(outcomes, 0.0, in_scope_share=0.2)
    assert (small.in_scope_right, small.out_of_scope_found) == (0.5, 1.0)
    assert small.accuracy == pytest.approx(0.2 * 0.5 + 0.8 * 1.0)
    assert small.answered_by_small == 1.0
    large = measure(outcomes, math.inf, in_scope_share=0.2)
    assert large.accuracy == pytest.approx(0.2 * 0.5)
    assert large.answered_by_small == 0.0


def test_without_out_of_scope_texts_accuracy_is_that_of_the_labels() -> None:
    """Whatever the mix that is asked for."""
    right = np.asarray([True, True, True, False])
    outcomes = Outcomes(np.ones(4, np.float32), right, right, np.ones(4, bool))
    measured = measure(outcomes, 0.5, in_scope_share=0.1)
    assert measured.accuracy == 0.75
    assert measured.out_of_scope_found is None


def test_the_small_ticket_is_paid_for_on_every_text() -> None:
    """The large one only where it is asked."""
    assert mean_cost(1.0, 10.0, answered_by_small=0.75) == 3.5
    assert mean_cost(1.0, 10.0, answered_by_small=0.0) == 11.0


def test_a_large_ticket_that_is_not_better_is_refused() -> None:
    """There is nothing to win; both figures are named."""
    right = np.asarray([True] * 99 + [False])
    with pytest.raises(CascadeError, match=r"not better than the small one .*99\.00% against 99\.00%"):
        find_threshold(Outcomes(np.ones(100, np.float32), right, right, np.ones(100, bool)), Within(1))


def test_too_few_texts_are_refused_with_the_number_it_takes() -> None:
    """59 texts without an error show 5 points at 95 %, 58 do not: 0.95 ** 59 < 0.05 < 0.95 ** 58."""

    def flawless(texts: int) -> Outcomes:
        small = np.asarray([False] + [True] * (texts - 1))
        confidence = small.astype(np.float32)
        return Outcomes(confidence, small, np.ones(texts, bool), np.ones(texts, bool))

    assert find_threshold(flawless(59), Within(5)).broken == 0
    with pytest.raises(CascadeError, match=r"58 validation texts are too few .* it takes 59"):
        find_threshold(flawless(58), Within(5))


def test_an_accuracy_out_of_reach_is_refused_with_the_best_that_is_not() -> None:
    """And that best can really be asked for."""
    outcomes = drawn(2000, 3)
    with pytest.raises(CascadeError, match="best reachable") as refused:
        find_threshold(outcomes, Hold(0.99))
    best = float(str(refused.value).split(" of which ")[1].split("%")[0]) / 100
    assert find_threshold(outcomes, Hold(best - 0.0001)).shown >= best - 0.0001


def test_points_out_of_reach_are_refused_with_the_fewest_that_are_not() -> None:
    """A small ticket that is surest where it is wrong."""
    random = np.random.default_rng(0)
    confidence = random.random(1000).astype(np.float32)
    outcomes = Outcomes(confidence, confidence < 0.97, np.ones(1000, bool), np.ones(1000, bool))
    with pytest.raises(CascadeError, match=r"at most 0\.4 points: the best reachable on 1000 .* is 0\.\d\d points"):
        find_threshold(outcomes, Within(0.4))


@pytest.mark.parametrize(("promise", "says"), [(Hold(1.0), "--hold"), (Hold(95), "--hold"), (Within(0), "--within")])
def test_promises_that_mean_nothing_are_refused(promise: Hold | Within, says: str) -> None:
    """An accuracy is below 1, points are above 0."""
    with pytest.raises(CascadeError, match=says):
        find_threshold(drawn(100, 0), promise)
