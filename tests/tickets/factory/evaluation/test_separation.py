"""Separation: against scikit-learn, against DeLong's definition, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tickets.factory.evaluation.separation import Scored, lost_separation, placements, separation

pytestmark = pytest.mark.torch

NONE = np.zeros(0, np.float32)


def scored(inside: list[float], outside: list[float], threshold: float = 0.5) -> Scored:
    scores = {"in": np.asarray(inside, np.float32), "out": np.asarray(outside, np.float32), "near": NONE}
    return Scored(scores, scores["in"], threshold)


def drawn(seed: int, gap: float, inside: int = 120, outside: int = 200) -> tuple[Scored, Scored]:
    """Two models that see the same texts: half of what they score is the text's."""
    random = np.random.default_rng(seed)
    text = random.normal(size=inside + outside) + np.repeat([2.0, 0.0], [inside, outside])
    models = [text + random.normal(size=len(text)) + np.repeat([shift, 0.0], [inside, outside]) for shift in (0.0, gap)]
    kinds = ["in"] * inside + ["out"] * outside
    ticket, parent = (Scored.of(m.astype(np.float32), kinds, m[:inside].astype(np.float32), 1.0) for m in models)
    return ticket, parent


_scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=25)


@given(_scores, _scores)
def test_placements_are_scikit_learn_s_auroc(inside: list[float], outside: list[float]) -> None:
    """Either side's mean, ties counting half."""
    one = scored(inside, outside)
    expected = roc_auc_score([1] * len(inside) + [0] * len(outside), inside + outside)
    above, below = placements(one.test["in"], one.test["out"])
    assert above.mean() == pytest.approx(expected, abs=1e-6)
    assert below.mean() == pytest.approx(expected, abs=1e-6)
    assert separation(one)["out"]["auroc"] == pytest.approx(expected, abs=1e-5)


def test_shares_by_hand() -> None:
    """At the threshold a text is kept. A model without other domains' texts says nothing of them."""
    found = separation(scored([0.9, 0.5, 0.4, 0.8], [0.1, 0.6, 0.2, 0.3]))
    assert (found["kept"], found["fpr"], found["out"]["recall"], found["out"]["auroc"]) == (0.75, 0.25, 0.75, 0.875)
    assert "near" not in found
    # 99 % of four validation scores: just above the least of them, 0.4.
    assert found["kept_at"]["99"] == 0.75
    assert found["out"]["recall_at"]["99"] == 0.75


@given(_scores, _scores)
def test_a_model_has_lost_nothing_to_itself(inside: list[float], outside: list[float]) -> None:
    """No difference, and no doubt about it."""
    one = scored(inside, outside)
    assert lost_separation(one, one, "out") == {
        "auroc_loss": 0.0, "auroc_loss_ci": [0.0, 0.0], "auroc_loss_at_most": 0.0,
        "recall_loss_points": 0.0, "recall_loss_points_ci": [0.0, 0.0], "recall_loss_points_at_most": 0.0,
    }  # fmt: skip


def test_the_interval_is_delong_s() -> None:
    """Against the covariance of the structural components, pair by pair, as the paper writes them."""
    ticket, parent = drawn(0, 0.4)
    v10, v01 = [], []
    for one in (parent, ticket):
        inside, outside = one.test["in"][:, None], one.test["out"][None, :]
        wins = (inside > outside) + 0.5 * (inside == outside)
        v10.append(wins.mean(axis=1))
        v01.append(wins.mean(axis=0))
    s = np.cov(v10) / len(v10[0]) + np.cov(v01) / len(v01[0])
    error = np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    loss = v10[0].mean() - v10[1].mean()
    found = lost_separation(ticket, parent, "out")
    assert found["auroc_loss"] == pytest.approx(loss, abs=1e-5)
    assert found["auroc_loss_ci"] == pytest.approx([loss - 1.96 * error, loss + 1.96 * error], abs=2e-5)
    assert found["auroc_loss_at_most"] == found["auroc_loss_ci"][1]


def test_the_interval_holds_what_it_promises() -> None:
    """Of two models alike in truth, it leaves out zero one time in twenty, within four standard errors."""
    out = 0
    for seed in range(300):
        low, high = lost_separation(*drawn(seed, 0.0), "out")["auroc_loss_ci"]
        out += not low <= 0 <= high
    assert abs(out / 300 - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 300)


def test_lost_recall_by_hand() -> None:
    """The parent refuses three of four at its threshold, the ticket one at its own."""
    ticket = scored([0.9], [0.1, 0.6, 0.7, 0.8])
    parent = scored([0.9], [0.1, 0.2, 0.7, 0.8], threshold=0.75)
    found = lost_separation(ticket, parent, "out")
    assert found["recall_loss_points"] == 50.0
    assert found["recall_loss_points_ci"] == [0.0, 100.0]
    assert found["recall_loss_points_at_most"] == 100.0
