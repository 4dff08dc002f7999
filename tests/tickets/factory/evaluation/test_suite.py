"""The evaluation document: right by hand-made answers, complete, and the same for the same answers."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tickets.factory.data import DomainData, Examples
from tickets.factory.evaluation.gates import load_gates, number_at
from tickets.factory.evaluation.suite import ParentAnswers, evaluate_ticket
from tickets.factory.quality import Calibrated

pytestmark = pytest.mark.torch

WORDS = ("open", "close", "play")
CALIBRATED = Calibrated(1.0, 0.5)


def texts_of(label: str, count: int) -> list[str]:
    return [f"{label} the number {i} thing please" for i in range(count)]


def examples(count: int) -> Examples:
    texts = [text for word in WORDS for text in texts_of(word, count)] + [f"why is {i} so far" for i in range(count)]
    targets = [i for i in range(3) for _ in range(count)] + [3] * count
    return Examples(tuple(texts), np.asarray(targets, np.int64), ("in",) * 3 * count + ("out",) * count)


DATA = DomainData("house", WORDS, examples(12), examples(6), examples(20))


def answering(wrong: Callable[[str], bool]) -> Callable[[Sequence[str]], np.ndarray]:
    """A model that reads the first word, and is mistaken where ``wrong`` says so."""

    def answer(texts: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(texts), 4), np.float32)
        for row, text in zip(out, texts, strict=True):
            first = text.split()[0]
            place = WORDS.index(first) if first in WORDS else 3
            row[(place + 1) % 3 if wrong(text) and place < 3 else place] = 8.0
        return out

    return answer


PARENT = answering(lambda text: False)
FORGETFUL = answering(lambda text: text.startswith("play"))


def test_a_ticket_that_is_its_parent_loses_nothing() -> None:
    """Agreement one, no drop, no class forgotten, every default gate passed."""
    parent = ParentAnswers(PARENT, DATA, CALIBRATED)
    document = evaluate_ticket(PARENT, parent, DATA, CALIBRATED)
    assert document["accuracy"] == {
        "in_scope": 1.0, "parent": 1.0, "loss_points": 0.0, "loss_points_ci": [0.0, 0.0], "loss_points_at_most": 0.0,
        "mcnemar_p": 1.0,
    }  # fmt: skip
    assert document["agreement"] == {"share": 1.0, "churn": 0.0, "mean_kl": 0.0}
    assert document["forgetting"]["forgotten"] == []
    assert document["out_of_scope"]["kept"] == 1.0
    assert document["out_of_scope"]["out"]["auroc"] == 1.0
    assert document["shift_extra_drop_points"] == 0.0
    assert json.loads(json.dumps(document)) == document


def test_a_forgotten_class_is_named_with_its_texts() -> None:
    """Twenty of twenty lost; the others keep theirs."""
    document = evaluate_ticket(FORGETFUL, ParentAnswers(PARENT, DATA, CALIBRATED), DATA, CALIBRATED)
    assert document["accuracy"]["loss_points"] == pytest.approx(100 / 3, abs=0.01)
    assert document["accuracy"]["mcnemar_p"] < 1e-4
    low, high = document["accuracy"]["loss_points_ci"]
    assert low < 100 / 3 < high == document["accuracy"]["loss_points_at_most"]
    found = document["forgetting"]
    assert (found["forgotten"], found["forgotten_count"], found["worst_drop_points"]) == (["play"], 1, 100.0)
    assert found["lost_texts"] == list(range(40, 60))
    assert document["agreement"]["churn"] == pytest.approx(0.25)


def test_without_a_parent_only_what_needs_none_is_there() -> None:
    """No comparison is made up."""
    document = evaluate_ticket(PARENT, None, DATA, CALIBRATED)
    assert document.keys() == {"version", "accuracy", "calibration", "out_of_scope", "subgroups", "shift"}
    assert document["accuracy"] == {"in_scope": 1.0}
    assert all("parent_drop_points" not in one for one in document["shift"].values())


def test_shift_is_measured_against_clean_texts_and_the_parent() -> None:
    """A model that reads only lower case finds no label of a text in capitals, one in three by chance; so does its
    parent.
    """
    document = evaluate_ticket(PARENT, ParentAnswers(PARENT, DATA, CALIBRATED), DATA, CALIBRATED)
    capitals = document["shift"]["upper case"]
    assert capitals["drop_points"] == capitals["parent_drop_points"] == pytest.approx(200 / 3, abs=0.001)
    assert capitals["extra_drop_points"] == 0.0
    assert document["shift"]["truncated"]["drop_points"] == 0.0


def test_every_number_a_default_gate_asks_for_is_measured() -> None:
    """A gate on a number that does not exist would never pass."""
    document = evaluate_ticket(PARENT, ParentAnswers(PARENT, DATA, CALIBRATED), DATA, CALIBRATED)
    missing = [gate.name for gate in load_gates() if number_at(document, gate.number) is None]
    assert missing == []


def test_the_same_answers_give_the_same_document() -> None:
    """Bootstraps and shifts are seeded."""
    documents = [
        json.dumps(evaluate_ticket(FORGETFUL, ParentAnswers(PARENT, DATA, CALIBRATED), DATA, CALIBRATED))
        for _ in range(2)
    ]
    assert documents[0] == documents[1]
