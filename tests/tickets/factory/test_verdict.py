"""Verdicts: right about hand-made cases, and seldom wrong where nothing is to be found."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickets.factory.quality import Calibrated
from tickets.factory.verdict import (
    Replicates,
    compare_replicates,
    decisions,
    holm,
    judge,
    matches,
    weights,
)

SEEDS, TEXTS = 3, 450


def model(
    random: np.random.Generator, hard: np.ndarray, skill: float, seeds: int = SEEDS, spread: float = 0.0
) -> Replicates:
    """Seeds of one model: texts have a difficulty of their own, seeds a luck of their own."""
    luck = random.normal(0, spread, (seeds, 1)) if spread else np.zeros((seeds, 1))
    return Replicates(skill + luck + random.normal(0, 0.35, (seeds, len(hard))) > hard)


def difficulty(random: np.random.Generator) -> np.ndarray:
    return random.normal(0, 1, TEXTS)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.1), (5, 0.1), (5, 0.3)])
def test_a_control_that_is_as_good_is_seldom_called_beaten(seeds: int, spread: float) -> None:
    """The ticket and its two controls have the same distribution: *winning* at most alpha of the time (plus noise)."""
    random = np.random.default_rng(11)
    rounds, wins = 400, 0
    for _ in range(rounds):
        hard = difficulty(random)
        three = [model(random, hard, 1.6, seeds, spread) for _ in range(3)]
        wins += judge(three[0], {"a": three[1], "b": three[2]}).label == "winning"
    assert wins / rounds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)


def test_one_control_s_chance_of_being_called_beaten_is_alpha_at_most() -> None:
    """The harder case: no second control to hide behind."""
    random = np.random.default_rng(5)
    rounds, wins = 500, 0
    for _ in range(rounds):
        hard = difficulty(random)
        wins += judge(model(random, hard, 1.6, 3, 0.1), {"a": model(random, hard, 1.6, 3, 0.1)}).label == "winning"
    assert wins / rounds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)


def test_a_clearly_better_ticket_wins_and_says_by_how_much() -> None:
    """Ten points over three seeds."""
    random = np.random.default_rng(2)
    hard = difficulty(random)
    verdict = judge(model(random, hard, 1.8), {"random": model(random, hard, 1.0), "worst": model(random, hard, 0.8)})
    assert verdict.label == "winning"
    assert "ahead of all 2 controls; the nearest, random, by +" in verdict.reasons[0]
    assert (verdict.against["worst"].wins, verdict.against["worst"].seeds) == (3, 3)


@pytest.mark.parametrize(
    ("seeds", "failed", "controls", "reason"),
    [
        (2, (), 1, "only 2 seeds; a verdict needs 3"),
        (1, (), 1, "only 1 seed; a verdict needs 3"),
        (3, ("accuracy_loss",), 1, "failed: accuracy_loss"),
        (3, (), 0, "no controls to beat"),
    ],
)
def test_a_ticket_stays_pruned_however_good_without(
    seeds: int, failed: tuple[str, ...], controls: int, reason: str
) -> None:
    """Seeds, gates and controls are all needed."""
    everything, nothing = Replicates(np.ones((seeds, 50), bool)), Replicates(np.zeros((seeds, 50), bool))
    verdict = judge(everything, {"random": nothing} if controls else {}, gates_failed=failed)
    assert verdict.label == "pruned"
    assert reason in verdict.reasons


def test_losing_to_one_control_is_enough_to_stay_pruned() -> None:
    """The reason names it, with its numbers."""
    random = np.random.default_rng(3)
    hard = difficulty(random)
    ticket = model(random, hard, 1.8)
    verdict = judge(ticket, {"random": model(random, hard, 0.8), "same": ticket})
    assert verdict.label == "pruned"
    assert verdict.reasons == ("not clearly ahead of same: +0.00 points [+0.00, +0.00], p = 1",)


def test_seeds_that_disagree_widen_the_interval() -> None:
    """The same mean difference, once in every seed, once in one of three."""
    base = np.zeros((3, 300), bool)
    steady, lucky = base.copy(), base.copy()
    steady[:, :30] = True
    lucky[0, :90] = True
    a, b = (compare_replicates(Replicates(x), Replicates(base)) for x in (steady, lucky))
    assert a.points == pytest.approx(b.points) == pytest.approx(10.0)
    assert b.points_ci[1] - b.points_ci[0] > 2 * (a.points_ci[1] - a.points_ci[0])
    assert a.p < 0.001 < 0.05 < b.p


def test_matching_is_not_being_worse_by_the_margin() -> None:
    """A model matches itself; one that loses five points does not match within one."""
    random = np.random.default_rng(4)
    hard = difficulty(random)
    dense = model(random, hard, 1.8)
    worse = Replicates(dense.hits & (random.random(dense.hits.shape) > 0.05))
    assert matches(dense, dense)
    assert not matches(worse, dense)
    assert matches(worse, dense, margin_points=20)


def test_decisions_and_weights() -> None:
    """In scope: kept and right. Out of scope: refused. Each half of the mix counts half."""
    # labels a, b and out of scope; a text is kept while the last column's chance is at most one half
    logits = np.array([[9, 0, 0], [9, 0, 0], [0, 0, 9], [0, 0, 9], [9, 0, 0], [0, 0, 9]], np.float32)
    targets = np.array([0, 1, 0, 2, 2, 2])
    kinds = np.array(["in", "in", "in", "out", "out", "near"])
    right = decisions(logits, targets, kinds, Calibrated(1.0, 0.5))
    assert right.tolist() == [True, False, False, True, False, True]
    assert weights(kinds).tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 8, 1 / 8, 1 / 4])
    assert weights(np.array(["in", "in"])).tolist() == [0.5, 0.5]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_and_keeps_the_order(ps: list[float]) -> None:
    """Adjusted p-values are at least the raw ones, at most one, and rank alike."""
    adjusted = holm(ps)
    assert all(raw <= p <= 1 for raw, p in zip(ps, adjusted, strict=True))
    order = np.argsort(ps, kind="stable")
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))


def test_holm_by_hand() -> None:
    """0.01, 0.02, 0.03 over three: 0.03, 0.04, 0.04."""
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


def test_different_shapes_are_refused() -> None:
    """Two seeds against three."""
    with pytest.raises(ValueError, match="differ in shape"):
        compare_replicates(Replicates(np.ones((2, 5), bool)), Replicates(np.ones((3, 5), bool)))
