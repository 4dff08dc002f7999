"""Word pieces: a ticket's own tokenizer, in the memory that a thousand of them may take.

Owns the step from words to ids: greedy longest match first (Devlin et al. 2019; as `tokenizers` does
it, tested text for text). What comes before, cleaning and cutting text into words, stays with the
`tokenizers` library, whose WordPiece model takes 160 bytes a piece and 2.3 ms under the interpreter's
lock to build. Here all tickets number their pieces in common, and a ticket's vocabulary is an array of
two bytes a number: 6,000 pieces take 20 to 60 kB instead of 930, and encoding is no slower. Tokenizers
of other kinds are left to the library whole.
"""

import itertools
import re
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from tokenizers import Tokenizer

from server.sharing import Parts

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Texts to the ids of each, cut to the ticket's number of tokens, not padded."""

MAX_NUMBERS = 1 << 18
"""So many pieces are numbered in common; then another numbering begins, and the first goes with its tickets."""
_ABSENT = 0xFFFF


class _Added(msgspec.Struct, frozen=True):
    id: int
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True


class _Model(msgspec.Struct, frozen=True):
    type: Literal["WordPiece"]
    vocab: dict[str, int]
    unk_token: str
    continuing_subword_prefix: Literal["##"]
    max_input_chars_per_word: int


class _PreTokenizer(msgspec.Struct, frozen=True):
    type: Literal["BertPreTokenizer", "Whitespace"]


class _PostProcessor(msgspec.Struct, frozen=True):
    type: Literal["BertProcessing"]
    cls: tuple[str, int]
    sep: tuple[str, int]


class _Document(msgspec.Struct, frozen=True):
    """As much of a tokenizer.json as must be so for this module to do the same."""

    model: _Model
    pre_tokenizer: _PreTokenizer
    post_processor: _PostProcessor
    added_tokens: list[_Added] = []
    normalizer: dict[str, Any] | None = None


class Numbers:
    """The pieces of all vocabularies, numbered as they come: some 3 MB for the 30,000 of a usual backbone."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def table(self, vocabulary: dict[str, int]) -> "array[int]":
        """Ids by number, `_ABSENT` where a number is not of this vocabulary, as the last one is."""
        of = self.of
        if not of.keys() >= vocabulary.keys():
            for piece in vocabulary:
                of.setdefault(piece, len(of))
        numbers = np.fromiter(map(of.__getitem__, vocabulary), np.intp, len(vocabulary))
        ids = np.full(int(numbers.max()) + 2, _ABSENT, np.uint16)
        ids[numbers] = np.fromiter(vocabulary.values(), np.uint16, len(vocabulary))
        return array("H", ids.tobytes())


class WordPieces:
    """One vocabulary. Cleaning and cutting into words are the library's, as ``words`` has them."""

    def __init__(self, document: _Document, words: Tokenizer, max_tokens: int, numbers: Numbers) -> None:
        model = document.model
        self._clean = words.normalizer.normalize_str if words.normalizer is not None else str
        self._cut = words.pre_tokenizer.pre_tokenize_str
        self._numbers = numbers.of
        self._ids = numbers.table(model.vocab)
        self._unknown = model.vocab[model.unk_token]
        self._longest_word = model.max_input_chars_per_word
        self._longest_piece = max(map(len, model.vocab))
        self._first, self._last = document.post_processor.cls[1], document.post_processor.sep[1]
        self._added = {added.content: added.id for added in document.added_tokens}
        beginnings = {content[0] for content in self._added}
        self._added_begin = beginnings.pop() if len(beginnings) == 1 else ""  # such as "[": most texts have none
        longest_first = sorted(self._added, key=len, reverse=True)
        self._find_added = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if self._added else None
        self._room = max(1, max_tokens - 1)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, its first and last token included."""
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> list[int]:
        ids = [self._first]
        if self._added_begin not in text or self._find_added is None:
            self._append_words(text, ids)
        else:
            for turn, piece in enumerate(self._find_added.split(text)):
                if turn % 2:
                    ids.append(self._added[piece])
                else:
                    self._append_words(piece, ids)
        del ids[self._room :]
        ids.append(self._last)
        return ids

    def _append_words(self, text: str, ids: list[int]) -> None:
        number_of, id_of, append = self._numbers.get, self._ids, ids.append
        for word, _ in self._cut(self._clean(text))[: self._room]:
            try:
                id_ = id_of[number_of(word, -1)]
            except IndexError:
                id_ = _ABSENT
            if id_ != _ABSENT:
                append(id_)
            else:
                ids += self._pieces(word)
                if len(ids) >= self._room:
                    return

    def _pieces(self, word: str) -> list[int]:
        """A word that is not a piece itself, from its longest beginning onwards; else the unknown token."""
        length = len(word)
        if length > self._longest_word:
            return [self._unknown]
        number_of, id_of = self._numbers.get, self._ids
        numbers_end = len(id_of) - 1
        ids: list[int] = []
        start = 0
        while start < length:
            for stop in range(min(length, start + self._longest_piece), start, -1):
                number = number_of(word[start:stop] if start == 0 else f"##{word[start:stop]}", numbers_end)
                if number < numbers_end and id_of[number] != _ABSENT:
                    ids.append(id_of[number])
                    start = stop
                    break
            else:
                return [self._unknown]
        return ids


def open_tokenizer(data: bytes, max_tokens: int, parts: Parts) -> Encode:
    """The ``encode`` of a tokenizer.json, cut to ``max_tokens``. Raises what the library raises on a bad one."""
    try:
        document = msgspec.json.decode(data, type=_Document)
    except msgspec.DecodeError:
        return _whole(data, max_tokens)
    if not _is_plain(document):
        return _whole(data, max_tokens)
    frame = _frame(data, document.model)
    words = parts.take("words", frame, lambda: Tokenizer.from_buffer(frame))
    return WordPieces(document, words, max_tokens, _numbers(parts)).encode


def _is_plain(document: _Document) -> bool:
    model = document.model
    if any(a.single_word or a.lstrip or a.rstrip or a.normalized or not a.content for a in document.added_tokens):
        return False
    ids = model.vocab.values()
    if model.unk_token not in model.vocab or min(ids) < 0 or max(ids) >= _ABSENT:
        return False
    return max(map(len, model.vocab)) <= model.max_input_chars_per_word


def _numbers(parts: Parts) -> Numbers:
    for generation in itertools.count():
        kind = f"numbers:{generation}"
        there: Numbers | None = parts.peek(kind)
        if there is None or len(there.of) < MAX_NUMBERS:
            return parts.take(kind, b"", Numbers)
    raise AssertionError("generations do not end")


def _whole(data: bytes, max_tokens: int) -> Encode:
    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    # The fast form leaves out the offsets, which nobody here reads; it is missing from older releases.
    batch: Callable[[Sequence[str]], list[Any]] = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    return lambda texts: [encoding.ids for encoding in batch(texts)]


def _frame(data: bytes, model: _Model) -> bytes:
    """The document without its vocabulary: what cuts text into words, and the same for many tickets."""
    document: dict[str, Any] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    document["model"] = {
        "type": model.type,
        "vocab": {model.unk_token: 0},
        "unk_token": model.unk_token,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    document |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None, "decoder": None}
    return msgspec.json.encode(document)
