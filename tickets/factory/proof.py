"""The proof and the pack: a quantized model becomes a ticket with its evidence.

Writes the graph, checks it against torch, calibrates on validation data, measures on test data through the very bundle
that will be served, and packs. Evidence about speed is measured for the whole family at once and joins at the end.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from tickets.bundle import Bundle, pack, parse
from tickets.evidence import MEMBER as EVIDENCE
from tickets.evidence import EvidenceSet
from tickets.factory.encoder import Classifier
from tickets.factory.graph import build_fp32, build_int8
from tickets.factory.int8 import STATIC, load_int8
from tickets.factory.models import load_model
from tickets.factory.opened import Drawn, Opener, structure_of, weights_of
from tickets.factory.quality import Calibrated, Floats, correct, fit, measure
from tickets.factory.runs import FACTORY, Stage
from tickets.factory.speed import Speed
from tickets.factory.stages import Workshop
from tickets.factory.tokens import Vocabulary, pad, whole_words
from tickets.factory.verdict import decisions
from tickets.manifest import Evidence, Lineage
from tickets.reference import Reference

CHECKED_TEXTS = 256
TOLERANCE = 2e-3  # largest difference of an fp32 logit between torch and ONNX Runtime


class ProofError(RuntimeError):
    """A ticket that does not compute what its parent model computes."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on its way to being a ticket: graph, frozen calibration and test results."""

    name: str
    tier: str | None
    drawn: Drawn
    calibrated: Calibrated
    report: dict[str, Any]
    logits: Floats
    """Of the test texts, [n, labels + 1]."""
    hits: NDArray[np.bool_]
    """For each in-scope test text, whether the label was right: for paired comparisons."""
    right: NDArray[np.bool_]
    """For each test text, whether what was decided was right (`tickets.factory.verdict.decisions`)."""


