"""The evaluation document: right by hand-made answers, complete, and the same for the same answers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tickets.factory.data import DomainData, Examples
from tickets.factory.evaluation.gates import check, load_gates, number_at
from tickets.factory.evaluation.schema import numbers
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
    assert document["agreement"] == {"share": 1.0, "churn": 0.0, "in_scope": 1.0, "mean_kl": 0.0}
    assert all(one.passed for one in check(document, load_gates()))
    assert "-0.0" not in json.dumps(document)
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
    assert document["agreement"]["in_scope"] == pytest.approx(2 / 3, abs=1e-5)
    assert [one.gate for one in check(document, load_gates()) if not one.passed] == [
        "accuracy_loss", "accuracy_loss_bound", "calibration", "forgetting", "agreement"
    ]  # fmt: skip


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


def test_a_refusal_is_an_answer_that_a_client_notices() -> None:
    """The same label at a threshold that refuses it is no agreement; the best label alone would not show it."""
    strict = Calibrated(1.0, 0.9999)
    document = evaluate_ticket(PARENT, ParentAnswers(PARENT, DATA, CALIBRATED), DATA, strict)
    assert document["agreement"]["share"] == 1.0
    assert document["agreement"]["in_scope"] == document["out_of_scope"]["kept"] == 0.0
    assert document["out_of_scope"]["fpr"] == 1.0


def with_other_domains() -> DomainData:
    """The same with ten test texts of another domain, taken for being out of scope."""
    test = DATA.test
    near = tuple(f"how far is it to town {i}" for i in range(10))
    longer = Examples(test.texts + near, np.append(test.targets, [3] * 10), test.kinds + ("near",) * 10)
    return DomainData(DATA.domain, DATA.labels, DATA.train, DATA.validation, longer)


def test_the_numbers_are_those_that_gates_may_name() -> None:
    """Every number of a complete document stands in the schema, and the schema names no other."""
    data = with_other_domains()
    cost = dict.fromkeys(("bytes", "texts_per_s", "speedup", "p50_ms", "p95_ms", "p99_ms"), 1.0)
    document = evaluate_ticket(FORGETFUL, ParentAnswers(PARENT, data, CALIBRATED), data, CALIBRATED, cost=cost)
    assert {path for path in paths(document, "") if path != "version"} == set(numbers())
    assert all(number_at(document, path) is not None for path in numbers())


def paths(part: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Where numbers stand in a document; what stands in lists belongs to no gate."""
    for key, value in part.items():
        if isinstance(value, Mapping):
            yield from paths(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield prefix + key


def test_other_domains_are_not_asked_under_shift() -> None:
    """They are many; asking them again would cost more than all else."""
    asked: list[int] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        asked.append(len(texts))
        return PARENT(texts)

    data = with_other_domains()
    parent = ParentAnswers(counting, data, CALIBRATED)
    for _ in range(2):
        evaluate_ticket(PARENT, parent, data, CALIBRATED)
    assert sorted(asked) == [18, 80, 80, 80, 80, 80, 90], "the parent answers once for all tickets of a family"


def test_a_parent_of_other_texts_is_refused() -> None:
    """Paired statistics would be nonsense."""
    with pytest.raises(ValueError, match="other test texts"):
        evaluate_ticket(PARENT, ParentAnswers(PARENT, with_other_domains(), CALIBRATED), DATA, CALIBRATED)


def test_a_document_keeps_its_shape() -> None:
    """Readers of old records rely on keys and numbers: `document.json` is one, whole. To change it on purpose, write
    the new one there and say so in docs/evaluation.md.
    """
    found = evaluate_ticket(FORGETFUL, ParentAnswers(PARENT, DATA, CALIBRATED), DATA, CALIBRATED, cost={"bytes": 4096})
    golden = json.loads(Path(__file__).with_name("document.json").read_text())
    assert same(found, golden, "document") == []


def same(found: Any, wanted: Any, place: str) -> list[str]:
    """Where two documents differ; numbers may by what another processor's exponential may."""
    if isinstance(wanted, dict) and isinstance(found, dict) and list(found) == list(wanted):
        return [line for key in wanted for line in same(found[key], wanted[key], f"{place}.{key}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        return [line for i, pair in enumerate(zip(found, wanted, strict=True)) for line in same(*pair, f"{place}[{i}]")]
    if isinstance(wanted, float) and found == pytest.approx(wanted, abs=2e-5):
        return []
    return [] if found == wanted else [f"{place}: {found!r}, not {wanted!r}"]
