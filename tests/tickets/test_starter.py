"""The starter tickets are whole, small, and keep their word on real text.

Sentences of `loadtest.sentences` (written for this project) are always at hand. Where the
CLINC150 file lies in TOMBOLA_TEST_DATA (default: ../shared/data), the recorded quality is
measured again through the packed ticket.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.sentences import BANKING, TRAVEL
from tickets import bundle as bundles
from tickets.bundle import Bundle
from tickets.reference import Reference, reproduce_samples

STARTER = Path(__file__).parents[2] / "tickets" / "starter"
DATA = Path(os.environ.get("TOMBOLA_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "clinc150_full.json"
TICKETS = sorted(STARTER.glob("*.ticket"))
TEXTS = [*BANKING, *TRAVEL]

each_ticket = pytest.mark.parametrize("path", TICKETS, ids=[p.stem for p in TICKETS])


def softmax(logits: np.ndarray, bundle: Bundle) -> np.ndarray:
    scaled = logits / bundle.manifest.calibration.temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def test_there_is_a_family_of_at_least_three_tickets_for_each_domain_within_16_megabytes() -> None:
    """The index names exactly the files that are there, with their ids, from the largest to the smallest."""
    index = json.loads((STARTER / "family.json").read_text())["families"]
    assert set(index) == {"banking", "travel"}
    listed = [entry for entries in index.values() for entry in entries]
    assert {entry["file"] for entry in listed} == {path.name for path in TICKETS}
    assert sum(path.stat().st_size for path in TICKETS) <= 16_000_000
    for domain, entries in index.items():
        assert len(entries) >= 3
        opened = [bundles.read(STARTER / entry["file"], expect=entry["id"]) for entry in entries]
        assert {ticket.manifest.domain for ticket in opened} == {domain}
        sizes = [ticket.size_bytes for ticket in opened]
        assert sizes == sorted(sizes, reverse=True)
        parents = [ticket.manifest.lineage.parent for ticket in opened]
        assert parents == [None, *(ticket.id for ticket in opened[:-1])]


@each_ticket
def test_it_reproduces_its_samples(path: Path) -> None:
    """On this host, to the recorded labels and probabilities."""
    assert reproduce_samples(Reference(bundles.read(path))) > 0


@each_ticket
def test_an_answer_does_not_depend_on_batch_neighbours_or_padding(path: Path) -> None:
    """Same label, probabilities within 1e-5: alone, with seven others, and padded to twice the length."""
    bundle = bundles.read(path)
    reference = Reference(bundle)
    alone = np.concatenate([softmax(reference.run(reference.tokens([text])), bundle) for text in TEXTS])
    random = np.random.default_rng(0)
    for i, text in enumerate(TEXTS):
        others = [TEXTS[j] for j in random.choice(len(TEXTS), 7)]
        batch = reference.tokens([*others, text])
        together = softmax(reference.run(batch), bundle)[-1]
        padded = softmax(reference.run(np.pad(batch[-1:], ((0, 0), (0, 20)))), bundle)[0]
        for answer in (together, padded):
            np.testing.assert_allclose(answer, alone[i], atol=1e-5)
            assert answer.argmax() == alone[i].argmax()


@each_ticket
def test_unknown_symbols_and_very_long_texts_are_answered(path: Path) -> None:
    """Whatever the text, there is an answer with probabilities that add up to at most one."""
    answers = Reference(bundles.read(path)).classify(["日本語 ☃", "a" * 5000, "word " * 5000, "\u200b", "?"])
    assert (answers.probabilities.sum(axis=1) <= 1 + 1e-5).all()


@each_ticket
@pytest.mark.torch
@pytest.mark.skipif(not DATA.is_file(), reason="CLINC150 is not at hand: name its folder in TOMBOLA_TEST_DATA")
def test_the_recorded_quality_is_what_the_ticket_delivers(path: Path) -> None:
    """In-scope accuracy, recalls and AUROC, measured again on the whole test split."""
    pytest.importorskip("torch", reason="the factory's libraries are not installed")
    from tickets.factory.data import build
    from tickets.factory.evaluate_command import evaluated
    from tickets.factory.formats import load_rows

    bundle = bundles.read(path)
    measured = evaluated(Reference(bundle), build(load_rows(DATA), bundle.manifest.domain, 0))
    recorded: dict[str, Any] = bundle.manifest.evidence.report
    for key in ("in_scope_accuracy", "out_of_scope_recall", "other_domains_recall", "out_of_scope_auroc"):
        assert measured[key] == pytest.approx(recorded[key], abs=0.005), key
