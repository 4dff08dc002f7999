"""The reference runner: answers known by hand, and graphs that are not what their manifest says."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.tiny import LABELS, SPECIALS, VOTE, WORDS, tiny_bundle, tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.bundle import Bundle, BundleError, pack, parse
from tickets.manifest import Calibration, Manifest
from tickets.reference import Reference, read_samples, reproduce_samples

replace = msgspec.structs.replace


def bundle(manifest: Manifest | None = None, **members: bytes) -> Bundle:
    """The tiny bundle with some members replaced; the key ``model_onnx`` stands for model.onnx."""
    given = {"model.onnx": tiny_onnx(), "tokenizer.json": tiny_tokenizer()}
    given |= {name.replace("_", "."): data for name, data in members.items()}
    return parse(pack(manifest or tiny_manifest(), given))


def samples(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def code(call: Callable[[], object]) -> str:
    with pytest.raises(BundleError) as caught:
        call()
    return caught.value.code


def test_logits_are_what_the_weights_say() -> None:
    """[CLS] rain [SEP] has three tokens, one of which votes for weather."""
    logits = Reference(parse(tiny_bundle())).logits(["rain", "song tax"])
    assert logits == pytest.approx(np.array([[VOTE / 3, 0, 0, 0], [0, VOTE / 4, 0, VOTE / 4]]), abs=1e-6)


def test_an_answer_has_label_probability_and_scope() -> None:
    answers = Reference(parse(tiny_bundle())).classify(["rain sun", "song", "tax"])
    assert answers.labels[:2] == ["weather", "music"]
    assert answers.in_scope.tolist() == [True, True, False]
    e = np.exp(8.0)
    assert answers.probability[0] == pytest.approx(e / (e + 3), rel=1e-5)
    assert answers.in_scope_score[0] == pytest.approx(1 - 1 / (e + 3), rel=1e-5)
    assert answers.probabilities.shape == (3, len(LABELS))
    assert answers.probabilities[2].sum() < 0.1


@pytest.mark.parametrize(
    ("calibration", "in_scope"),
    [
        (Calibration(out_of_scope="class", threshold=0.5), [True, False]),
        (Calibration(out_of_scope="class", threshold=0.5, temperature=1000.0), [True, True]),
        (Calibration(out_of_scope="class", threshold=1.0), [False, False]),
    ],
)
def test_calibration_decides_what_is_in_scope(calibration: Calibration, in_scope: list[bool]) -> None:
    answers = Reference(bundle(replace(tiny_manifest(), calibration=calibration))).classify(["rain", "tax"])
    assert answers.in_scope.tolist() == in_scope


@pytest.mark.parametrize(
    ("calibration", "scores"),
    [
        (Calibration(out_of_scope="max_probability", threshold=0.5), [0.984, 0.25]),
        (Calibration(out_of_scope="none"), [1.0, 1.0]),
    ],
)
def test_scores_without_an_out_of_scope_class(calibration: Calibration, scores: list[float]) -> None:
    labels = [*LABELS, "finance"]
    tiny = tiny_manifest()
    manifest = replace(tiny, labels=labels, calibration=calibration, outputs=tiny.outputs[:4])
    answers = Reference(bundle(manifest)).classify(["rain", "zzz"])
    assert answers.in_scope_score.tolist() == pytest.approx(scores, abs=2e-3)


def test_no_texts_have_no_answers() -> None:
    assert Reference(parse(tiny_bundle())).classify([]).probabilities.shape == (0, 3)


def test_long_texts_are_cut_and_batches_agree_with_single_texts() -> None:
    reference = Reference(parse(tiny_bundle()))
    texts = ["rain " * i + "song" for i in range(100)]
    assert reference.tokens(["rain " * 500]).shape == (1, 64)
    alone = np.concatenate([reference.logits([text]) for text in texts])
    assert reference.logits(texts) == pytest.approx(alone, abs=1e-5)


def test_recorded_samples_are_reproduced() -> None:
    assert reproduce_samples(Reference(parse(tiny_bundle()))) == 3
    probabilities = Reference(bundle()).classify(["rain"]).probabilities.tolist()
    recorded = samples(texts=["rain"], labels=["weather"], probabilities=probabilities)
    assert reproduce_samples(Reference(bundle(samples_json=recorded))) == 1


@pytest.mark.parametrize(
    "recorded",
    [
        samples(texts=["rain"], labels=["music"]),
        samples(texts=["rain"], labels=[None]),
        samples(texts=["tax"], labels=["weather"]),
        samples(texts=["rain"], labels=["weather"], probabilities=[[0.9, 0.0, 0.0]]),
        samples(texts=["rain"], labels=["weather"], probabilities=[[0.9]]),
        samples(texts=["rain"], labels=["weather"], probabilities=[]),
        samples(texts=["rain"], labels=[]),
        samples(texts=[], labels=[]),
        samples(texts="rain", labels=["weather"]),
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_samples_that_are_wrong_or_not_reproduced_are_refused(recorded: bytes) -> None:
    assert code(lambda: reproduce_samples(Reference(bundle(samples_json=recorded)))) == "bad_samples"


def test_a_bundle_without_samples_says_so() -> None:
    assert code(lambda: read_samples(bundle())) == "bad_samples"


def graph(
    name: str = "input_ids", element: int = TensorProto.INT32, output: str = "logits", width: int | str = 4
) -> bytes:
    """A graph that casts its input to float and calls it logits."""
    node = helper.make_node("Cast", [name], [output], to=TensorProto.FLOAT)
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, element, ["batch", width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def external_data() -> bytes:
    """The tiny graph with its weights said to lie in a file of the host."""
    model = onnx.load_from_string(tiny_onnx())
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../../../../../etc/passwd"), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


def not_finite() -> bytes:
    model = onnx.load_from_string(tiny_onnx())
    shape = (len(SPECIALS) + len(WORDS), 4)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full(shape, np.nan, np.float32), "votes"))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "model",
    [
        b"", b"not a graph", tiny_onnx()[:-20], graph(name="ids"), graph(element=TensorProto.INT64),
        graph(output="scores"), graph(width=5), graph().replace(b"Cast", b"Cost"), external_data(),
    ],
    ids=["empty", "nonsense", "cut", "input name", "input type", "output name", "width", "operator", "external data"],
)  # fmt: skip
def test_a_graph_that_does_not_fit_is_refused_when_opened(model: bytes) -> None:
    assert code(lambda: Reference(bundle(model_onnx=model))) == "bad_graph"


@pytest.mark.parametrize("model", [graph(width="n"), not_finite()], ids=["width", "not finite"])
def test_a_graph_that_answers_nonsense_is_refused_when_run(model: bytes) -> None:
    reference = Reference(bundle(model_onnx=model))
    assert code(lambda: reference.logits(["rain sun song"])) == "bad_graph"


LARGER = tiny_tokenizer().replace(b'"law":11', b'"law":11,"more":12')


@pytest.mark.parametrize("tokenizer", [b"", b"{}", b"\xff", LARGER], ids=["empty", "no model", "not utf-8", "larger"])
def test_a_tokenizer_that_does_not_fit_is_refused(tokenizer: bytes) -> None:
    assert code(lambda: Reference(bundle(tokenizer_json=tokenizer))) == "bad_tokenizer"


def test_another_task_is_refused() -> None:
    assert code(lambda: Reference(bundle(replace(tiny_manifest(), task="embedding")))) == "bad_manifest"
