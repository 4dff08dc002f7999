"""Opened: a graph as a ticket that ONNX Runtime runs, before there is anything to say about it.

Owns the manifest that all tickets of one domain share. What is measured, is measured through the very bundle that will
be served.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tickets.bundle import pack, parse
from tickets.factory.backbone import Backbone
from tickets.factory.data import DomainData, Examples
from tickets.factory.encoder import Classifier, parameters
from tickets.factory.quality import Calibrated, Floats, with_last_column
from tickets.factory.tokens import Vocabulary
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

LICENCE = "Apache-2.0 (weights derived from the backbone; see NOTICE for data attributions)"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A graph with the tokenizer and the structure that belong to it."""

    model_onnx: bytes
    vocabulary: Vocabulary
    structure: Structure

    def members(self) -> dict[str, bytes]:
        """What a bundle holds of it."""
        return {"model.onnx": self.model_onnx, "tokenizer.json": self.vocabulary.tokenizer_json.encode()}


class Opener:
    """Opens graphs of one domain."""

    def __init__(self, data: DomainData, backbone: Backbone) -> None:
        self._data, self._backbone = data, backbone

    def open(self, drawn: Drawn) -> Reference:
        """The graph in ONNX Runtime on one core, uncalibrated."""
        scheme: Literal["class", "max_probability"] = (
            "class" if self._data.classes > len(self._data.labels) else "max_probability"
        )
        manifest = self.manifest(
            drawn, calibrated=Calibrated(1.0, 0.0, scheme), name="candidate", tier=None, verdict="pruned",
            lineage=Lineage(backbone=self._backbone.name), evidence=Evidence(quality=0.0),
        )  # fmt: skip
        return Reference(parse(pack(manifest, drawn.members())))

    def logits(self, reference: Reference, examples: Examples) -> Floats:
        """Logits [n, labels + 1] of every text, in order."""
        return self.answers(reference, examples.texts)

    def answers(self, reference: Reference, texts: tuple[str, ...]) -> Floats:
        """Logits [n, labels + 1] of every text, in order."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        logits = reference.logits([texts[i] for i in order])
        out = np.empty_like(logits)
        out[order] = logits
        return with_last_column(out, len(self._data.labels))

    def manifest(self, drawn: Drawn, *, calibrated: Calibrated, **fields: Any) -> Manifest:  # noqa: ANN401
        """The manifest of a graph; ``fields`` are the manifest's own."""
        labels, vocabulary = self._data.labels, drawn.vocabulary
        return Manifest(
            task="text-classification",
            domain=self._data.domain,
            labels=list(labels),
            inputs=[Tensor(name="text", datatype="BYTES", shape=[-1])],
            outputs=text_classification_outputs(len(labels)),
            tokenizer=Tokenizer(max_tokens=vocabulary.max_tokens, pad_id=0, vocabulary=len(vocabulary.rows)),
            structure=drawn.structure,
            calibration=Calibration(
                temperature=calibrated.temperature, out_of_scope=calibrated.scheme, threshold=calibrated.threshold
            ),
            licence=LICENCE,
            **fields,
        )


def structure_of(model: Classifier, quantization: str) -> Structure:
    """What survived, as the manifest says it."""
    shape = model.shape
    return Structure(
        hidden=shape.hidden, heads=list(shape.heads), ffn_neurons=list(shape.neurons), vocabulary=shape.vocabulary,
        parameters=parameters(shape, model.classes), source_layers=list(shape.sources), quantization=quantization,
    )  # fmt: skip


def weights_of(model: Classifier) -> Mapping[str, Any]:
    """The weights as the graph writers want them."""
    return {name: value.numpy() for name, value in model.state_dict().items()}
