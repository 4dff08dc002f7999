"""Drift: what the index says of samples of one distribution, and of others; what the baseline and the window are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.drift import (
    ACT,
    BASELINE_ROWS,
    BLOCK_ROWS,
    LABEL_GROUPS,
    MIN_ROWS,
    NOTHING,
    WATCH,
    WINDOW_ROWS,
    Drift,
    Seen,
    see,
    stability_index,
)


def answers(rows: int, seed: int, *, sure: float = 8.0, scope: float = 0.9, labels: int = 15) -> Seen:
    """Answers of a made-up ticket: how sure (a beta distribution), how many in scope, labels alike."""
    random = np.random.default_rng(seed)
    return see(
        random.beta(sure, 1.0, rows).astype(np.float32),
        random.random(rows) < scope,
        random.integers(0, labels, rows).astype(np.int32),
    )


def drifted(now: Seen, *, baseline: Seen | None = None) -> dict[str, float]:
    drift = Drift()
    drift.begin(answers(1000, 1) if baseline is None else baseline, "evidence")
    drift.add(now)
    return drift.indices()


def test_the_index_is_the_one_of_the_book() -> None:
    """By hand: bins 50/50 and 80/20 of 1e9 rows, so that neither the prior nor chance counts."""
    n = 10**9
    by_hand = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert stability_index([n // 2, n // 2], [8 * n // 10, 2 * n // 10]) == pytest.approx(by_hand, rel=1e-6)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40), st.data())
def test_an_index_is_finite_and_never_negative(before: list[int], data: st.DataObject) -> None:
    now = data.draw(st.lists(st.integers(0, 5000), min_size=len(before), max_size=len(before)))
    assert 0.0 <= stability_index(before, now) < 100.0


@pytest.mark.parametrize("labels", [2, 15, 150])
def test_samples_of_one_distribution_are_not_worth_a_look(labels: int) -> None:
    """However many labels: what chance gives is taken off."""
    for seed in range(20):
        found = drifted(answers(2000, 100 + seed, labels=labels), baseline=answers(1000, seed, labels=labels))
        assert max(found.values()) < WATCH, (seed, found)


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        (answers(2000, 2, sure=2.0), "confidence"),
        (answers(2000, 2, scope=0.5), "scope"),
        (answers(2000, 2, labels=5), "class"),
    ],
)
def test_each_kind_of_change_is_seen_and_the_others_are_not_blamed(now: Seen, kind: str) -> None:
    found = drifted(now)
    assert found.pop(kind) > ACT
    assert max(found.values()) < WATCH


def test_bins_have_inclusive_upper_bounds_as_histograms_have() -> None:
    confidence = np.array([0.0, 0.05, 0.5, 0.51, 1.0], np.float32)
    seen = see(confidence, np.array([True, True, False, True, True]), np.array([3, 3, 3, 1, 1], np.int32))
    assert seen.confidence.tolist() == [2, 0, 0, 0, 1, 1, 0, 0, 0, 1]
    assert (seen.rows, seen.in_scope, seen.labels.tolist()[:5]) == (5, 4, [0, 2, 0, 2, 0])
    assert seen.confidence_sum == pytest.approx(2.06)


def test_without_a_measured_baseline_the_first_answers_are_it() -> None:
    drift = Drift()
    for seed in range(3):
        drift.add(answers(BASELINE_ROWS // 3, seed))
    assert drift.source == ""
    drift.add(answers(BASELINE_ROWS // 3, 9))
    assert (drift.source, drift.window.rows) == ("first_answers", 0)
    assert drift.baseline.rows >= BASELINE_ROWS


def test_nothing_is_said_of_a_handful_of_answers() -> None:
    drift = Drift()
    drift.begin(answers(1000, 1), "evidence")
    drift.add(answers(MIN_ROWS - 1, 2))
    assert drift.indices() == {}
    drift.add(answers(1, 3))
    assert set(drift.indices()) == {"confidence", "class", "scope"}


def test_the_window_is_of_about_the_last_answers_and_forgets_the_others() -> None:
    drift = Drift()
    drift.begin(answers(1000, 1), "evidence")
    for seed in range(40):
        drift.add(answers(100, seed, sure=1.0))
    assert drift.indices()["confidence"] > ACT
    assert WINDOW_ROWS <= drift.window.rows < WINDOW_ROWS + 2 * BLOCK_ROWS
    for seed in range(30):
        drift.add(answers(100, 50 + seed))
    assert drift.indices()["confidence"] < WATCH


def test_more_labels_than_groups_share_them_and_a_change_still_shows() -> None:
    labels = 5 * LABEL_GROUPS
    assert len(answers(100, 1, labels=labels).labels) == LABEL_GROUPS
    found = drifted(answers(2000, 2, labels=labels // 10), baseline=answers(1000, 1, labels=labels))
    assert found["class"] > ACT


def test_a_baseline_that_is_given_later_begins_a_new_window() -> None:
    drift = Drift()
    drift.add(answers(BASELINE_ROWS, 1))
    drift.add(answers(1000, 2))
    drift.begin(answers(500, 3), "evidence")
    assert (drift.source, drift.baseline.rows, drift.window) == ("evidence", 500, NOTHING)
