"""The suite: every question, asked of one ticket beside its dense parent, answered in one document.

Shares are fractions, losses are points of 100 (parent minus ticket: positive is worse). What the keys mean stands in
docs/evaluation.md.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tickets.factory.data import DomainData, Examples
from tickets.factory.evaluation import calibration
from tickets.factory.evaluation.forgetting import forgetting, mcnemar
from tickets.factory.evaluation.shift import Shifted
from tickets.factory.evaluation.subgroups import subgroups
from tickets.factory.quality import Calibrated, Floats, auroc, compare, correct, in_scope_scores, softmax

VERSION = 1
KEEP = (0.99, 0.97, 0.95)
"""Shares of validation in-scope texts that thresholds keep, at which out-of-scope recall is told."""

Answer = Callable[[Sequence[str]], Floats]
"""Texts -> logits [n, labels + 1]."""


class ParentAnswers:
    """What the parent says of the test texts and of their shifts: asked once, for all tickets of a family."""

    def __init__(self, answer: Answer, data: DomainData, calibrated: Calibrated, seed: int = 0) -> None:
        self._answer, self._data = answer, data
        self.calibrated = calibrated
        self.shifted = Shifted.of(without_near(data.test), seed)

    @cached_property
    def test(self) -> Floats:
        """Logits of the test texts."""
        return self._answer(self._data.test.texts)

    @cached_property
    def shifts(self) -> dict[str, Floats]:
        """Logits of the test texts under each shift."""
        return {name: self._answer(texts) for name, texts in self.shifted.texts.items()}


def evaluate_ticket(
    answer: Answer, parent: ParentAnswers | None, data: DomainData, calibrated: Calibrated, *, seed: int = 0
) -> dict[str, Any]:
    """The whole document. Without a parent the parts that compare are left out."""
    test, kinds = data.test, np.asarray(data.test.kinds)
    logits = answer(test.texts)
    hits, inside = correct(logits, test.targets, kinds), kinds == "in"
    document: dict[str, Any] = {
        "version": VERSION,
        "accuracy": {"in_scope": _share(hits)},
        "calibration": _calibration(logits, test, calibrated),
        "out_of_scope": _out_of_scope(logits, answer(data.validation.texts), data, calibrated),
        "subgroups": subgroups(data, {"ticket": hits}),
    }
    told = without_near(test)
    clean = _decided(logits[kinds != "near"], told, calibrated)
    shifted = parent.shifted if parent is not None else Shifted.of(told, seed)
    under = {name: _decided(answer(texts), told, calibrated) for name, texts in shifted.texts.items()}
    document["shift"] = {name: one | _drops(clean, one) for name, one in under.items()}
    if parent is None:
        return document
    theirs = correct(parent.test, test.targets, kinds)
    document["accuracy"] |= _accuracy_loss(hits, theirs)
    document["agreement"] = _agreement(logits, parent.test, calibrated, parent.calibrated)
    document["forgetting"] = forgetting(hits, theirs, test.targets[inside], data.labels)
    document["subgroups"] = subgroups(data, {"ticket": hits, "parent": theirs})
    _against(document, parent, data)
    return document


def _accuracy_loss(hits: Any, theirs: Any) -> dict[str, Any]:  # noqa: ANN401 - arrays of bool
    gain = compare(hits, theirs)
    low, high = gain["points_ci"]  # type: ignore[misc]
    return {
        "parent": _share(theirs), "loss_points": -float(gain["points"]),  # type: ignore[arg-type]
        "loss_points_ci": [-high, -low], "loss_points_at_most": -low, "mcnemar_p": round(mcnemar(hits, theirs), 6),
    }  # fmt: skip


def _against(document: dict[str, Any], parent: ParentAnswers, data: DomainData) -> None:
    """Add what the parent gives for the same numbers."""
    test = data.test
    theirs = _calibration(parent.test, test, parent.calibrated)
    document["calibration"] |= {
        "parent_ece": theirs["ece"], "ece_increase": round(document["calibration"]["ece"] - theirs["ece"], 5)
    }  # fmt: skip
    kinds, told = np.asarray(test.kinds), without_near(test)
    base = _decided(parent.test[kinds != "near"], told, parent.calibrated)
    scores = in_scope_scores(parent.test, parent.calibrated)
    for kind in ("out", "near"):
        if (kinds == kind).any():
            mine = document["out_of_scope"][kind]
            their_auroc = auroc(scores[kinds == "in"], scores[kinds == kind])
            recall = float((scores[kinds == kind] < parent.calibrated.threshold).mean())
            mine |= {
                "auroc_loss": round(their_auroc - mine["auroc"], 5),
                "recall_loss_points": round(100 * (recall - mine["recall"]), 3),
            }  # fmt: skip
    extra = []
    for name, shift in document["shift"].items():
        there = _drops(base, _decided(parent.shifts[name], told, parent.calibrated))
        shift["parent_drop_points"] = there["drop_points"]
        shift["extra_drop_points"] = round(shift["drop_points"] - there["drop_points"], 3)
        extra.append(shift["extra_drop_points"])
    document["shift_extra_drop_points"] = max(extra)


def _calibration(logits: Floats, test: Examples, calibrated: Calibrated) -> dict[str, Any]:
    before = calibration.reliability(logits, test.targets, 1.0)
    after = calibration.reliability(logits, test.targets, calibrated.temperature)
    return {
        "temperature": calibrated.temperature,
        "ece_before": round(calibration.expected_error(before), 5),
        "ece": round(calibration.expected_error(after), 5),
        "ece_equal_mass": round(calibration.equal_mass_error(logits, test.targets, calibrated.temperature), 5),
        **calibration.proper_scores(logits, test.targets, calibrated.temperature),
        "bins": {"before": before, "after": after},
    }


def _out_of_scope(logits: Floats, validation: Floats, data: DomainData, calibrated: Calibrated) -> dict[str, Any]:
    kinds = np.asarray(data.test.kinds)
    scores = in_scope_scores(logits, calibrated)
    held = in_scope_scores(validation, calibrated)[np.asarray(data.validation.kinds) == "in"]
    out: dict[str, Any] = {"kept": _share(scores[kinds == "in"] >= calibrated.threshold)}
    for kind in ("out", "near"):
        outside = scores[kinds == kind]
        if len(outside):
            out[kind] = {
                "recall": _share(outside < calibrated.threshold),
                "auroc": round(auroc(scores[kinds == "in"], outside), 5),
                "recall_at": {
                    f"{100 * keep:.0f}": _share(outside < np.quantile(held, 1 - keep)) for keep in KEEP
                },
            }  # fmt: skip
    return out


def _agreement(logits: Floats, parent: Floats, mine: Calibrated, theirs: Calibrated) -> dict[str, float]:
    """Share of all test texts with the parent's best answer, and the mean divergence from its chances in nats."""
    p, q = softmax(parent, theirs.temperature).astype(np.float64), softmax(logits, mine.temperature).astype(np.float64)
    kl = (p * (np.log(np.maximum(p, 1e-12)) - np.log(np.maximum(q, 1e-12)))).sum(axis=1)
    same = logits.argmax(axis=1) == parent.argmax(axis=1)
    return {"share": _share(same), "churn": round(1 - float(same.mean()), 5), "mean_kl": round(float(kl.mean()), 5)}


def _decided(logits: Floats, test: Examples, calibrated: Calibrated) -> dict[str, float]:
    kinds = np.asarray(test.kinds)
    out = {"accuracy": _share(correct(logits, test.targets, kinds))}
    if (kinds == "out").any():
        refused = in_scope_scores(logits, calibrated)[kinds == "out"] < calibrated.threshold
        out["out_of_scope_recall"] = _share(refused)
    return out


def _drops(clean: dict[str, float], shifted: dict[str, float]) -> dict[str, float]:
    return {"drop_points": round(100 * (clean["accuracy"] - shifted["accuracy"]), 3)}


def without_near(examples: Examples) -> Examples:
    """The examples without other domains' texts, which are many and would be asked under every shift."""
    chosen = [i for i, kind in enumerate(examples.kinds) if kind != "near"]
    return Examples(
        tuple(examples.texts[i] for i in chosen), examples.targets[chosen], tuple(examples.kinds[i] for i in chosen)
    )


def _share(values: Any) -> float:  # noqa: ANN401 - an array of bool
    return round(float(np.mean(values)), 5)
