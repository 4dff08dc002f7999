"""The manifest: what a ticket says about itself, strictly typed and versioned.

Owns the schema (format 1) and the rules that bind its fields together. It leaves the
bytes to `tickets.bundle`. Unknown fields are refused: a manifest means the same to
every reader, or it is not read at all. New fields get a default and a new format number.
"""

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}\Z")]  # \Z: $ would let a final newline pass
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Label = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]


MAX_TENSOR_ELEMENTS = 1 << 24
"""Of one tensor with its variable dimensions at their least: more is asked of nobody."""


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An input or output as the inference protocol names it; -1 is a variable dimension."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    datatype: Datatype
    shape: Annotated[list[Annotated[int, Meta(ge=-1, le=1 << 31)]], Meta(max_length=8)]


class Tokenizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How text becomes the graph's ``input_ids`` ([batch, tokens] int32, padded with ``pad_id``)."""

    member: Name = "tokenizer.json"
    max_tokens: Annotated[int, Meta(ge=2, le=8192)]
    pad_id: Annotated[int, Meta(ge=0)]
    vocabulary: Annotated[int, Meta(ge=1, le=1 << 24)]


class Structure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What survived pruning. ``heads`` and ``ffn_neurons`` have one entry per layer that is left."""

    hidden: Count
    heads: Annotated[list[Count], Meta(max_length=256)]
    ffn_neurons: Annotated[list[Count], Meta(max_length=256)]
    vocabulary: Count
    parameters: Count
    source_layers: Annotated[list[Count], Meta(max_length=256)] = []
    quantization: Annotated[str, Meta(max_length=128)] = "none"


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How logits become calibrated answers.

    ``out_of_scope`` says what the in-scope score is: ``class`` - one minus the probability of
    the extra last logit; ``max_probability`` - the largest label probability; ``none`` - no
    score, everything is in scope. A text is in scope when its score >= ``threshold``.
    """

    temperature: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    out_of_scope: Literal["class", "max_probability", "none"] = "none"
    threshold: Fraction = 0.0


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a ticket comes from, precisely enough to make it again."""

    backbone: Text
    backbone_sha256: Digest | None = None
    dense_parent: Digest | None = None
    parent: Digest | None = None
    data: dict[Text, Digest] = {}
    seeds: dict[Name, int] = {}
    recipe: dict[str, Any] = {}
    factory: Text = ""


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was measured, on what. ``quality`` (in-scope accuracy on held-out data) is what
    routing compares; ``service_ms`` is one text alone on the measuring host; ``report`` holds
    everything else, for people."""

    quality: Fraction
    service_ms: Annotated[float, Meta(gt=0.0)] | None = None
    speedup: Annotated[float, Meta(gt=0.0)] | None = None
    report: dict[str, Any] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a ticket says about itself."""

    format: Literal[1] = 1
    name: Name
    task: Name
    domain: Name
    tier: Name | None = None
    verdict: Literal["winning", "pruned", "dense", "imported"]
    labels: Annotated[list[Label], Meta(max_length=65536)] = []
    inputs: Annotated[list[Tensor], Meta(min_length=1, max_length=64)]
    outputs: Annotated[list[Tensor], Meta(min_length=1, max_length=64)]
    tokenizer: Tokenizer | None = None
    structure: Structure | None = None
    calibration: Calibration = Calibration()
    lineage: Lineage
    evidence: Evidence
    licence: Annotated[str, Meta(min_length=1, max_length=1024)]


def text_classification_outputs(labels: int) -> list[Tensor]:
    """Everything a text-classification ticket can answer with; one row per text."""
    return [
        Tensor(name="label", datatype="BYTES", shape=[-1]),
        Tensor(name="probability", datatype="FP32", shape=[-1]),
        Tensor(name="in_scope", datatype="BOOL", shape=[-1]),
        Tensor(name="in_scope_score", datatype="FP32", shape=[-1]),
        Tensor(name="probabilities", datatype="FP32", shape=[-1, labels]),
    ]


def check_manifest(manifest: Manifest, members: frozenset[str]) -> None:
    """Check the rules that join fields to each other and to the members that are present.

    Raises ValueError with a sentence that names the field.
    """
    if "model.onnx" not in members:
        raise ValueError("member model.onnx is missing")
    if len(set(manifest.labels)) != len(manifest.labels):
        raise ValueError("labels are not unique")
    for kind, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        if len({t.name for t in tensors}) != len(tensors):
            raise ValueError(f"{kind} do not have unique names")
    if manifest.tokenizer is not None:
        if manifest.tokenizer.member not in members:
            raise ValueError(f"tokenizer member {manifest.tokenizer.member!r} is missing")
        if manifest.tokenizer.pad_id >= manifest.tokenizer.vocabulary:
            raise ValueError("tokenizer.pad_id is outside the vocabulary")
    if manifest.structure is not None:
        if len(manifest.structure.heads) != len(manifest.structure.ffn_neurons):
            raise ValueError("structure.heads and structure.ffn_neurons differ in length")
        if len(manifest.structure.source_layers) not in (0, len(manifest.structure.heads)):
            raise ValueError("structure.source_layers and structure.heads differ in length")
    if manifest.task == "text-classification":
        _check_text_classification(manifest)
    if manifest.task == "tensors":
        _check_tensors(manifest)


def _check_text_classification(manifest: Manifest) -> None:
    if manifest.tokenizer is None:
        raise ValueError("a text-classification ticket needs a tokenizer")
    if len(manifest.labels) < 2:
        raise ValueError("a text-classification ticket needs at least two labels")
    if [(t.name, t.datatype) for t in manifest.inputs] != [("text", "BYTES")]:
        raise ValueError("a text-classification ticket has exactly one input: text (BYTES)")
    offered = text_classification_outputs(len(manifest.labels))
    for output in manifest.outputs:
        if output not in offered:
            raise ValueError(f"a text-classification ticket has no output {output.name!r} of that type and shape")
    if "label" not in {output.name for output in manifest.outputs}:
        raise ValueError("a text-classification ticket needs the output label (BYTES)")


def _check_tensors(manifest: Manifest) -> None:
    if manifest.tokenizer is not None:
        raise ValueError("a ticket of tensors has no tokenizer: its inputs are what the graph takes")
    if manifest.calibration != Calibration():
        raise ValueError("a ticket of tensors has no calibration: its outputs are what the graph gives")
    for tensor in (*manifest.inputs, *manifest.outputs):
        if 0 in tensor.shape:
            raise ValueError(f"tensor {tensor.name!r} has a dimension of size 0")
        if math.prod(abs(size) for size in tensor.shape) > MAX_TENSOR_ELEMENTS:
            raise ValueError(f"tensor {tensor.name!r} has more than {MAX_TENSOR_ELEMENTS} elements")
