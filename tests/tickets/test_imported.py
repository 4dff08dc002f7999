"""Models of one's own: a TOML file beside an ONNX model becomes a ticket, or is told what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto

from tests import models
from tests.tiny import LABELS, SPECIALS, WORDS, tiny_onnx, tiny_tokenizer
from tickets.bundle import Bundle, BundleError, parse
from tickets.evidence import read_evidence
from tickets.import_error import ImportedError
from tickets.imported import pack_model
from tickets.pack_command import pack
from tickets.reference import Reference, read_samples
from tickets.tensor_reference import TensorReference, reproduce
from tickets.tensor_samples import read_cases

TENSORS = 'name = "own"\ndomain = "numbers"\nlicence = "MIT"\nquality = 0.8\n'
TEXTS = (
    'name = "own"\ndomain = "home"\nlicence = "MIT"\nquality = 0.9\ntokenizer = "tokenizer.json"\n'
    'labels = ["weather", "music", "lights"]\nout_of_scope = "class"\nthreshold = 0.5\nsamples = ["rain sun", "tax"]\n'
)


def write(folder: Path, toml: str, graph: bytes, **files: str) -> Path:
    (folder / "own.toml").write_text(toml)
    (folder / "own.onnx").write_bytes(graph)
    (folder / "tokenizer.json").write_bytes(tiny_tokenizer())
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder / "own.toml"


def made(folder: Path, toml: str, graph: bytes, **files: str) -> Bundle:
    return parse(pack_model(write(folder, toml, graph, **files)))


def test_a_model_of_tensors_needs_four_lines(tmp_path: Path) -> None:
    """Everything else is read from the graph, and the answers are recorded."""
    bundle = made(tmp_path, TENSORS, models.mlp())
    manifest = bundle.manifest
    assert (manifest.task, manifest.verdict, manifest.evidence.quality) == ("tensors", "imported", 0.8)
    assert [(t.name, t.datatype, t.shape) for t in manifest.inputs] == [
        ("ages", "FP32", [-1, 1]), ("incomes", "FP32", [-1, 2]),
    ]  # fmt: skip
    assert [(t.name, t.datatype, t.shape) for t in manifest.outputs] == [
        ("class", "INT64", [-1]), ("scores", "FP32", [-1, 2]),
    ]  # fmt: skip
    assert reproduce(bundle) == 2


def test_the_same_files_give_the_same_ticket(tmp_path: Path) -> None:
    assert made(tmp_path, TENSORS, models.mlp()).id == made(tmp_path, TENSORS, models.mlp()).id


def test_given_samples_are_recorded_with_the_models_answers(tmp_path: Path) -> None:
    toml = TENSORS + "[[samples]]\nages = [[3.0], [0.0]]\nincomes = [[0.5, 0.5], [1.0, 1.0]]\n"
    (case,) = read_cases(made(tmp_path, toml, models.mlp()))
    assert case.inputs["ages"].tolist() == [[3], [0]]
    assert case.outputs["scores"].tolist() == [[2, 1], [0, 2]]
    assert case.outputs["class"].tolist() == [0, 1]


def test_made_up_values_stay_in_their_ranges_and_shapes(tmp_path: Path) -> None:
    toml = TENSORS + "[ranges]\nx = [5, 9]\n[shapes]\nx = [3, 12]\n"
    for case in read_cases(made(tmp_path, toml, models.lengths())):
        assert case.inputs["x"].shape == (3, 12)
        assert 5 <= case.inputs["x"].min() <= case.inputs["x"].max() <= 9


@pytest.mark.parametrize("element", [TensorProto.INT8, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_values_of_other_types_are_made_up_too(tmp_path: Path, element: int) -> None:
    assert reproduce(made(tmp_path, TENSORS, models.identity(element))) == 2


def test_texts_of_a_model_of_tensors_are_given(tmp_path: Path) -> None:
    toml = TENSORS + '[[samples]]\nword = ["two", "drei ü"]\n'
    (case,) = read_cases(made(tmp_path, toml, models.words()))
    assert case.outputs["number"].tolist() == [2, 3]


@pytest.mark.parametrize("element", [TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize(("mask", "types"), [(True, True), (True, False), (False, False)])
def test_an_exported_encoder_answers_as_our_own_graph_does(
    tmp_path: Path, element: int, mask: bool, types: bool
) -> None:
    """Padding is masked, types are zero, whatever the graph takes and calls its output."""
    graph = models.exported(element, mask=mask, types=types, output="output_0")
    bundle = made(tmp_path, TEXTS, graph)
    own = made(tmp_path, TEXTS, tiny_onnx())
    texts = ["rain", "song song band tax", "the lamp", ""]
    np.testing.assert_allclose(Reference(bundle).logits(texts), Reference(own).logits(texts), atol=1e-5)
    samples = read_samples(bundle)
    assert (samples.texts, samples.labels) == (["rain sun", "tax"], ["weather", None])
    assert reproduce(bundle) == 2


def test_the_tokenizer_says_its_vocabulary_and_padding(tmp_path: Path) -> None:
    spec = made(tmp_path, TEXTS, tiny_onnx()).manifest.tokenizer
    assert spec is not None
    assert (spec.vocabulary, spec.pad_id, spec.max_tokens) == (len(SPECIALS) + len(WORDS), 0, 128)


EVIDENCE = {
    "csv": "text,label\nrain,weather\nsong,music\nlamp,music\ntax law,oos\n",
    "tsv": "label\ttext\nweather\train\nmusic\tsong\nmusic\tlamp\n\ttax law\n",
    "jsonl": "".join(
        json.dumps({"text": text, "label": label}) + "\n"
        for text, label in [("rain", "weather"), ("song", "music"), ("lamp", "music"), ("tax law", None)]
    ),
    "json": json.dumps({"texts": ["rain", "song", "lamp", "tax law"], "labels": ["weather", "music", "music", None]}),
}


@pytest.mark.parametrize("kind", EVIDENCE)
def test_evidence_travels_and_is_measured_where_no_quality_is_claimed(tmp_path: Path, kind: str) -> None:
    """Two of three in-scope texts are right, and the one out of scope is seen."""
    toml = TEXTS.replace("quality = 0.9\n", f'evidence = "test.{kind}"\n').replace('samples = ["rain sun", "tax"]', "")
    bundle = made(tmp_path, toml, tiny_onnx(), **{f"test_{kind}": EVIDENCE[kind]})
    evidence = read_evidence(bundle)
    assert evidence is not None
    assert evidence.labels == ["weather", "music", "music", None]
    assert bundle.manifest.evidence.quality == pytest.approx(2 / 3, abs=1e-4)
    assert bundle.manifest.evidence.report["out_of_scope_recall"] == 1.0
    assert read_samples(bundle).texts == ["rain", "song", "lamp", "tax law"]


def test_labels_may_be_a_file_of_lines(tmp_path: Path) -> None:
    toml = TEXTS.replace('["weather", "music", "lights"]', '"labels.txt"')
    assert made(tmp_path, toml, tiny_onnx(), labels_txt="weather\nmusic\n\nlights\n").manifest.labels == LABELS


def without(toml: str, field: str) -> str:
    return "".join(line for line in toml.splitlines(keepends=True) if not line.startswith(f"{field} ="))


@pytest.mark.parametrize(
    ("toml", "graph", "field"),
    [
        ("name = [", models.mlp(), "own.toml"),
        (without(TENSORS, "name"), models.mlp(), "own.toml"),
        (TENSORS + "nmae = 1\n", models.mlp(), "own.toml"),
        (TENSORS.replace('"own"', '"Own!"'), models.mlp(), "name"),
        (without(TENSORS, "quality"), models.mlp(), "quality"),
        (TENSORS.replace("0.8", "80"), models.mlp(), "quality"),
        (TENSORS + 'model = "other.onnx"\n', models.mlp(), "model"),
        (TENSORS, b"not a model", "model"),
        (TENSORS, models.mlp()[:-20], "model"),
        (TENSORS + "temperature = 2.0\n", models.mlp(), "temperature"),
        (TENSORS + 'labels = ["a", "b"]\n', models.mlp(), "labels"),
        (TENSORS + 'evidence = "test.csv"\n', models.mlp(), "evidence"),
        (TENSORS + "ranges = {age = [0, 1]}\n", models.mlp(), "ranges.age"),
        (TENSORS + "ranges = {ages = [2, 1]}\n", models.mlp(), "ranges.ages"),
        (TENSORS + "ranges = {ages = [1]}\n", models.mlp(), "ranges[...]"),
        (TENSORS + "ranges = {x = [0, 300]}\n", models.identity(TensorProto.UINT8), "ranges.x"),
        (TENSORS + "shapes = {ages = [1, 2]}\n", models.mlp(), "shapes.ages"),
        (TENSORS + "[[samples]]\nages = [[1.0]]\n", models.mlp(), "samples[0]"),
        (TENSORS + "[[samples]]\nages = [[1.0], []]\nincomes = [[1.0, 2.0]]\n", models.mlp(), "samples[0].ages"),
        (TENSORS + '[[samples]]\nages = [["x"]]\nincomes = [[1.0, 2.0]]\n', models.mlp(), "samples[0].ages"),
        (TENSORS + 'samples = ["a"]\n', models.mlp(), "samples[0]"),
        (TENSORS + "shapes = {x = [1000, 2000]}\n", models.lengths(), "samples"),
        (TENSORS, models.words(), "samples"),
        (without(TEXTS, "labels"), tiny_onnx(), "labels"),
        (TEXTS.replace('["weather", "music", "lights"]', '["weather", "music"]'), tiny_onnx(), "model"),
        (TEXTS.replace('["weather", "music", "lights"]', '"none.txt"'), tiny_onnx(), "labels"),
        (TEXTS.replace("tokenizer.json", "own.onnx"), tiny_onnx(), "tokenizer"),
        (TEXTS + "ranges = {x = [0, 1]}\n", tiny_onnx(), "ranges"),
        (TEXTS, models.mlp(), "model"),
        (TEXTS + "pad_id = 99\n", tiny_onnx(), "manifest"),
        (without(TEXTS, "samples"), tiny_onnx(), "samples"),
        (without(TEXTS, "samples") + "samples = [1]\n", tiny_onnx(), "samples"),
        (TEXTS + 'evidence = "own.toml"\n', tiny_onnx(), "evidence"),
        (TEXTS + 'evidence = "none.csv"\n', tiny_onnx(), "evidence"),
        (TEXTS + 'evidence = "bad.csv"\n', tiny_onnx(), "evidence"),
        (TEXTS + 'evidence = "other.csv"\n', tiny_onnx(), "evidence"),
        (TEXTS + 'task = "tensors"\n', tiny_onnx(), "labels"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_of_the_field(tmp_path: Path, toml: str, graph: bytes, field: str) -> None:
    path = write(tmp_path, toml, graph, bad_csv="text,label\nrain,snow\n", other_csv="a,b\n1,2\n")
    with pytest.raises(ImportedError) as caught:
        pack_model(path)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_a_model_that_cannot_run_its_samples_is_refused(tmp_path: Path) -> None:
    """The answers of a classifier must be finite."""
    path = write(tmp_path, TENSORS + "shapes = {x = [1, 8]}\n", models.mixer())
    with pytest.raises(ImportedError, match=r"shapes\.x"):
        pack_model(path)
    with pytest.raises(BundleError, match="invalid dimensions"):
        TensorReference(made(tmp_path, TENSORS, models.mixer())).run({"x": np.ones((1, 3), np.float32)})


def test_pack_writes_the_ticket_beside_its_toml(tmp_path: Path) -> None:
    path = write(tmp_path, TENSORS, models.mlp())
    result = CliRunner().invoke(pack, [str(path)])
    assert result.exit_code == 0, result.output
    bundle = parse((tmp_path / "own.ticket").read_bytes())
    assert result.output.split("\t")[1].strip() == bundle.id


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--manifest", "m.json"], "--manifest"), (["--member", "tokenizer.json"], "--member"), ([], "quality")],
)
def test_pack_refuses_what_it_cannot_use_in_words(tmp_path: Path, arguments: list[str], says: str) -> None:
    path = write(tmp_path, without(TENSORS, "quality"), models.mlp())
    result = CliRunner().invoke(pack, [str(path), *arguments])
    assert result.exit_code == 2
    assert says in result.output
    assert not list(tmp_path.glob("*.ticket"))


def packed_by_hand(tmp_path: Path, *more: str) -> Any:
    from tests.tiny import tiny_manifest

    (tmp_path / "graph.onnx").write_bytes(tiny_onnx())
    (tmp_path / "tokenizer.json").write_bytes(tiny_tokenizer())
    import msgspec

    (tmp_path / "m.json").write_bytes(msgspec.json.encode(tiny_manifest()))
    return CliRunner().invoke(pack, [str(tmp_path / "graph.onnx"), *more])


def test_pack_still_takes_a_manifest_of_ones_own(tmp_path: Path) -> None:
    out = str(tmp_path / "o.ticket")
    arguments = ["--manifest", str(tmp_path / "m.json"), "--member", str(tmp_path / "tokenizer.json"), "-o", out]
    assert packed_by_hand(tmp_path, *arguments).exit_code == 0
    assert parse(Path(out).read_bytes()).manifest.name == "tiny-fast"
    assert "--manifest" in packed_by_hand(tmp_path).output
