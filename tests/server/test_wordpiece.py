"""Word pieces: token for token what the `tokenizers` library says, in a fraction of its memory."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server import wordpiece
from server.memory import heap_bytes, is_exact
from server.sharing import Parts, Shared
from server.wordpiece import Encode, WordPieces, open_tokenizer
from tests.tiny import tiny_tokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*"abcdefgh.-'[]#é中", *(f"##{c}" for c in "abcdefgé"), "abc", "##bcd", "##cde", "the", "##the", "abcdefg"]
MAX_TOKENS = 16


def document(pieces: list[str] = PIECES, **changes: Any) -> bytes:
    vocabulary = {piece: i for i, piece in enumerate([*SPECIALS, *pieces])}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    parts = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": content} | added for i, content in enumerate(SPECIALS)],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "strip_accents": None, "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": None,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 30, "vocab": vocabulary,
        },
    }  # fmt: skip
    return json.dumps(parts | changes).encode()


def library(data: bytes, max_tokens: int = MAX_TOKENS) -> Encode:
    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.enable_truncation(max_tokens)
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def ours(data: bytes, max_tokens: int = MAX_TOKENS, parts: Parts | None = None) -> Encode:
    encode = open_tokenizer(data, max_tokens, parts or Parts())
    assert isinstance(getattr(encode, "__self__", None), WordPieces)
    return encode


OURS, LIBRARY = ours(document()), library(document())
words = st.text(st.sampled_from("abcdefghxz"), max_size=40)
odd = st.sampled_from(
    [*SPECIALS, *PIECES, "[cls]", "É", "e\u0301", "中文", "\u200b", "\0", "\t", "\xa0", "🎵", "[", "##"]
)
texts = st.lists(st.one_of(words, odd, st.text(max_size=8)), max_size=12).flatmap(
    lambda pieces: st.sampled_from(["", " "]).map(lambda gap: gap.join(pieces))
)


@settings(max_examples=500)
@given(texts)
def test_it_says_what_the_library_says(text: str) -> None:
    assert OURS([text]) == LIBRARY([text])


@pytest.mark.parametrize("max_tokens", [2, 3, 5, 64])
def test_it_cuts_where_the_library_cuts(max_tokens: int) -> None:
    lines = ["", "a", "a b c d e f", "abcdefgabcdefg abc", "[MASK][MASK][MASK]", "the abcx the"]
    assert ours(document(), max_tokens)(lines) == library(document(), max_tokens)(lines)


def test_words_of_the_starter_family_are_cut_as_the_library_cuts_them() -> None:
    from pathlib import Path

    from loadtest.sentences import BANKING
    from tickets.bundle import read

    data = bytes(read(Path("tickets/starter/banking-fast.ticket")).members["tokenizer.json"])
    vocabulary = list(json.loads(data)["model"]["vocab"])
    rng = random.Random(0)
    mixed = ["".join(rng.choice([" ", "", "-"]) + rng.choice(vocabulary) for _ in range(12)) for _ in range(500)]
    lines = [*BANKING, *mixed]
    assert ours(data, 64)(lines) == library(data, 64)(lines)


def test_vocabularies_that_share_numbers_do_not_see_each_others_pieces() -> None:
    """The second vocabulary knows no "the", and the first none of the second's, whose numbers lie beyond its own."""
    parts = Parts()
    small = document([piece for piece in PIECES if "the" not in piece] + ["zebra", "##bra"])
    first, second = ours(document(), parts=parts), ours(small, parts=parts)
    lines = ["the abcthe zebra", "abra", "athe"]
    assert first(lines) == library(document())(lines)
    assert second(lines) == library(small)(lines)


def test_another_numbering_begins_when_one_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordpiece, "MAX_NUMBERS", 10)
    parts = Parts()
    encoders = [ours(document([*PIECES, f"zz{i}"]), parts=parts) for i in range(3)]
    assert sum("numbers" in key for key in parts.taken) == 3
    for i, encode in enumerate(encoders):
        assert encode([f"zz{i} abc"]) == library(document([*PIECES, f"zz{i}"]))([f"zz{i} abc"])


def _with_model(**changes: Any) -> bytes:
    return document(model=json.loads(document())["model"] | changes)


@pytest.mark.parametrize(
    "data",
    [
        tiny_tokenizer(),
        document(pre_tokenizer={"type": "WhitespaceSplit"}),
        _with_model(continuing_subword_prefix="@@"),
        _with_model(max_input_chars_per_word=5),
        document(added_tokens=[{"id": 5, "content": "a", "single_word": False, "lstrip": True, "rstrip": False,
                                "normalized": False, "special": False}]),
    ],
)  # fmt: skip
def test_a_tokenizer_of_another_kind_is_the_librarys(data: bytes) -> None:
    encode = open_tokenizer(data, MAX_TOKENS, Parts())
    assert not isinstance(getattr(encode, "__self__", None), WordPieces)
    lines = ["rain song", "a the abc", ""]
    assert encode(lines) == library(data)(lines)


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", document()[:-9], document(model={"type": "WordPiece"})])
def test_a_bad_tokenizer_is_refused(data: bytes) -> None:
    with pytest.raises(Exception, match=r"."):
        open_tokenizer(data, MAX_TOKENS, Parts())


@pytest.mark.skipif(not is_exact(), reason="this C library does not count what is allocated")
def test_many_vocabularies_of_one_backbone_take_little_each() -> None:
    pieces = [f"{'##' * (i % 2)}{i:x}" for i in range(20_000)]
    rng = random.Random(0)
    some = [document(rng.sample(pieces, 6000)) for _ in range(12)]
    shared = Shared()
    held = [Parts(shared) for _ in some]
    encoders = [open_tokenizer(data, 64, parts) for data, parts in zip(some[:2], held[:2], strict=True)]
    before = heap_bytes()
    encoders += [open_tokenizer(data, 64, parts) for data, parts in zip(some[2:], held[2:], strict=True)]
    assert (heap_bytes() - before) / 10 < 200_000  # the library's take 930,000
    assert len(encoders) == 12
