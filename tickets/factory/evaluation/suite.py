"""The suite: every question, asked of one ticket beside its dense parent, answered in one document.

Shares are fractions, losses are points of 100 (parent minus ticket: positive is worse). What the keys mean stands in
docs/evaluation.md, which of them are numbers in `tickets.factory.evaluation.schema`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.factory.data import DomainData, Examples
from tickets.factory.evaluation import calibration
from tickets.factory.evaluation.forgetting import forgetting, mcnemar
from tickets.factory.evaluation.robustness import Decided, UnderShift, robustness
from tickets.factory.evaluation.separation import OUTSIDE, Scored, losses, lost_separation, rounded, separation
from tickets.factory.evaluation.shift import Shifted
from tickets.factory.evaluation.subgroups import subgroups
from tickets.factory.quality import Calibrated, Floats, compare, correct, in_scope_scores, softmax

VERSION = 1

Answer = Callable[[Sequence[str]], Floats]
"""Texts -> logits [n, labels + 1]."""

Bools = NDArray[np.bool_]


class Answers:
    """What one model says of the test texts, of the in-scope validation texts, and of the test texts under shift. Each
    is asked when it is first needed, and once.
    """

    def __init__(self, answer: Answer, data: DomainData, calibrated: Calibrated, shifted: Shifted) -> None:
        self._answer = answer
        self.data, self.calibrated, self.shifted = data, calibrated, shifted

    @cached_property
    def test(self) -> Floats:
        """Logits of the test texts."""
        return self._answer(self.data.test.texts)

    @cached_property
    def validation(self) -> Floats:
        """Logits of the in-scope validation texts."""
        return self._answer(self.data.validation.of_kind("in").texts)

    @cached_property
    def shifts(self) -> dict[str, Floats]:
        """Logits of the test texts under each shift."""
        return {name: self._answer(texts) for name, texts in self.shifted.texts.items()}


class ParentAnswers(Answers):
    """The dense parent's, to be kept for all tickets of a family. ``seed`` is of the shifts, which are made here."""

    def __init__(self, answer: Answer, data: DomainData, calibrated: Calibrated, seed: int = 0) -> None:
        super().__init__(answer, data, calibrated, Shifted.of(without_near(data.test), seed))


