"""The dense parent as a ticket that can be served: the yardstick, and the heavy end of a family.

Its weights are those that the factory fine-tuned, where its folder of stages still holds them
(`.runs`, which is not part of the repository); else the backbone's own with a fresh head. Speed does not
depend on trained values, so figures of load and latency are good either way; figures of quality are
given only for trained weights.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from tickets.bundle import Bundle, pack, parse
from tickets.factory.backbone import load_backbone
from tickets.factory.data import DomainData
from tickets.factory.encoder import Classifier, parameters
from tickets.factory.graph import build_fp32
from tickets.factory.models import from_backbone, load_model
from tickets.factory.quality import correct, fit, with_last_column
from tickets.factory.tokens import Vocabulary, full_vocabulary
from tickets.manifest import Calibration, Evidence, Lineage, Manifest, Structure
from tickets.reference import Reference

RUNS = Path(".runs")
TIER = "dense"


@dataclass(frozen=True, slots=True)
class Dense:
    """The bundle, and whether its weights were fine-tuned."""

    bundle: Bundle
    is_trained: bool


def dense_ticket(child: Bundle, *, service_ms: float, data: DomainData | None = None, runs: Path = RUNS) -> Dense:
    """The dense parent of a starter ticket in fp32. ``data`` is needed to calibrate trained weights."""
    folder = runs / f"dense-{(child.manifest.lineage.dense_parent or '')[:16]}"
    if data is not None and (folder / "done.json").is_file():
        return Dense(_calibrated(child.manifest, *load_model(folder), data, service_ms), is_trained=True)
    return Dense(_fresh(child.manifest, service_ms), is_trained=False)


def _fresh(manifest: Manifest, service_ms: float) -> Bundle:
    backbone = load_backbone()
    assert manifest.tokenizer is not None
    vocabulary = full_vocabulary(backbone.tokenizer_json, manifest.tokenizer.max_tokens)
    model = from_backbone(backbone, vocabulary, len(manifest.labels) + 1, seed=0)
    # Everything counts as in scope: what a fresh head says means nothing.
    calibration = Calibration(out_of_scope="class", threshold=0.0)
    return _pack(manifest, model, vocabulary, calibration, Evidence(quality=0.0, service_ms=service_ms))


def _calibrated(
    manifest: Manifest, model: Classifier, vocabulary: Vocabulary, data: DomainData, service_ms: float
) -> Bundle:
    """As the factory calibrates: temperature and threshold on validation texts, quality on test texts."""
    raw = Reference(_pack(manifest, model, vocabulary, Calibration(out_of_scope="class"), Evidence(quality=0.0)))
    logits = with_last_column(raw.logits(data.validation.texts), len(data.labels))
    fitted = fit(logits, data.validation.targets, np.asarray(data.validation.kinds))
    calibration = Calibration(temperature=fitted.temperature, out_of_scope="class", threshold=fitted.threshold)
    test = data.test.of_kind("in")
    hits = correct(raw.logits(test.texts), test.targets, np.asarray(test.kinds))
    evidence = Evidence(quality=round(float(hits.mean()), 5), service_ms=service_ms)
    return _pack(manifest, model, vocabulary, calibration, evidence)


def _pack(
    child: Manifest, model: Classifier, vocabulary: Vocabulary, calibration: Calibration, evidence: Evidence
) -> Bundle:
    shape = model.shape
    assert child.tokenizer is not None
    manifest = msgspec.structs.replace(
        child, name=f"{child.domain}-{TIER}", tier=TIER, verdict="dense", calibration=calibration, evidence=evidence,
        tokenizer=msgspec.structs.replace(child.tokenizer, vocabulary=len(vocabulary.rows)),
        structure=Structure(
            hidden=shape.hidden, heads=list(shape.heads), ffn_neurons=list(shape.neurons),
            vocabulary=shape.vocabulary, parameters=parameters(shape, model.classes),
        ),
        lineage=Lineage(backbone=child.lineage.backbone, data=child.lineage.data, seeds=child.lineage.seeds),
    )  # fmt: skip
    graph = build_fp32(shape, {k: v.detach().numpy() for k, v in model.state_dict().items()})
    return parse(pack(manifest, {"model.onnx": graph, "tokenizer.json": vocabulary.tokenizer_json.encode()}))
