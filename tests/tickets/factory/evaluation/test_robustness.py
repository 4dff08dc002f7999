"""Robustness: drops by hand."""

import numpy as np
import pytest

from tickets.factory.data import Examples
from tickets.factory.evaluation.robustness import Decided, UnderShift, robustness
from tickets.factory.quality import Calibrated

pytestmark = pytest.mark.torch


def decided(hits: str, refused: str = "") -> Decided:
    """One letter for each text: y or n."""
    return Decided(*(np.asarray([letter == "y" for letter in word], np.bool_) for word in (hits, hits, refused)))


def test_drops_are_against_clean_texts_and_the_parent() -> None:
    """The ticket loses two of four, the parent one; a text that a shift makes right counts against one it makes
    wrong.
    """
    ticket = UnderShift(decided("yyyn"), {"typos": decided("nyny"), "truncated": decided("nnnn")})
    parent = UnderShift(decided("yyyy"), {"typos": decided("yyyn"), "truncated": decided("nnnn")})
    found = robustness(ticket, parent)
    assert {key: found["typos"][key] for key in ("drop_points", "parent_drop_points", "extra_drop_points")} == {
        "drop_points": 25.0, "parent_drop_points": 25.0, "extra_drop_points": 0.0,
    }  # fmt: skip
    assert found["truncated"]["drop_points"] == 75.0
    assert found["truncated"]["extra_drop_points"] == -25.0
    low, high = found["truncated"]["extra_drop_points_ci"]
    assert low <= -25.0 <= high
    assert found["typos"]["strength"] == "8 % of letters"


def test_without_a_parent_or_out_of_scope_texts_nothing_is_said_of_them() -> None:
    """Keys are missing, not zero."""
    found = robustness(UnderShift(decided("yy"), {"typos": decided("yn")}), None)
    assert found["typos"] == {"strength": "8 % of letters", "accuracy": 0.5, "kept": 0.5, "drop_points": 50.0}
    with_out = robustness(UnderShift(decided("yy", "y"), {"typos": decided("yn", "yyn")}), None)
    assert with_out["typos"]["out_of_scope_recall"] == 0.66667


def test_what_is_decided_is_the_label_and_whether_it_is_kept() -> None:
    """The label leaves the out-of-scope column aside; a threshold is passed by what reaches it."""
    logits = np.log(np.asarray([[0.5, 0.2, 0.3], [0.3, 0.1, 0.6], [0.1, 0.1, 0.8]], np.float32))
    examples = Examples(("a", "b", "c"), np.asarray([0, 1, 2]), ("in", "in", "out"))
    one = Decided.of(logits, examples, Calibrated(1.0, 0.5))
    assert (one.hits.tolist(), one.kept.tolist(), one.refused.tolist()) == ([True, False], [True, False], [True])