def evaluate_ticket(
    answer: Answer,
    parent: ParentAnswers | None,
    data: DomainData,
    calibrated: Calibrated,
    *,
    seed: int = 0,
    cost: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The whole document. Without a parent the parts that compare are left out.

    ``seed`` is of the shifts where there is no parent; with one, its shifts are used. ``cost``: bytes and times that
    were measured elsewhere (`tickets.factory.speed.cost`). Raises ValueError for a parent that answered other data.
    """
    if parent is not None and parent.data.test.texts != data.test.texts:
        raise ValueError("the parent answered other test texts than the ticket is to be measured on")
    shifted = parent.shifted if parent is not None else Shifted.of(without_near(data.test), seed)
    asked = Answers(answer, data, calibrated, shifted)
    hits, scored = _hits(asked), _scored(asked)
    document: dict[str, Any] = {
        "version": VERSION,
        "accuracy": {"in_scope": _share(hits)},
        "calibration": _calibration(asked.test, data.test, calibrated),
        "out_of_scope": separation(scored),
        "subgroups": subgroups(data, {"ticket": hits}),
    }
    under = _under_shift(asked)
    if parent is None:
        document["shift"] = robustness(under, None)
    else:
        document["shift"] = robustness(under, _under_shift(parent))
        _against(document, asked, parent)
    return document | ({} if cost is None else {"cost": dict(cost)})


def _against(document: dict[str, Any], asked: Answers, parent: Answers) -> None:
    """Add what compares the ticket with its parent."""
    data, hits, theirs = asked.data, _hits(asked), _hits(parent)
    inside = np.asarray(data.test.kinds) == "in"
    document["accuracy"] |= {
        "parent": _share(theirs), **losses(compare(hits, theirs)), "mcnemar_p": round(mcnemar(hits, theirs), 6)
    }  # fmt: skip
    document["agreement"] = _agreement(asked, parent)
    document["forgetting"] = forgetting(hits, theirs, data.test.targets[inside], data.labels)
    document["subgroups"] = subgroups(data, {"ticket": hits, "parent": theirs})
    ece = _calibration(parent.test, data.test, parent.calibrated)["ece"]
    document["calibration"] |= {
        "parent_ece": ece, "ece_increase": rounded(document["calibration"]["ece"] - ece, 5)
    }  # fmt: skip
    for kind in OUTSIDE:
        if kind in document["out_of_scope"]:
            document["out_of_scope"][kind] |= lost_separation(_scored(asked), _scored(parent), kind)
    document["shift_extra_drop_points"] = max(shift["extra_drop_points"] for shift in document["shift"].values())


def _hits(asked: Answers) -> Bools:
    test = asked.data.test
    return correct(asked.test, test.targets, np.asarray(test.kinds))


def _scored(asked: Answers) -> Scored:
    return Scored.of(
        in_scope_scores(asked.test, asked.calibrated), asked.data.test.kinds,
        in_scope_scores(asked.validation, asked.calibrated), asked.calibrated.threshold,
    )  # fmt: skip


def _under_shift(asked: Answers) -> UnderShift:
    """Without other domains' texts, clean ones too."""
    told = without_near(asked.data.test)
    clean = asked.test[np.asarray(asked.data.test.kinds) != "near"]
    return UnderShift(
        Decided.of(clean, told, asked.calibrated),
        {name: Decided.of(logits, told, asked.calibrated) for name, logits in asked.shifts.items()},
    )


def _calibration(logits: Floats, test: Examples, calibrated: Calibrated) -> dict[str, Any]:
    temperature = calibrated.temperature
    inside = np.asarray(test.kinds) == "in"
    before = calibration.reliability(logits, test.targets, 1.0)
    after = calibration.reliability(logits, test.targets, temperature)
    in_scope = calibration.reliability(logits[inside], test.targets[inside], temperature)
    return {
        "temperature": temperature,
        "ece_before": round(calibration.expected_error(before), 5),
        "ece": round(calibration.expected_error(after), 5),
        "ece_in_scope": round(calibration.expected_error(in_scope), 5),
        "ece_equal_mass_before": round(calibration.equal_mass_error(logits, test.targets, 1.0), 5),
        "ece_equal_mass": round(calibration.equal_mass_error(logits, test.targets, temperature), 5),
        **calibration.proper_scores(logits, test.targets, temperature),
        "bins": {"before": before, "after": after},
    }


def _agreement(asked: Answers, parent: Answers) -> dict[str, float]:
    """Shares of test texts with the parent's answer, and the mean divergence from its chances in nats."""
    p, q = (softmax(one.test, one.calibrated.temperature).astype(np.float64) for one in (parent, asked))
    kl = (p * (np.log(np.maximum(p, 1e-12)) - np.log(np.maximum(q, 1e-12)))).sum(axis=1)
    same = asked.test.argmax(axis=1) == parent.test.argmax(axis=1)
    inside = np.asarray(asked.data.test.kinds) == "in"
    return {
        "share": _share(same), "churn": round(1 - float(same.mean()), 5),
        "in_scope": _share((_served(asked) == _served(parent))[inside]), "mean_kl": rounded(kl.mean(), 5),
    }  # fmt: skip


def _served(asked: Answers) -> NDArray[np.int64]:
    """What a client is told of each test text at the frozen threshold: the best label, or -1 for refused."""
    kept = in_scope_scores(asked.test, asked.calibrated) >= asked.calibrated.threshold
    return np.asarray(np.where(kept, asked.test[:, :-1].argmax(axis=1), -1))


def without_near(examples: Examples) -> Examples:
    """The examples without other domains' texts, which are many and would be asked under every shift."""
    chosen = [i for i, kind in enumerate(examples.kinds) if kind != "near"]
    return Examples(
        tuple(examples.texts[i] for i in chosen), examples.targets[chosen], tuple(examples.kinds[i] for i in chosen)
    )


def _share(values: Bools) -> float:
    return round(float(np.mean(values)), 5)
