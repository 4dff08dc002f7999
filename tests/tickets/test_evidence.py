"""The evidence set is read strictly, and measured by the factory's own definitions."""

import json
from typing import Any

import numpy as np
import pytest

from tests.tiny import tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.bundle import Bundle, BundleError, pack, parse
from tickets.claims import claims, quality
from tickets.evidence import Answer, EvidenceSet, measure, read_evidence
from tickets.factory.quality import Calibrated, in_scope_scores, softmax
from tickets.factory.quality import measure as factory_measure
from tickets.manifest import Evidence


def bundle(evidence: Any) -> Bundle:
    members = {"model.onnx": tiny_onnx(), "tokenizer.json": tiny_tokenizer()}
    if evidence is not None:
        members["evidence.json"] = json.dumps(evidence).encode()
    return parse(pack(tiny_manifest(), members))


def test_a_bundle_may_carry_none() -> None:
    assert read_evidence(bundle(None)) is None


def test_labels_of_the_manifest_and_null_are_read() -> None:
    found = read_evidence(bundle({"texts": ["a", "b"], "labels": ["music", None], "parent": [None, "lights"]}))
    assert found is not None
    assert (found.labels, found.parent) == (["music", None], [None, "lights"])


@pytest.mark.parametrize(
    "evidence",
    [
        {"texts": [], "labels": []},
        {"texts": ["a"], "labels": ["music", "music"]},
        {"texts": ["a"], "labels": ["music"], "parent": []},
        {"texts": ["a"], "labels": ["jazz"]},
        {"texts": ["a"], "labels": ["music"], "parent": ["jazz"]},
        {"texts": ["a"], "labels": ["music"], "weights": [1]},
        {"texts": ["x" * 65537], "labels": ["music"]},
        {"texts": [1], "labels": ["music"]},
        [],
    ],
)
def test_anything_else_is_refused(evidence: Any) -> None:
    with pytest.raises(BundleError) as caught:
        read_evidence(bundle(evidence))
    assert caught.value.code == "bad_evidence"


@pytest.mark.parametrize("scheme", ["class", "max_probability"])
def test_numbers_are_the_factorys(scheme: Any) -> None:
    """The same logits, judged by the factory as arrays and here as answers."""
    rng = np.random.default_rng(3)
    names = ["a", "b", "c"]
    targets = rng.integers(0, 4, 400)
    logits = rng.normal(0, 1, (400, 4)).astype(np.float32)
    logits[np.arange(400), targets] += 1.5
    if scheme == "max_probability":
        logits[:, -1] = -1e9
    kinds = np.where(targets == 3, "out", "in")
    calibrated = Calibrated(1.3, 0.6, scheme)

    chances = softmax(logits, calibrated.temperature)
    kept = in_scope_scores(logits, calibrated) >= calibrated.threshold
    answers = [
        Answer(names[row[:3].argmax()], bool(keep), float(row.max()), bool(row.argmax() < 3))
        for row, keep in zip(chances, kept, strict=True)
    ]
    labels = [names[target] if target < 3 else None for target in targets]
    found = measure(EvidenceSet(texts=["x"] * 400, labels=labels), answers)
    expected = factory_measure(logits, targets, kinds, calibrated)

    assert found.in_scope_accuracy == pytest.approx(expected["in_scope_accuracy"], abs=1e-5)
    assert found.out_of_scope_recall == pytest.approx(expected["out_of_scope_recall"], abs=1e-5)
    assert found.expected_calibration_error == pytest.approx(expected["expected_calibration_error"], abs=1e-4)


def test_loss_counts_right_answers_that_were_kept() -> None:
    right, unkept, wrong = Answer("a", True, 0.9, True), Answer("a", False, 0.9, True), Answer("b", True, 0.9, True)
    evidence = EvidenceSet(texts=["x"] * 4, labels=["a", "a", "a", None], parent=["a", "a", "b", "a"])
    assert measure(evidence, [right, unkept, wrong, right]).loss == pytest.approx(1 / 3, abs=1e-5)
    assert measure(evidence, [right, right, right, right]).loss == pytest.approx(-1 / 3, abs=1e-5)


def test_what_has_no_texts_is_not_measured() -> None:
    inside = measure(EvidenceSet(texts=["x"], labels=["a"]), [Answer("a", True, 1.0, True)])
    assert (inside.in_scope_accuracy, inside.out_of_scope_recall, inside.loss) == (1.0, None, None)
    outside = measure(EvidenceSet(texts=["x"], labels=[None], parent=[None]), [Answer("a", True, 1.0, True)])
    assert (outside.in_scope_accuracy, outside.out_of_scope_recall, outside.loss) == (None, 0.0, None)


def test_answers_are_as_many_as_texts() -> None:
    with pytest.raises(ValueError, match="zip"):
        measure(EvidenceSet(texts=["x"], labels=["a"]), [])


def test_claims_are_the_reports_and_quality_where_it_has_none() -> None:
    report = {"in_scope_accuracy": 0.94, "out_of_scope_recall": 0.96, "expected_calibration_error": 0.02}
    found = claims(Evidence(quality=0.9, report=report))
    assert (found.in_scope_accuracy, found.out_of_scope_recall, found.loss) == (0.94, 0.96, None)
    assert quality(Evidence(quality=0.9, report=report)) == pytest.approx(0.95)
    assert claims(Evidence(quality=0.9)).in_scope_accuracy == 0.9
    assert quality(Evidence(quality=0.9)) == 0.9


@pytest.mark.parametrize("value", ["0.9", True, -0.1, 1.1, float("nan"), None, [0.9]])
def test_what_is_no_fraction_is_no_claim(value: object) -> None:
    assert claims(Evidence(quality=0.5, report={"out_of_scope_recall": value})).out_of_scope_recall is None