class Prover:
    """Turns stages of one domain into candidates and tickets. ``samples``: sentences that may travel in them."""

    def __init__(self, shop: Workshop, samples: Sequence[str] = ()) -> None:
        self._data, self._backbone, self._plan, self._samples = shop.data, shop.backbone, shop.plan, samples
        self._opener = Opener(shop.data, shop.backbone)
        self._evidence: dict[str, bytes] = {}

    def dense(self, name: str, stage: Stage) -> Candidate:
        """The dense parent in fp32. Raises ProofError where torch and ONNX Runtime disagree."""
        model, vocabulary = load_model(stage.path)
        drawn = self._draw_fp32(model, vocabulary)
        return self._candidate(name, None, drawn, self.open(drawn))

    def candidate(self, name: str, tier: str | None, stage: Stage) -> Candidate:
        """The int8 form of a quantized stage. Raises ProofError where torch and ONNX Runtime disagree."""
        quantized = load_int8(stage)
        model, vocabulary = quantized.model, quantized.vocabulary
        whole = self.open(self._draw_fp32(model, vocabulary))
        graph = build_int8(model.shape, weights_of(model), quantized.ranges, quantized.isa)
        drawn = Drawn(graph, vocabulary, structure_of(model, STATIC[quantized.isa]))
        found = self._candidate(name, tier, drawn, self.open(drawn))
        in_fp32 = self._opener.logits(whole, self._data.test)
        same = in_fp32.argmax(axis=1) == found.logits.argmax(axis=1)
        kinds = np.asarray(self._data.test.kinds)
        found.report.update({
            "int8_form": quantized.form,
            "int8_same_answer_as_fp32": round(float(same.mean()), 5),
            "fp32_in_scope_accuracy": round(float(correct(in_fp32, self._data.test.targets, kinds).mean()), 5),
        })  # fmt: skip
        return found

    def open(self, drawn: Drawn) -> Reference:
        """The graph in ONNX Runtime on one core."""
        return self._opener.open(drawn)

    def logits(self, reference: Reference, texts: tuple[str, ...]) -> Floats:
        """Logits [n, labels + 1] of other texts than the test's."""
        return self._opener.answers(reference, texts)

    def carry_evidence(self, dense: Candidate) -> None:
        """From now on tickets carry the domain's test texts with their labels (other domains' texts stay at home,
        as they do in `Evidence.quality`), and what the dense parent answered at its own calibration."""
        test, labels = self._data.test, self._data.labels
        chosen = [i for i, kind in enumerate(test.kinds) if kind != "near"]
        texts = [test.texts[i] for i in chosen]
        manifest = self._opener.manifest(
            dense.drawn, calibrated=dense.calibrated, name=dense.name, tier=None,
            verdict="dense", lineage=Lineage(backbone=self._backbone.name), evidence=Evidence(quality=0.0),
        )  # fmt: skip
        answers = Reference(parse(pack(manifest, dense.drawn.members()))).classify(texts)
        evidence = EvidenceSet(
            texts=texts,
            labels=[labels[target] if target < len(labels) else None for target in test.targets[chosen].tolist()],
            parent=[label if ok else None for label, ok in zip(answers.labels, answers.in_scope, strict=True)],
        )
        self._evidence = {EVIDENCE: msgspec.json.encode(evidence)}

    def ticket(
        self, candidate: Candidate, speed: Speed, lineage: Lineage, verdict: str, found: dict[str, Any]
    ) -> bytes:
        """The finished bundle, with samples that any host can reproduce. ``found`` joins the evidence's report."""
        evidence = Evidence(
            quality=candidate.report["in_scope_accuracy"],
            service_ms=speed.alone_ms,
            speedup=speed.speedup[0],
            report=candidate.report | {"speed": asdict(speed)} | found,
        )
        manifest = self._opener.manifest(
            candidate.drawn, calibrated=candidate.calibrated, name=candidate.name, tier=candidate.tier,
            verdict=verdict, lineage=lineage, evidence=evidence,
        )  # fmt: skip
        texts = [*self._samples, *sample_texts(candidate.drawn.vocabulary, self._plan.seed)]
        members = candidate.drawn.members()
        bare = parse(pack(manifest, members))
        return pack(manifest, members | self._evidence | {"samples.json": _samples(bare, texts)})

    def lineage(self, dense: Stage, parent: str | None, recipe: dict[str, Any]) -> Lineage:
        """Where this domain's tickets come from. ``parent`` is the ticket of the tier before, if any."""
        return Lineage(
            backbone=self._backbone.name,
            backbone_sha256=self._backbone.sha256,
            dense_parent=dense.key,
            parent=parent,
            data=self._data.digests(),
            seeds={"all": self._plan.seed},
            recipe=recipe,
            factory=FACTORY,
        )

    def _candidate(self, name: str, tier: str | None, drawn: Drawn, runner: Reference) -> Candidate:
        validation, test = self._data.validation, self._data.test
        kinds = np.asarray(test.kinds)
        calibrated = fit(self._opener.logits(runner, validation), validation.targets, np.asarray(validation.kinds))
        logits = self._opener.logits(runner, test)
        report: dict[str, Any] = dict(measure(logits, test.targets, kinds, calibrated))
        report |= {"bytes": len(drawn.model_onnx), "parameters": drawn.structure.parameters}
        hits = correct(logits, test.targets, kinds)
        right = decisions(logits, test.targets, kinds, calibrated)
        return Candidate(name, tier, drawn, calibrated, report, logits, hits, right)

    def _draw_fp32(self, model: Classifier, vocabulary: Vocabulary) -> Drawn:
        """The fp32 graph, checked against torch."""
        graph = build_fp32(model.shape, weights_of(model))
        drawn = Drawn(graph, vocabulary, structure_of(model, "none"))
        batch = pad(vocabulary.encode(self._data.test.texts[:CHECKED_TEXTS]))
        with torch.inference_mode():
            wanted = model(torch.from_numpy(batch))[0].numpy()
        worst = float(np.abs(self.open(drawn).run(batch.astype(np.int32)) - wanted).max())
        if not worst <= TOLERANCE:
            raise ProofError(f"the ONNX graph differs from torch by {worst:.2g} in a logit (allowed: {TOLERANCE})")
        return drawn


def sample_texts(vocabulary: Vocabulary, seed: int, count: int = 12) -> list[str]:
    """Made-up word sequences of the ticket's own vocabulary: no sentence of any data set travels."""
    words = sorted(whole_words(vocabulary))
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(words, int(n))) for n in random.integers(3, 14, count)]


def _samples(bundle: Bundle, texts: list[str]) -> bytes:
    answers = Reference(bundle).classify(texts)
    labels = [label if ok else None for label, ok in zip(answers.labels, answers.in_scope, strict=True)]
    chances = [[round(float(p), 6) for p in row] for row in answers.probabilities]
    return json.dumps({"texts": texts, "labels": labels, "probabilities": chances}).encode()
