"""What a tokenizer.json may hold is seen without opening it; published tokenizers pass."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.gate.tokens import KNOWN_PATTERNS, TokenizerError, read_tokenizer
from tests.tiny import tiny_tokenizer
from tickets.bundle import read

STARTER = Path(__file__).parents[3] / "tickets" / "starter"


def changed(**parts: Any) -> bytes:
    return json.dumps(json.loads(tiny_tokenizer()) | parts).encode()


def test_the_tiny_tokenizer_and_the_starters_pass() -> None:
    tiny = read_tokenizer(tiny_tokenizer())
    assert (tiny.model, tiny.pieces, tiny.largest_id) == ("WordLevel", 12, 11)
    starter = read_tokenizer(read(STARTER / "banking-fast.ticket").members["tokenizer.json"])
    assert (starter.model, starter.pieces, starter.largest_id) == ("WordPiece", 6000, 5999)


def test_pieces_of_a_unigram_model_are_numbered_as_they_stand() -> None:
    model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -2.0]]}
    assert read_tokenizer(changed(model=model)).largest_id == 2


def test_added_tokens_count_for_the_largest_id() -> None:
    assert read_tokenizer(changed(added_tokens=[{"id": 77, "content": "[X]"}])).largest_id == 77


@pytest.mark.parametrize("pattern", sorted(KNOWN_PATTERNS))
def test_patterns_of_published_tokenizers_pass(pattern: str) -> None:
    assert read_tokenizer(changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}}))


@pytest.mark.parametrize("place", ["normalizer", "pre_tokenizer", "post_processor"])
def test_other_patterns_are_refused_wherever_they_stand(place: str) -> None:
    deep = {"type": "Sequence", "parts": [{"type": "Split", "pattern": {"Regex": "(x+x+)+y"}}]}
    with pytest.raises(TokenizerError, match="regular expression"):
        read_tokenizer(changed(**{place: deep}))


def replace(found: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": found}, "content": content}


def test_replacements_may_lengthen_a_text_a_little() -> None:
    assert read_tokenizer(changed(normalizer={"type": "Sequence", "normalizers": [replace(" ", "▁")] * 50}))
    assert read_tokenizer(changed(normalizer=replace("``", '"')))
    with pytest.raises(TokenizerError, match="times as long"):
        read_tokenizer(changed(normalizer={"type": "Sequence", "normalizers": [replace("a", "bb")] * 5}))
    with pytest.raises(TokenizerError, match="times as long"):
        read_tokenizer(changed(normalizer=replace("", "x" * 40)))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}, "max_input_chars_per_word": 10**9}}, "max_input_chars"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, "empty"),
        ({"model": {"type": "WordPiece"}}, "no vocabulary"),
        ({"model": {"type": "WordPiece", "vocab": {"a": -1}}}, "no numbers"),
        ({"model": {"type": "WordPiece", "vocab": {"a": True}}}, "no numbers"),
        ({"model": None}, "no model"),
        ({"added_tokens": {"a": 1}}, "added tokens"),
        ({"added_tokens": [{"id": "1"}]}, "no numbers"),
        ({"post_processor": {"type": "TemplateProcessing", "single": [{}] * 100}}, "template"),
        ({"normalizer": {"type": "Prepend", "prepend": "x" * 100}}, "before every other"),
        ({"normalizer": {"type": "Replace", "pattern": {"String": 3}, "content": "x"}}, "text by text"),
    ],
)
def test_what_could_take_a_worker_is_refused(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(TokenizerError, match=words):
        read_tokenizer(changed(**parts))
