"""The numbers in a report mean what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickets.factory.quality import (
    KEEP_IN_SCOPE,
    auroc,
    calibration_error,
    compare,
    correct,
    fit,
    in_scope_scores,
    measure,
    with_last_column,
)

KINDS = np.asarray(["in"] * 60 + ["out"] * 30 + ["near"] * 10)


def made_logits(seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits [100, 4] whose best entry is mostly the target; class 3 is out of scope."""
    random = np.random.default_rng(seed)
    targets = np.where(KINDS == "in", random.integers(0, 3, 100), 3)
    logits = random.normal(scale=noise, size=(100, 4)).astype(np.float32)
    logits[np.arange(100), targets] += 3
    return logits, targets


def test_a_perfect_model_scores_one_and_a_blind_one_does_not() -> None:
    """All recalls and accuracies of a model that knows everything are one."""
    logits, targets = made_logits(noise=0.01)
    calibrated = fit(logits, targets, KINDS)
    report = measure(logits, targets, KINDS, calibrated)
    assert report["in_scope_accuracy"] == report["out_of_scope_recall"] == report["other_domains_auroc"] == 1.0
    blind = measure(np.zeros_like(logits), targets, KINDS, calibrated)
    assert blind["out_of_scope_auroc"] == 0.5


def test_the_out_of_scope_column_does_not_count_against_the_label() -> None:
    """In-scope accuracy compares labels; being taken for out of scope is counted apart, as kept or not."""
    logits = np.asarray([[2.0, 1.0, 9.0]], np.float32)
    assert correct(logits, np.asarray([0]), np.asarray(["in"])).tolist() == [True]


def test_the_threshold_keeps_the_promised_share_of_validation_texts() -> None:
    """By construction, on the data it was fitted on."""
    logits, targets = made_logits()
    calibrated = fit(logits, targets, KINDS)
    kept = in_scope_scores(logits, calibrated)[KINDS == "in"] >= calibrated.threshold
    assert kept.mean() >= KEEP_IN_SCOPE - 1 / 60


def test_temperature_undoes_overconfidence() -> None:
    """Logits blown up five times get a temperature about five times larger, and a smaller calibration error."""
    logits, targets = made_logits(noise=2.0)
    mild, wild = fit(logits, targets, KINDS), fit(logits * 5, targets, KINDS)
    assert 3 < wild.temperature / mild.temperature < 7 or wild.temperature == 5.0
    assert calibration_error(logits * 5, targets, wild.temperature) < calibration_error(logits * 5, targets, 1.0)


def test_without_an_out_of_scope_class_the_score_is_the_best_probability() -> None:
    """A padded last column has no probability and switches the scheme."""
    logits = with_last_column(made_logits()[0][:, :3], 3)
    calibrated = fit(logits[KINDS == "in"], made_logits()[1][KINDS == "in"], KINDS[KINDS == "in"])
    assert calibrated.scheme == "max_probability"
    assert (in_scope_scores(logits, calibrated) >= 1 / 3 - 1e-6).all()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_auroc_is_the_share_of_pairs_in_order(positive: list[int], negative: list[int]) -> None:
    """Against the definition, ties counting half; swapping sides mirrors it."""
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    p, n = np.asarray(positive, np.float32), np.asarray(negative, np.float32)
    assert abs(auroc(p, n) - sum(pairs) / len(pairs)) < 1e-9
    assert abs(auroc(p, n) + auroc(n, p) - 1) < 1e-9


def test_a_paired_comparison_of_equal_models_is_exactly_zero() -> None:
    """Pairing removes what both share."""
    hits = np.random.default_rng(0).random(300) < 0.9
    assert compare(hits, hits) == {"points": 0.0, "points_ci": [0.0, 0.0]}
    worse = hits.copy()
    worse[:30] = False
    assert compare(worse, hits)["points"] < 0  # type: ignore[operator]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_an_interval_holds_its_mean_and_turns_with_the_sides(pairs: list[tuple[bool, bool]]) -> None:
    """Lower end, mean, upper end; parent minus child is the same turned round."""
    child, parent = (np.asarray(side) for side in zip(*pairs, strict=True))
    one, other = compare(child, parent), compare(parent, child)
    low, high = one["points_ci"]  # type: ignore[misc]
    assert low - 1e-3 <= one["points"] <= high + 1e-3  # type: ignore[operator]
    assert other["points_ci"] == pytest.approx([-high, -low], abs=1e-3)


def test_the_paired_interval_is_as_wide_as_theory_says() -> None:
    """Against the normal interval of a mean of differences, which 450 texts justify."""
    random = np.random.default_rng(1)
    parent = random.random(450) < 0.95
    child = np.where(random.random(450) < 0.04, ~parent, parent)
    low, high = compare(child, parent)["points_ci"]  # type: ignore[misc]
    difference = 100 * (child.astype(float) - parent)
    reach = 1.96 * difference.std(ddof=1) / np.sqrt(450)
    assert (low, high) == pytest.approx((difference.mean() - reach, difference.mean() + reach), abs=0.25)
