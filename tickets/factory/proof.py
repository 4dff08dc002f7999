"""The proof and the pack: a distilled model becomes an int8 ticket with its evidence.

Quantizes, writes the graph, checks it against torch, calibrates on validation data, measures
on test data through the very bundle that will be served, and packs. Evidence about speed is
measured for the whole family at once and joins at the end.
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
from tickets.factory.backbone import Backbone
from tickets.factory.data import DomainData, Examples
from tickets.factory.encoder import Classifier, parameters
from tickets.factory.graph import build_fp32, build_int8
from tickets.factory.models import load_model
from tickets.factory.quality import Calibrated, Floats, correct, fit, measure, with_last_column
from tickets.factory.quantize import calibrate
from tickets.factory.runs import FACTORY, Stage
from tickets.factory.speed import Speed
from tickets.factory.stages import Plan
from tickets.factory.tokens import Vocabulary, pad, whole_words
from tickets.manifest import (
    Calibration,
    Evidence,
    Lineage,
    Manifest,
    Structure,
    Tensor,
    Tokenizer,
    text_classification_outputs,
)
from tickets.reference import Reference

CALIBRATION_TEXTS = 1024
CHECKED_TEXTS = 256
TOLERANCE = 2e-3  # largest difference of an fp32 logit between torch and ONNX Runtime
LICENCE = "Apache-2.0 (weights derived from the backbone; see NOTICE for data attributions)"


class ProofError(RuntimeError):
    """A ticket that does not compute what its parent model computes."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on its way to being a ticket: graph, tokenizer, frozen calibration and test results."""

    name: str
    tier: str | None
    shape_report: Structure
    model_onnx: bytes
    vocabulary: Vocabulary
    calibrated: Calibrated
    report: dict[str, Any]
    hits: NDArray[np.bool_]
    """For each in-scope test text, whether the label was right: for paired comparisons."""


