"""Models of one's own: a TOML file beside an ONNX model becomes a ticket.

Owns the TOML's meaning and every complaint about it (each names the field). What can be read from the graph or the
tokenizer need not be written: tensors, types, shapes, the vocabulary, the padding. The samples' answers are recorded
by running the model here, so this needs what runs tickets (``tombola[cpu]``). Quality is claimed, or measured on the
evidence; whoever registers the ticket measures it again.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tickets.bundle import BundleError, pack, parse, read_bytes
from tickets.evidence import MEMBER as EVIDENCE
from tickets.evidence import EvidenceSet
from tickets.import_error import ImportedError
from tickets.import_tensors import made_cases
from tickets.import_texts import DEFAULT_SAMPLES, measured, read_evidence, record_texts
from tickets.manifest import (
    Calibration,
    Evidence,
    Fraction,
    Label,
    Lineage,
    Manifest,
    Name,
    Tensor,
    Tokenizer,
    text_classification_outputs,
)
from tickets.onnx_reader import OnnxError, describe, only_known
from tickets.reference import Reference, guard, tokenizer_facts
from tickets.tensor_reference import TensorReference
from tickets.tensor_samples import encode_cases
from tickets.text_graph import text_form

MAX_TOML_BYTES = 1 << 20
DEFAULT_MAX_TOKENS = 128
Range = Annotated[list[float], Meta(min_length=2, max_length=2)]


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The TOML file. Paths are relative to it."""

    name: Name
    domain: Name
    licence: Annotated[str, Meta(min_length=1, max_length=1024)]
    model: str = ""
    """Default: the file's own name with .onnx."""
    tier: Name | None = None
    task: Literal["text-classification", "tensors"] | None = None
    """Default: text classification where there is a tokenizer."""
    quality: Fraction | None = None
    service_ms: Annotated[float, Meta(gt=0.0)] | None = None
    origin: Annotated[str, Meta(max_length=4096)] = "imported"
    """What the model was made from, in words."""
    labels: list[Label] | str | None = None
    tokenizer: str | None = None
    max_tokens: Annotated[int, Meta(ge=2, le=8192)] = DEFAULT_MAX_TOKENS
    pad_id: Annotated[int, Meta(ge=0)] | None = None
    temperature: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    out_of_scope: Literal["class", "max_probability", "none"] | None = None
    """Default: max_probability where there is a threshold, else none."""
    threshold: Fraction = 0.0
    evidence: str | None = None
    samples: list[Any] = []
    """Texts, or tables of nested lists by input."""
    ranges: dict[str, Range] = {}
    shapes: dict[str, list[int]] = {}


def pack_model(toml_path: Path) -> bytes:
    """The bundle of the model that a TOML file describes, verdict ``imported``.

    Raises ImportedError that names the field, OSError where the TOML itself cannot be read, ModuleNotFoundError
    without onnxruntime.
    """
    recipe = _read(toml_path)
    folder = toml_path.parent
    model = _file("model", folder / (recipe.model or f"{toml_path.stem}.onnx"))
    task = recipe.task or ("text-classification" if recipe.tokenizer else "tensors")
    _check_fields(recipe, task)
    try:
        return _pack_texts(recipe, folder, model) if task == "text-classification" else _pack_tensors(recipe, model)
    except (BundleError, OnnxError) as error:  # it cannot be read, opened or run
        raise ImportedError("tokenizer" if _is_of_tokenizer(error) else "model", str(error)) from error


def _is_of_tokenizer(error: ValueError) -> bool:
    return isinstance(error, BundleError) and error.code == "bad_tokenizer"


_MEASURED = ("in_scope_accuracy", "out_of_scope_recall", "expected_calibration_error")
_TEXT_FIELDS = ("labels", "tokenizer", "max_tokens", "pad_id", "temperature", "out_of_scope", "threshold", "evidence")
_TENSOR_FIELDS = ("ranges", "shapes")


def _check_fields(recipe: Recipe, task: str) -> None:
    """A field that the task has no use for is a misunderstanding."""
    strange = _TENSOR_FIELDS if task == "text-classification" else _TEXT_FIELDS
    defaults = {field.name: field.default for field in msgspec.structs.fields(Recipe)}
    for name in strange:
        value = getattr(recipe, name)
        if value and value != defaults[name]:
            raise ImportedError(name, f"means nothing to a ticket of task {task!r}")


