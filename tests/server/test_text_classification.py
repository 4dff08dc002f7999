"""The text-classification task: numbers known by hand, bad input refused by name, neighbours without influence."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from routing.cost import Cost
from server.errors import BadRequest
from server.runtime import open_graph
from server.task import CONFIDENCE, joined, tensors
from server.tensor import Tensor, decode_bytes, from_texts, to_array
from server.text_classification import (
    CHARACTERS_PER_TOKEN,
    MAX_TEXT_BYTES,
    TextClassification,
    cut_by_length,
    open_text,
)
from tests.models import exported, mixer, mlp, words
from tests.tiny import LABELS, VOTE, WORDS, tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.bundle import Bundle, pack, parse
from tickets.manifest import Calibration, Manifest

GOOD = from_texts("text", ["rain"])
NAMES = ["label", "probability", "in_scope", "in_scope_score", "probabilities"]


def bundle(manifest: Manifest | None = None) -> Bundle:
    members = {"model.onnx": tiny_onnx(), "tokenizer.json": tiny_tokenizer()}
    return parse(pack(manifest or tiny_manifest(), members))


def task(manifest: Manifest | None = None) -> TextClassification:
    opened = bundle(manifest)
    return open_text(opened, open_graph(bytes(opened.members["model.onnx"]), ["CPUExecutionProvider"]))


def calibrated(**calibration: Any) -> Manifest:
    return msgspec.structs.replace(tiny_manifest(), calibration=Calibration(**calibration))


def three_logits(**calibration: Any) -> TextClassification:
    """A ticket without an out-of-scope class, on the tiny graph without its fourth logit."""
    opened = bundle(calibrated(**calibration))
    graph = open_graph(bytes(opened.members["model.onnx"]), ["CPUExecutionProvider"])
    return TextClassification(opened, lambda ids: graph.run(["logits"], {"input_ids": ids})[0][:, :3])


def classify(made: TextClassification, *texts: str) -> dict[str, Any]:
    work = made.parse([from_texts("text", texts)], [])
    out = tensors(made.run(work.rows), work.outputs, 0, len(texts))
    return {t.name: decode_bytes(t.data, t.shape[0]) if t.datatype == "BYTES" else to_array(t) for t in out}


def softmax(*logits: float) -> list[float]:
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    return [power / sum(powers) for power in powers]


def test_a_known_text_gets_its_label_and_the_probabilities_of_its_logits() -> None:
    """'rain song' is [CLS] rain song [SEP]: one vote of 16 / 4 tokens for weather and for music."""
    out = classify(task(), "rain song song")
    expected = softmax(VOTE / 5, 2 * VOTE / 5, 0.0, 0.0)
    assert out["label"] == [b"music"]
    np.testing.assert_allclose(out["probabilities"], [expected[:3]], rtol=1e-5)
    np.testing.assert_allclose(out["probability"], [expected[1]], rtol=1e-5)
    np.testing.assert_allclose(out["in_scope_score"], [1 - expected[3]], rtol=1e-5)
    assert out["in_scope"].tolist() == [True]


def test_an_out_of_scope_text_still_names_its_best_in_scope_label() -> None:
    out = classify(task(), "tax law law rain")
    assert out["label"] == [b"weather"]
    assert out["in_scope"].tolist() == [False]
    assert float(np.sum(out["probabilities"])) < 0.5


def test_temperature_divides_the_logits() -> None:
    out = classify(task(calibrated(temperature=4.0, out_of_scope="class", threshold=0.5)), "rain")
    np.testing.assert_allclose(out["probabilities"], [softmax(VOTE / 3 / 4, 0, 0, 0)[:3]], rtol=1e-5)


@pytest.mark.parametrize(
    ("calibration", "score", "in_scope"),
    [
        ({"out_of_scope": "none", "threshold": 0.9}, 1.0, True),
        ({"out_of_scope": "max_probability", "threshold": 0.999}, softmax(VOTE / 3, 0, 0)[0], False),
        ({"out_of_scope": "max_probability", "threshold": 0.5}, softmax(VOTE / 3, 0, 0)[0], True),
    ],
)
def test_the_in_scope_score_is_the_one_the_calibration_names(
    calibration: dict[str, Any], score: float, in_scope: bool
) -> None:
    out = classify(three_logits(**calibration), "rain")
    np.testing.assert_allclose(out["in_scope_score"], [score], rtol=1e-5)
    assert out["in_scope"].tolist() == [in_scope]
    assert float(np.sum(out["probabilities"])) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("made", "text", "expected"),
    [
        (task(), "rain song song", max(softmax(VOTE / 5, 2 * VOTE / 5, 0.0, 0.0))),
        (task(), "tax law law rain", softmax(VOTE / 6, 0.0, 0.0, 3 * VOTE / 6)[3]),
        (three_logits(out_of_scope="none"), "rain", softmax(VOTE / 3, 0.0, 0.0)[0]),
    ],
)
def test_confidence_is_the_largest_probability_that_of_out_of_scope_included(
    made: TextClassification, text: str, expected: float
) -> None:
    """A text that is surely out of scope needs no second opinion."""
    confidence = tensors(made.run([text, "song"]), [CONFIDENCE], 0, 1)[0]
    assert (confidence.datatype, confidence.shape) == ("FP32", [1])
    np.testing.assert_allclose(to_array(confidence), [expected], rtol=1e-5)


def test_confidence_is_not_an_output_that_callers_can_name() -> None:
    made = task()
    assert CONFIDENCE not in made.parse([GOOD], []).outputs
    with pytest.raises(BadRequest):
        made.parse([GOOD], [CONFIDENCE])


def test_a_cost_in_bytes_predicts_what_the_cost_in_tokens_does() -> None:
    made, cost = task(), Cost(0.1, 0.02, 0.004, 0.3)
    in_bytes = made.cost_in_bytes(cost)
    for size in (5, 40, 300, 5000, MAX_TEXT_BYTES):
        work = made.parse([from_texts("text", ["x" * size] * 8)], [])
        assert in_bytes.of(8, size) == pytest.approx(cost.of(8, work.longest), rel=0.02)
    assert in_bytes.spread == cost.spread


@pytest.mark.parametrize(("rows", "size", "tokens"), [(1, 8, 8), (16, 24, 24), (2, 3, 3), (1, 1, 3), (3, 500, 64)])
def test_sample_rows_have_the_tokens_that_were_asked_for(rows: int, size: int, tokens: int) -> None:
    seen: list[tuple[int, ...]] = []

    def graph(ids: NDArray[np.int32]) -> NDArray[np.float32]:
        seen.append(ids.shape)
        return np.zeros((len(ids), 4), np.float32)

    made = TextClassification(bundle(), graph)
    made.run(made.sample_rows(rows, size))
    assert seen == [(rows, tokens)]


def test_empty_texts_nul_bytes_and_unknown_words_are_classified() -> None:
    out = classify(task(), "", "\x00", "zebra", "\U0001f3b5")
    assert len(out["label"]) == 4


def test_only_the_outputs_asked_for_come_back_in_that_order() -> None:
    made = task()
    work = made.parse([from_texts("text", ["rain"])], ["in_scope", "label"])
    assert [t.name for t in tensors(made.run(work.rows), work.outputs, 0, 1)] == ["in_scope", "label"]


def test_a_text_is_truncated_to_max_tokens() -> None:
    """64 tokens less two specials: what follows the 62nd word has no say."""
    made = task()
    assert classify(made, "rain " * 62 + "song " * 500)["label"] == [b"weather"]
    np.testing.assert_array_equal(
        classify(made, "rain " * 62 + "song " * 500)["probabilities"], classify(made, "rain " * 62)["probabilities"]
    )


def test_a_huge_text_is_cut_before_it_is_tokenized() -> None:
    work = task().parse([from_texts("text", ["é" * (MAX_TEXT_BYTES // 2)])], [])
    assert len(work.rows[0]) == 64 * CHARACTERS_PER_TOKEN
    assert work.longest == 64


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ([], [], "one input, 'text'"),
        ([GOOD, GOOD], [], "one input, 'text'"),
        ([Tensor("texts", "BYTES", [1], GOOD.data)], [], "texts"),
        ([Tensor("text", "FP32", [1], b"\0\0\0\0")], [], "not FP32"),
        ([Tensor("text", "BYTES", [1, 1], GOOD.data)], [], "[1, 1]"),
        ([Tensor("text", "BYTES", [], GOOD.data)], [], "shape [n]"),
        ([Tensor("text", "BYTES", [0], b"")], [], "[0]"),
        ([Tensor("text", "BYTES", [-1], GOOD.data)], [], "[-1]"),
        ([Tensor("text", "BYTES", [1025], GOOD.data)], [], "1024"),
        ([Tensor("text", "BYTES", [2], GOOD.data)], [], "1 of 2"),
        ([Tensor("text", "BYTES", [1], GOOD.data + b"x")], [], "follow the last"),
        ([Tensor("text", "BYTES", [1], b"\xff\xff\xff\xff")], [], "claims 4294967295"),
        ([Tensor("text", "BYTES", [1], b"\2\0\0\0\xc3\x28")], [], "not UTF-8"),
        ([from_texts("text", ["x" * (MAX_TEXT_BYTES + 1)])], [], str(MAX_TEXT_BYTES)),
        ([GOOD], ["labels"], "labels"),
        ([GOOD], ["label", "label"], "at most once"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(inputs: list[Tensor], outputs: list[str], says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        task().parse(inputs, outputs)
    assert says in caught.value.message


@pytest.mark.parametrize("element", [TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize(("mask", "types"), [(True, True), (True, False), (False, False)])
def test_an_exported_graph_answers_as_our_own_does_whatever_it_takes(element: int, mask: bool, types: bool) -> None:
    """Texts of different lengths in one batch: padding is masked, where the graph does not find it itself."""
    graph = exported(element, mask=mask, types=types, output="output_0")
    members = {"model.onnx": graph, "tokenizer.json": tiny_tokenizer()}
    given = parse(pack(tiny_manifest(), members))
    made = open_text(given, open_graph(graph, ["CPUExecutionProvider"]), call_tokens=1000)
    texts = ["rain", "", "song song band tax lamp bulb law", "the lamp"]
    ours, theirs = classify(task(), *texts), classify(made, *texts)
    assert theirs["label"] == ours["label"]
    np.testing.assert_allclose(theirs["probabilities"], ours["probabilities"], atol=1e-5)


@pytest.mark.parametrize("graph", [mlp(), words(), mixer()])
def test_a_graph_that_does_not_take_tokens_is_refused(graph: bytes) -> None:
    with pytest.raises(ValueError, match="must take input_ids"):
        open_text(bundle(), open_graph(graph, ["CPUExecutionProvider"]))


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from([*WORDS, "zebra"]), max_size=40), min_size=1, max_size=24))
def test_an_answer_does_not_depend_on_its_neighbours(texts: list[list[str]]) -> None:
    made = task()
    lines = [" ".join(words) for words in texts]
    together = classify(made, *lines)
    for row, line in enumerate(lines):
        alone = classify(made, line)
        assert together["label"][row] == alone["label"][0]
        np.testing.assert_allclose(together["probabilities"][row], alone["probabilities"][0], atol=1e-5)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=40), st.integers(0, 64))
def test_cutting_by_length_keeps_every_row_once_and_never_costs_more(lengths: list[int], call_tokens: int) -> None:
    groups = cut_by_length(lengths, call_tokens)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    cost = sum(call_tokens + len(group) * max(lengths[row] for row in group) for group in groups)
    assert cost <= call_tokens + len(lengths) * max(lengths)


def test_slices_join_into_what_one_run_would_have_given() -> None:
    made = task()
    work = made.parse([from_texts("text", ["rain", "song", "lamp bulb", "tax", ""])], [])
    whole = made.run(work.rows)
    parts = [tensors(whole, NAMES, 0, 2), tensors(whole, NAMES, 2, 5)]
    assert joined(parts) == tensors(whole, NAMES, 0, 5)


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (lambda ids: np.full((len(ids), 4), np.nan, np.float32), "finite"),
        (lambda ids: np.full((len(ids), 4), np.inf, np.float32), "finite"),
        (lambda ids: np.zeros((len(ids), 3), np.float32), "shape"),
        (lambda _: np.zeros((1, 4), np.float32), "shape"),
    ],
)
def test_a_graph_that_gives_nonsense_is_an_error_not_an_answer(
    graph: Callable[[NDArray[np.int32]], NDArray[np.float32]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        TextClassification(bundle(), graph).run(["rain", "song"])


def test_a_manifest_that_promises_other_outputs_is_refused() -> None:
    manifest = tiny_manifest()
    wrong = [msgspec.structs.replace(t, shape=[-1, 7]) if t.name == "probabilities" else t for t in manifest.outputs]
    with pytest.raises(ValueError, match="probabilities"):
        task(msgspec.structs.replace(manifest, outputs=wrong))


def test_labels_come_from_the_manifest() -> None:
    assert classify(task(), *WORDS)["label"][:6] == [LABELS[vote].encode() for vote in WORDS.values() if vote < 3]
