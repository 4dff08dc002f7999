"""The short form: what it accepts, and how a ticket's outputs become results."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import classify
from server.errors import BadRequest, InferenceFailed
from server.tensor import decode_bytes, from_array
from tests.server.fake_worker import tiny_outputs
from tests.tiny import LABELS


def request(**changes: Any) -> bytes:
    return json.dumps({"domain": "home", "text": "song"} | changes).encode()


def test_one_text_and_a_list_of_one_are_the_same_input() -> None:
    one, many = classify.parse(request()), classify.parse(request(text=["song"]))
    assert classify.inputs(one) == classify.inputs(many)
    assert decode_bytes(classify.inputs(one)[0].data, 1) == [b"song"]


def test_probabilities_are_asked_for_only_when_top_k_needs_them() -> None:
    assert "probabilities" not in classify.outputs(classify.parse(request()))
    assert "probabilities" in classify.outputs(classify.parse(request(top_k=2)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"domain": 5}, r"\$\.domain"),
        ({"domain": ""}, r"\$\.domain"),
        ({"domain": "x" * 65}, r"\$\.domain"),
        ({"text": None}, r"\$\.text"),
        ({"text": 5}, r"\$\.text"),
        ({"text": ["a", 5]}, r"\$\.text\[1\]"),
        ({"tier": 5}, r"\$\.tier"),
        ({"deadline_ms": "5"}, r"\$\.deadline_ms"),
        ({"deadline_ms": True}, r"\$\.deadline_ms"),
        ({"deadline_ms": -0.1}, r"\$\.deadline_ms"),
        ({"priority": 0}, r"\$\.priority"),
        ({"priority": 4}, r"\$\.priority"),
        ({"priority": "high"}, r"\$\.priority"),
        ({"top_k": 0}, r"\$\.top_k"),
        ({"top_k": 1.5}, r"\$\.top_k"),
        ({"teir": "fast"}, "teir"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        classify.parse(request(**changes))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b'"x"', b"{}", b'{"domain": "home"}', b"\xff\xfe", b"[" * 100_000,
        b'{"domain": "home", "text": "\\ud800"}', b'{"domain": "home", "text": "\xed\xa0\x80"}',
        b'{"domain": "home", "text": "a", "deadline_ms": NaN}',
        b'{"domain": "home", "text": "a", "deadline_ms": 1e999}',
        b'{"domain": "home", "text": "a"} x',
    ],
)  # fmt: skip
def test_a_body_that_is_not_such_a_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        classify.parse(body)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"text\[0\] is empty"),
        (" \t\n\u2003", r"text\[0\] is empty"),
        (["ok", ""], r"text\[1\] is empty"),
        ([], "has 0 texts"),
        (["a"] * 129, "129 texts"),
        ("a\0b", "NUL"),
        ("a" * 16385, "limit is 16384"),
        ("é" * 8193, "limit is 16384"),
    ],
)
def test_a_text_that_is_not_acceptable_is_refused(text: Any, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        classify.inputs(classify.parse(request(text=text)))


@pytest.mark.parametrize("text", ["a" * 16384, "é" * 8192, ["a"] * 128, "\u200b", "🙂"])
def test_a_text_at_the_limit_is_accepted(text: Any) -> None:
    assert classify.inputs(classify.parse(request(text=text)))


def test_results_name_the_best_label_even_where_the_text_is_out_of_scope() -> None:
    weather, tax = classify.results(tiny_outputs(["rain sun", "tax law"]), LABELS, None)
    assert (weather.label, weather.in_scope, weather.top) == ("weather", True, None)
    assert tax.in_scope is False
    assert tax.label in LABELS


def test_results_name_their_tickets_only_where_a_cascade_asked_two() -> None:
    (alone,) = classify.results(tiny_outputs(["rain"]), LABELS, None)
    first, second = classify.results(tiny_outputs(["rain", "song"]), LABELS, None, ["t1", "t2"])
    assert (alone.ticket, first.ticket, second.ticket) == (None, "t1", "t2")
    assert b"ticket" not in msgspec.json.encode(alone)


def test_top_lists_labels_best_first_and_no_more_than_there_are() -> None:
    (result,) = classify.results(tiny_outputs(["song song lamp"]), LABELS, 99)
    assert result.top is not None
    assert [entry.label for entry in result.top] == ["music", "lights", "weather"]
    assert result.top[0].probability == pytest.approx(result.probability)


def test_outputs_that_do_not_fit_the_task_are_a_failed_inference() -> None:
    outputs = tiny_outputs(["song"])
    for broken in (outputs[1:], [outputs[0], from_array("probability", "FP32", np.ones(2)), *outputs[2:]]):
        with pytest.raises(InferenceFailed):
            classify.results(broken, LABELS, None)
    with pytest.raises(InferenceFailed):
        classify.results(outputs, LABELS[:2], 1)


@given(st.text(max_size=40))
def test_any_text_is_either_refused_or_carried_exactly(text: str) -> None:
    try:
        parsed = classify.parse(json.dumps({"domain": "home", "text": text}).encode())
        tensor = classify.inputs(parsed)[0]
    except BadRequest:
        assert not text.strip() or "\0" in text or any(0xD800 <= ord(c) < 0xE000 for c in text)
        return
    assert decode_bytes(tensor.data, 1)[0].decode() == text
