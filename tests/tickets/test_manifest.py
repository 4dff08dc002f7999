"""The manifest's own rules: each broken one is refused with a sentence that names the field."""

from typing import Any

import msgspec
import pytest

from tests.models import MLP_MANIFEST, tensor
from tests.tiny import tiny_manifest
from tickets.manifest import Calibration, Manifest, check_manifest

MEMBERS = frozenset({"model.onnx", "tokenizer.json"})
replace = msgspec.structs.replace


def decoded(**changes: Any) -> Manifest:
    """The tiny manifest after a trip through JSON, with some top-level fields changed."""
    document = msgspec.to_builtins(tiny_manifest())
    return msgspec.convert({**document, **changes}, Manifest)


def test_the_tiny_manifest_is_sound() -> None:
    check_manifest(decoded(), MEMBERS)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"name": "Has Capitals"},
        {"name": "banking\n"},
        {"domain": "../banking"},
        {"domain": ""},
        {"tier": "x" * 65},
        {"verdict": "excellent"},
        {"labels": ["a", ""]},
        {"labels": ["a"] * 65537},
        {"licence": ""},
        {"surprise": 1},
        {"inputs": []},
        {"evidence": {"quality": 1.01}},
        {"evidence": {"quality": 0.5, "service_ms": 0}},
        {"calibration": {"temperature": 0}},
        {"calibration": {"threshold": -0.1}},
        {"lineage": {"backbone": "b", "backbone_sha256": "0" * 64 + "\n"}},
        {"lineage": {"backbone": "b", "data": {"train": "not a digest"}}},
        {"outputs": [{"name": "label", "datatype": "STRING", "shape": [-1]}]},
        {"outputs": [{"name": "label", "datatype": "BYTES", "shape": [-2]}]},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_field_outside_its_range_does_not_decode(changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(**changes)


def broken_manifests() -> dict[str, tuple[Manifest, str]]:
    """Manifests whose fields are fine one by one and wrong together, with what the refusal must name."""
    tiny = tiny_manifest()
    assert tiny.tokenizer
    assert tiny.structure
    bool_input = replace(tiny.inputs[0], datatype="BOOL")
    return {
        "labels twice": (replace(tiny, labels=["a", "b", "a"]), "labels"),
        "one label": (replace(tiny, labels=["a"], outputs=tiny.outputs[:1]), "two labels"),
        "input names twice": (replace(tiny, inputs=tiny.inputs * 2), "inputs"),
        "output names twice": (replace(tiny, outputs=[*tiny.outputs, tiny.outputs[0]]), "outputs"),
        "input of another type": (replace(tiny, inputs=[bool_input]), "text"),
        "no tokenizer": (replace(tiny, tokenizer=None), "tokenizer"),
        "tokenizer elsewhere": (replace(tiny, tokenizer=replace(tiny.tokenizer, member="t.json")), "'t.json'"),
        "pad outside": (replace(tiny, tokenizer=replace(tiny.tokenizer, pad_id=12)), "pad_id"),
        "heads without neurons": (replace(tiny, structure=replace(tiny.structure, heads=[6])), "ffn_neurons"),
        "layers from nowhere": (replace(tiny, structure=replace(tiny.structure, source_layers=[3])), "source_layers"),
        "unknown output": (replace(tiny, outputs=[replace(tiny.outputs[0], name="colour")]), "colour"),
        "label as number": (replace(tiny, outputs=[replace(tiny.outputs[0], datatype="INT64")]), "label"),
        "no label output": (replace(tiny, outputs=tiny.outputs[1:]), "label"),
        "too many probabilities": (replace(tiny, labels=["a", "b", "c", "d"]), "probabilities"),
    }


@pytest.mark.parametrize(("manifest", "named"), broken_manifests().values(), ids=broken_manifests())
def test_fields_that_contradict_each_other_are_refused_by_name(manifest: Manifest, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_manifest(manifest, MEMBERS)


def test_a_bundle_needs_a_model() -> None:
    with pytest.raises(ValueError, match=r"model\.onnx"):
        check_manifest(tiny_manifest(), frozenset({"tokenizer.json"}))


def test_other_tasks_bring_their_own_tensors() -> None:
    """The manifest does not limit what later kinds of ticket take and give."""
    check_manifest(replace(tiny_manifest(), task="embedding", labels=[], tokenizer=None), MEMBERS)


def of_tensors(**changes: Any) -> Manifest:
    return msgspec.structs.replace(MLP_MANIFEST, **changes)


def test_a_ticket_of_tensors_needs_no_labels_and_no_tokenizer() -> None:
    check_manifest(of_tensors(), frozenset({"model.onnx"}))


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (of_tensors(tokenizer=tiny_manifest().tokenizer), "tokenizer"),
        (of_tensors(calibration=Calibration(temperature=2.0)), "calibration"),
        (of_tensors(inputs=[tensor("x", "FP32", -1, 0)]), "'x' has a dimension of size 0"),
        (of_tensors(outputs=[tensor("y", "FP32", -1, 5000, 5000)]), "'y' has more than"),
        (of_tensors(inputs=[tensor("x", "FP32", 1), tensor("x", "FP32", 1)]), "unique names"),
    ],
)
def test_rules_of_tensors_are_checked(manifest: Manifest, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_manifest(manifest, frozenset({"model.onnx", "tokenizer.json"}))