class Prover:
    """Turns stages of one domain into candidates and tickets. ``samples``: sentences that may travel in them."""

    def __init__(self, data: DomainData, backbone: Backbone, plan: Plan, samples: Sequence[str] = ()) -> None:
        self._data, self._backbone, self._plan, self._samples = data, backbone, plan, samples
        self._evidence: dict[str, bytes] = {}

    def candidate(self, name: str, tier: str | None, stage: Stage, *, int8: bool) -> Candidate:
        """Write, check, calibrate and measure. Raises ProofError where torch and ONNX Runtime disagree."""
        model, vocabulary = load_model(stage.path)
        weights = {k: v.numpy() for k, v in model.state_dict().items()}
        graph, structure = build_fp32(model.shape, weights), _structure(model, "none")
        runner = in_fp32 = self._reference(graph, vocabulary, structure)
        self._check_fp32(model, vocabulary, in_fp32)
        if int8:
            train = self._data.train
            ids = vocabulary.encode([train.texts[i] for i in train.half_inside(CALIBRATION_TEXTS, self._plan.seed)])
            graph = build_int8(model.shape, weights, calibrate(model, ids, self._plan.seed))
            structure = _structure(model, "static U8 activations, S8 weights per channel")
            runner = self._reference(graph, vocabulary, structure)
        validation, test = self._logits(runner, self._data.validation), self._logits(runner, self._data.test)
        kinds = np.asarray(self._data.test.kinds)
        calibrated = fit(validation, self._data.validation.targets, np.asarray(self._data.validation.kinds))
        report: dict[str, Any] = dict(measure(test, self._data.test.targets, kinds, calibrated))
        report["bytes"] = len(graph)
        report["parameters"] = structure.parameters
        if int8:
            float_logits = self._logits(in_fp32, self._data.test)
            same = float_logits.argmax(axis=1) == test.argmax(axis=1)
            report["int8_same_answer_as_fp32"] = round(float(same.mean()), 5)
            report["fp32_in_scope_accuracy"] = round(
                float(correct(float_logits, self._data.test.targets, kinds).mean()), 5
            )
        hits = correct(test, self._data.test.targets, kinds)
        return Candidate(name, tier, structure, graph, vocabulary, calibrated, report, hits)

    def reference(self, candidate: Candidate) -> Reference:
        """The candidate, opened in ONNX Runtime on one core."""
        return self._reference(candidate.model_onnx, candidate.vocabulary, candidate.shape_report)

    def carry_evidence(self, dense: Candidate) -> None:
        """From now on tickets carry the domain's test texts with their labels (other domains' texts stay at home,
        as they do in `Evidence.quality`), and what the dense parent answered at its own calibration."""
        test, labels = self._data.test, self._data.labels
        chosen = [i for i, kind in enumerate(test.kinds) if kind != "near"]
        texts = [test.texts[i] for i in chosen]
        manifest = self._manifest(
            dense.vocabulary, dense.shape_report, calibrated=dense.calibrated, name=dense.name, tier=None,
            verdict="dense", lineage=Lineage(backbone=self._backbone.name), evidence=Evidence(quality=0.0),
        )  # fmt: skip
        reference = Reference(parse(pack(manifest, _members(dense.model_onnx, dense.vocabulary))))
        answers = reference.classify(texts)
        evidence = EvidenceSet(
            texts=texts,
            labels=[labels[target] if target < len(labels) else None for target in test.targets[chosen].tolist()],
            parent=[label if ok else None for label, ok in zip(answers.labels, answers.in_scope, strict=True)],
        )
        self._evidence = {EVIDENCE: msgspec.json.encode(evidence)}

    def ticket(self, candidate: Candidate, speed: Speed, lineage: Lineage, verdict: str) -> bytes:
        """The finished bundle, with samples that any host can reproduce."""
        report = candidate.report | {"speed": asdict(speed)}
        evidence = Evidence(
            quality=candidate.report["in_scope_accuracy"],
            service_ms=speed.alone_ms,
            speedup=speed.speedup[0],
            report=report,
        )
        manifest = self._manifest(
            candidate.vocabulary, candidate.shape_report, calibrated=candidate.calibrated,
            name=candidate.name, tier=candidate.tier, verdict=verdict, lineage=lineage, evidence=evidence,
        )  # fmt: skip
        texts = [*self._samples, *sample_texts(candidate.vocabulary, self._plan.seed)]
        members = _members(candidate.model_onnx, candidate.vocabulary)
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

    def _check_fp32(self, model: Classifier, vocabulary: Vocabulary, runner: Reference) -> None:
        ids = vocabulary.encode(self._data.test.texts[:CHECKED_TEXTS])
        batch = pad(ids)
        with torch.inference_mode():
            wanted = model(torch.from_numpy(batch))[0].numpy()
        worst = float(np.abs(runner.run(batch.astype(np.int32)) - wanted).max())
        if not worst <= TOLERANCE:
            raise ProofError(f"the ONNX graph differs from torch by {worst:.2g} in a logit (allowed: {TOLERANCE})")

    def _logits(self, runner: Reference, examples: Examples) -> Floats:
        order = np.argsort([len(t) for t in examples.texts], kind="stable")
        logits = runner.logits([examples.texts[i] for i in order])
        out = np.empty_like(logits)
        out[order] = logits
        return with_last_column(out, len(self._data.labels))

    def _reference(self, graph: bytes, vocabulary: Vocabulary, structure: Structure) -> Reference:
        manifest = self._manifest(
            vocabulary, structure, calibrated=Calibrated(1.0, 0.0, self._scheme), name="candidate", tier=None,
            verdict="pruned", lineage=Lineage(backbone=self._backbone.name), evidence=Evidence(quality=0.0),
        )  # fmt: skip
        return Reference(parse(pack(manifest, _members(graph, vocabulary))))

    @property
    def _scheme(self) -> Any:  # noqa: ANN401 - a literal of Calibration
        return "class" if self._data.classes > len(self._data.labels) else "max_probability"

    def _manifest(
        self,
        vocabulary: Vocabulary,
        structure: Structure,
        *,
        calibrated: Calibrated,
        **fields: Any,  # noqa: ANN401 - the manifest's own
    ) -> Manifest:
        return Manifest(
            task="text-classification",
            domain=self._data.domain,
            labels=list(self._data.labels),
            inputs=[Tensor(name="text", datatype="BYTES", shape=[-1])],
            outputs=text_classification_outputs(len(self._data.labels)),
            tokenizer=Tokenizer(max_tokens=vocabulary.max_tokens, pad_id=0, vocabulary=len(vocabulary.rows)),
            structure=structure,
            calibration=Calibration(
                temperature=calibrated.temperature, out_of_scope=calibrated.scheme, threshold=calibrated.threshold
            ),
            licence=LICENCE,
            **fields,
        )


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


def _members(graph: bytes, vocabulary: Vocabulary) -> dict[str, bytes]:
    return {"model.onnx": graph, "tokenizer.json": vocabulary.tokenizer_json.encode()}


def _structure(model: Classifier, quantization: str) -> Structure:
    shape = model.shape
    return Structure(
        hidden=shape.hidden, heads=list(shape.heads), ffn_neurons=list(shape.neurons), vocabulary=shape.vocabulary,
        parameters=parameters(shape, model.classes), source_layers=list(shape.sources), quantization=quantization,
    )  # fmt: skip
