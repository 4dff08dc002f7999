"""The int8 stage: calibrate, and fine-tune under quantization where calibration alone loses too much.

The choice is made on validation texts, through ONNX Runtime; test texts are not looked at.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tickets.factory.data import Examples
from tickets.factory.encoder import Classifier
from tickets.factory.graph import WEIGHT_LIMIT, Isa, Range, Ranges, build_fp32, build_int8
from tickets.factory.loop import Watch
from tickets.factory.models import load_model, save_model
from tickets.factory.opened import Drawn, Opener, structure_of, weights_of
from tickets.factory.qat import finetune, is_better, needs_qat
from tickets.factory.quality import Floats, auroc, correct, fit, in_scope_scores
from tickets.factory.quantize import calibrate
from tickets.factory.runs import Stage, described
from tickets.factory.stages import Workshop, taught
from tickets.factory.tokens import Vocabulary
from tickets.factory.train import Corpus

CALIBRATION_TEXTS = 1024
STATIC: Mapping[Isa, str] = {
    "vnni": "static U8 activations, S8 weights per channel",
    "avx2": "static U8 activations, S8 weights per channel within 64 (for AVX2)",
}


class Quantizer:
    """Makes the int8 form of a distilled model."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._opener = Opener(shop.data, shop.backbone)

    def quantized(self, child: Stage, signals: Stage, seed: int) -> Stage:
        """The child's weights with the static ranges of its activations: the better of calibration alone and, where
        that loses too much, of fine-tuning under quantization.
        """
        shop = self._shop

        def build(folder: Path) -> None:
            model, vocabulary = load_model(child.path)
            whole = self._validate(build_fp32(model.shape, weights_of(model)), model, vocabulary)
            ranges = self._calibrated(model, vocabulary)
            chosen, form = (model, ranges), "calibrated"
            quality = {"fp32": whole, "calibrated": self._int8(model, vocabulary, ranges)}
            if needs_qat(quality["fp32"], quality["calibrated"]):
                taken = self._finetuned(model, vocabulary, ranges, signals, folder, seed)
                quality["fine-tuned"] = self._int8(taken[0], vocabulary, taken[1])
                if is_better(quality["fine-tuned"], quality["calibrated"]):
                    chosen, form = taken, "fine-tuned"
            save_model(folder, chosen[0], vocabulary)
            document = {
                "form": form, "isa": shop.plan.isa, "validation": quality,
                "ranges": {name: asdict(range_) for name, range_ in chosen[1].items()},
            }  # fmt: skip
            (folder / "int8.json").write_text(json.dumps(document, indent=1), encoding="utf-8")

        inputs = {"child": child.key, "signals": signals.key, "seed": seed, "recipe": described(shop.plan.qat)}
        if shop.plan.isa != "vnni":
            inputs["isa"] = shop.plan.isa
        return shop.runs.stage("int8", inputs, build)

    def _finetuned(
        self, model: Classifier, vocabulary: Vocabulary, ranges: Ranges, signals: Stage, folder: Path, seed: int
    ) -> tuple[Classifier, Ranges]:
        shop = self._shop
        examples, said = taught(shop.data.train, signals)
        corpus = Corpus(examples, vocabulary.encode(examples.texts), said)
        tuned = finetune(
            model, ranges, corpus, shop.plan.qat, seed=seed, compute=shop.compute,
            watch=Watch(folder, shop.progress("fine-tuning under quantization")),
            weight_limit=WEIGHT_LIMIT[shop.plan.isa],
        )  # fmt: skip
        return tuned, self._calibrated(tuned, vocabulary)

    def _calibrated(self, model: Classifier, vocabulary: Vocabulary) -> Ranges:
        train, seed = self._shop.data.train, self._shop.plan.seed
        ids = vocabulary.encode([train.texts[i] for i in train.half_inside(CALIBRATION_TEXTS, seed)])
        return calibrate(model, ids, seed)

    def _int8(self, model: Classifier, vocabulary: Vocabulary, ranges: Ranges) -> dict[str, float]:
        graph = build_int8(model.shape, weights_of(model), ranges, self._shop.plan.isa)
        return self._validate(graph, model, vocabulary)

    def _validate(self, graph: bytes, model: Classifier, vocabulary: Vocabulary) -> dict[str, float]:
        reference = self._opener.open(Drawn(graph, vocabulary, structure_of(model, "none")))
        logits = self._opener.logits(reference, self._shop.data.validation)
        return quality_of(logits, self._shop.data.validation)


@dataclass(frozen=True, slots=True)
class Quantized:
    """What a quantized stage holds. ``form``: ``calibrated`` or ``fine-tuned``."""

    model: Classifier
    vocabulary: Vocabulary
    ranges: Ranges
    form: str
    isa: Isa


def load_int8(stage: Stage) -> Quantized:
    """Read what a quantized stage wrote."""
    document = json.loads((stage.path / "int8.json").read_text(encoding="utf-8"))
    model, vocabulary = load_model(stage.path)
    ranges = {name: Range(**r) for name, r in document["ranges"].items()}
    return Quantized(model, vocabulary, ranges, document["form"], document["isa"])


def quality_of(logits: Floats, examples: Examples) -> dict[str, float]:
    """In-scope accuracy and, where there are out-of-scope texts, AUROC: what quantization may not cost."""
    kinds = np.asarray(examples.kinds)
    out = {"accuracy": float(correct(logits, examples.targets, kinds).mean())}
    inside = kinds == "in"
    if not inside.all():
        scores = in_scope_scores(logits, fit(logits, examples.targets, kinds))
        out["auroc"] = auroc(scores[inside], scores[~inside])
    return out