def _read(path: Path) -> Recipe:
    try:
        document = tomllib.loads(read_bytes(path, max_bytes=MAX_TOML_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, BundleError) as error:
        raise ImportedError(path.name, f"cannot be read as TOML: {error}") from error
    try:
        return msgspec.convert(document, Recipe)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at ")
        raise ImportedError(place.strip("`").removeprefix("$.") or path.name, reason) from error


def _pack_texts(recipe: Recipe, folder: Path, model: bytes) -> bytes:
    if recipe.tokenizer is None:
        raise ImportedError("tokenizer", "a ticket that classifies texts needs one (tokenizer.json)")
    labels = _labels(recipe, folder)
    scheme = recipe.out_of_scope or ("max_probability" if recipe.threshold > 0 else "none")
    described = describe(model)
    try:
        text_form(described.inputs, described.outputs, len(labels) + (scheme == "class"))
    except ValueError as error:
        raise ImportedError("model", str(error)) from error
    tokenizer = _file("tokenizer", folder / recipe.tokenizer)
    evidence = None if recipe.evidence is None else read_evidence(folder / recipe.evidence, labels)
    manifest = Manifest(
        **_common(recipe, "text-classification", 0.0),
        labels=labels,
        inputs=[Tensor(name="text", datatype="BYTES", shape=[-1])],
        outputs=text_classification_outputs(len(labels)),
        tokenizer=_tokenizer(recipe, tokenizer),
        calibration=Calibration(temperature=recipe.temperature, out_of_scope=scheme, threshold=recipe.threshold),
    )
    members = {"model.onnx": model, "tokenizer.json": tokenizer}
    reference = Reference(parse(_packed(manifest, members)))
    members["samples.json"] = record_texts(reference, _sample_texts(recipe, evidence))
    if evidence is None:
        return _packed(_with_evidence(manifest, _claimed(recipe.quality), {}), members)
    members[EVIDENCE] = msgspec.json.encode(evidence)
    found = measured(reference, evidence)
    quality = found.in_scope_accuracy if recipe.quality is None else recipe.quality
    report = {name: value for name in _MEASURED if (value := getattr(found, name)) is not None}
    return _packed(_with_evidence(manifest, _claimed(quality), report if recipe.quality is None else {}), members)


def _pack_tensors(recipe: Recipe, model: bytes) -> bytes:
    described = describe(model)
    try:
        only_known([*described.inputs, *described.outputs])
        inputs, outputs = (
            msgspec.convert([{"name": v.name, "datatype": v.datatype, "shape": v.shape} for v in values], list[Tensor])
            for values in (described.inputs, described.outputs)
        )
    except ValueError as error:
        raise ImportedError("model", str(error)) from error
    if not inputs:
        raise ImportedError("model", "the graph takes no inputs")
    manifest = Manifest(**_common(recipe, "tensors", _claimed(recipe.quality)), inputs=inputs, outputs=outputs)
    reference = TensorReference(parse(_packed(manifest, {"model.onnx": model})))
    cases = made_cases(reference, recipe.samples, recipe.ranges, recipe.shapes)
    return _packed(manifest, {"model.onnx": model, "samples.json": encode_cases(cases)})


def _common(recipe: Recipe, task: str, quality: float) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "task": task,
        "domain": recipe.domain,
        "tier": recipe.tier,
        "verdict": "imported",
        "lineage": Lineage(backbone=recipe.origin),
        "evidence": Evidence(quality=quality, service_ms=recipe.service_ms),
        "licence": recipe.licence,
    }


def _with_evidence(manifest: Manifest, quality: float, report: dict[str, float]) -> Manifest:
    evidence = msgspec.structs.replace(manifest.evidence, quality=quality, report=report)
    return msgspec.structs.replace(manifest, evidence=evidence)


def _tokenizer(recipe: Recipe, data: bytes) -> Tokenizer:
    try:
        pieces, pad_id = guard("bad_tokenizer", tokenizer_facts, data)
    except BundleError as error:
        raise ImportedError("tokenizer", str(error)) from error
    chosen = recipe.pad_id if recipe.pad_id is not None else pad_id
    if chosen is None:
        raise ImportedError("pad_id", "the tokenizer does not say which piece is padding: name its number")
    return Tokenizer(max_tokens=recipe.max_tokens, pad_id=chosen, vocabulary=pieces)


def _claimed(quality: float | None) -> float:
    if quality is None:
        raise ImportedError("quality", "say how good the model is (0 to 1): routing compares tickets by it")
    return quality


def _labels(recipe: Recipe, folder: Path) -> list[str]:
    if isinstance(recipe.labels, str):
        lines = _file("labels", folder / recipe.labels).decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    if not recipe.labels:
        raise ImportedError("labels", "name them in the order of the logits, as a list or as a file of lines")
    return recipe.labels


def _sample_texts(recipe: Recipe, evidence: EvidenceSet | None) -> list[str]:
    texts = [text for text in recipe.samples if isinstance(text, str)]
    if len(texts) != len(recipe.samples):
        raise ImportedError("samples", "must be texts")
    if not texts and evidence is not None:
        texts = evidence.texts[:DEFAULT_SAMPLES]
    if not texts:
        raise ImportedError("samples", "give a few texts to record answers for; they travel in the ticket")
    return texts


def _packed(manifest: Manifest, members: Mapping[str, bytes]) -> bytes:
    try:
        return pack(manifest, members)
    except BundleError as error:
        raise ImportedError("manifest", str(error)) from error


def _file(field: str, path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise ImportedError(field, f"{path}: {error.strerror or error}") from error
    except BundleError as error:
        raise ImportedError(field, str(error)) from error
