"""Calibration, shift, subgroups: against independent implementations, by hand, and by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from tickets.factory.data import DomainData, Examples
from tickets.factory.evaluation.calibration import equal_mass_error, expected_error, proper_scores, reliability
from tickets.factory.evaluation.forgetting import forgetting, mcnemar
from tickets.factory.evaluation.shift import SHIFTS, Shifted
from tickets.factory.evaluation.subgroups import subgroups
from tickets.factory.quality import calibration_error, softmax
from tickets.factory.verdict import holm

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def answered() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(0, 2, (400, 3)).astype(np.float32), random.integers(0, 3, 400)


def test_the_diagram_gives_the_error_that_is_computed_without_it(answered: tuple[np.ndarray, np.ndarray]) -> None:
    """Two implementations, one number; every text stands in one bin."""
    logits, targets = answered
    rows = reliability(logits, targets, 1.3)
    assert sum(row["texts"] for row in rows) == 400
    assert expected_error(rows) == pytest.approx(calibration_error(logits, targets, 1.3), abs=1e-4)
    assert 0 <= equal_mass_error(logits, targets, 1.3) <= 1


@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30), st.integers(0, 1)), min_size=1, max_size=40))
def test_calibration_errors_are_shares(rows: list[tuple[float, float, int]]) -> None:
    """Between none and one, however few texts; every text in one bin, and bins in order."""
    logits = np.asarray([row[:2] for row in rows], np.float32)
    targets = np.asarray([row[2] for row in rows], np.int64)
    found = reliability(logits, targets, 1.0)
    assert sum(row["texts"] for row in found) == len(rows)
    assert all(row["from"] - 1e-4 <= row["confidence"] <= row["to"] + 1e-4 for row in found)
    assert [row["from"] for row in found] == sorted(row["from"] for row in found)
    assert 0 <= expected_error(found) <= 1
    assert 0 <= equal_mass_error(logits, targets, 1.0) <= 1


def test_bins_of_equal_mass_by_hand() -> None:
    """Two bins of two texts: one sure and half right, one less sure and right."""
    chances = np.asarray([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    logits, targets = np.log(chances).astype(np.float32), np.asarray([0, 1, 0, 0])
    assert equal_mass_error(logits, targets, 1.0, bins=2) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4, abs=1e-6)


def test_a_model_that_is_always_right_and_sure_has_no_error() -> None:
    """And one that is sure and always wrong has the largest."""
    logits = np.full((50, 2), -20, np.float32)
    logits[:, 0] = 20
    right, wrong = np.zeros(50, np.int64), np.ones(50, np.int64)
    assert expected_error(reliability(logits, right, 1.0)) == pytest.approx(0, abs=1e-6)
    assert equal_mass_error(logits, wrong, 1.0) == pytest.approx(1, abs=1e-6)


def test_proper_scores_are_scikit_learn_s(answered: tuple[np.ndarray, np.ndarray]) -> None:
    """Brier as the sum of one-against-rest scores."""
    logits, targets = answered
    chances = softmax(logits).astype(np.float64)
    chances /= chances.sum(axis=1, keepdims=True)
    brier = sum(brier_score_loss(targets == c, chances[:, c]) for c in range(3))
    scores = proper_scores(logits, targets, 1.0)
    assert scores["brier"] == pytest.approx(brier, abs=1e-4)
    assert scores["nll"] == pytest.approx(log_loss(targets, chances), abs=1e-4)


@pytest.mark.parametrize(("lost", "won", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (6, 1, 0.125), (3, 3, 1.0)])
def test_mcnemar_by_hand(lost: int, won: int, p: float) -> None:
    """Binomial with one half on the texts where the two differ."""
    parent = np.array([True] * lost + [False] * won + [True] * 10)
    ticket = np.array([False] * lost + [True] * won + [True] * 10)
    assert mcnemar(ticket, parent) == pytest.approx(p)


def test_classes_are_judged_after_holm() -> None:
    """Twelve lost texts of thirty: beyond chance for one class among two, and no longer among a hundred."""
    parent = np.ones(60, np.bool_)
    ticket = parent.copy()
    ticket[:12] = False
    targets = np.repeat([0, 1], 30)
    two = forgetting(ticket, parent, targets, ("a", "b"))
    assert (two["forgotten"], two["worst_drop_points"], two["lost_texts"]) == (["a"], 40.0, list(range(12)))
    assert two["classes"][0]["p"] == pytest.approx(2 * 2 * 0.5**12, abs=1e-6)
    assert two["classes"][1] == {"label": "b", "texts": 30, "parent": 1.0, "ticket": 1.0, "drop_points": 0.0, "p": 1.0}
    many = forgetting(
        np.append(ticket, np.ones(98, np.bool_)), np.ones(158, np.bool_), np.append(targets, np.arange(2, 100)),
        [str(i) for i in range(100)],
    )  # fmt: skip
    assert many["forgotten"] == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_makes_anything_more_certain(ps: list[float]) -> None:
    """Monotone in the p-values, at least each of them, at most one, and never above Bonferroni."""
    adjusted = holm(ps)
    ranked = [adjusted[i] for i in np.argsort(ps, kind="stable")]
    assert ranked == sorted(ranked)
    assert all(p <= q <= min(1.0, p * len(ps)) + 1e-12 for p, q in zip(sorted(ps), ranked, strict=True))
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))


@given(st.text(alphabet="abc xyz!", min_size=1, max_size=40).filter(str.strip), st.integers(0, 5))
def test_shifts_are_seeded_and_leave_something(text: str, seed: int) -> None:
    """The same seed, the same texts; none is empty, truncation never adds words."""
    one = Examples((text,), np.zeros(1, np.int64), ("in",))
    first, second = Shifted.of(one, seed), Shifted.of(one, seed)
    assert first.texts == second.texts
    assert first.texts.keys() == SHIFTS.keys()
    assert all(shifted[0].strip() for shifted in first.texts.values())
    assert len(first.texts["truncated"][0].split()) == (len(text.split()) + 1) // 2
    assert set(first.texts["words dropped"][0].split()) <= set(text.split())
    assert first.texts["title case"][0].lower() == first.texts["upper case"][0].lower() == text.lower()


def test_capitals_by_hand() -> None:
    """Every word gets one, and what follows it stays: acronyms do."""
    one = Examples(("i'd like a UK visa",), np.zeros(1, np.int64), ("in",))
    assert Shifted.of(one, 0).texts["title case"] == ("I'd Like A UK Visa",)
    assert Shifted.of(one, 0).texts["upper case"] == ("I'D LIKE A UK VISA",)


def test_typos_change_most_long_texts_and_never_most_of_one() -> None:
    """About one letter in twelve."""
    text = "please tell me how much money there is on my savings account today"
    many = Examples((text,) * 200, np.zeros(200, np.int64), ("in",) * 200)
    typed = Shifted.of(many, 1).texts["typos"]
    assert sum(other != text for other in typed) > 180
    assert all(abs(len(other) - len(text)) < 15 for other in typed)


def test_subgroups_are_thirds_of_what_there_is() -> None:
    """Rare and frequent classes, short and long texts, with the accuracy of each model."""

    def part(counts: tuple[int, int, int]) -> Examples:
        targets = np.repeat(np.arange(3), counts)
        return Examples(tuple("word " * (t + 1) for t in targets), targets.astype(np.int64), ("in",) * len(targets))

    data = DomainData("house", ("a", "b", "c"), part((5, 10, 20)), part((2, 2, 2)), part((10, 10, 10)))
    right = np.repeat([False, True, True], 10)
    found = subgroups(data, {"ticket": right, "parent": ~right})
    assert [(g["group"], g["from"], g["texts"], g["ticket"], g["parent"]) for g in found["frequency"]] == [
        ("least", 5, 10, 0.0, 1.0), ("middle", 10, 10, 1.0, 0.0), ("most", 20, 10, 1.0, 0.0),
    ]  # fmt: skip
    assert [g["to"] for g in found["length"]] == [1, 2, 3]
