"""Tokens: a tokenizer cut to the pieces a domain uses, and batches of ids.

Owns vocabulary pruning. A piece that goes changes how words are cut, so texts are tokenized
again with the smaller vocabulary; ids are never just remapped. Every single character stays,
so that plain text never becomes unknown.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_PLAIN = {chr(c) for c in range(33, 127)}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer (tokenizer.json) and, per id, the row it had in the backbone's embeddings."""

    tokenizer_json: str
    rows: NDArray[np.int64]
    max_tokens: int

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Ids of each text, special tokens included, truncated to ``max_tokens``, not padded."""
        tokenizer = Tokenizer.from_str(self.tokenizer_json)
        return [np.asarray(e.ids, np.int64) for e in tokenizer.encode_batch(list(texts))]


def full_vocabulary(tokenizer_json: str, max_tokens: int) -> Vocabulary:
    """The backbone's own vocabulary, renumbered so that padding is id 0."""
    return _cut(tokenizer_json, set(json.loads(tokenizer_json)["model"]["vocab"]), max_tokens)


def prune_vocabulary(
    tokenizer_json: str, texts: Sequence[str], size: int, max_tokens: int, *, fill: bool = True
) -> Vocabulary:
    """Keep the specials, all single characters and the pieces most used in ``texts``, at most ``size`` in all.

    Where the texts leave room and ``fill`` is set, whole words of the backbone's vocabulary follow, in its
    order (WordPiece vocabularies list the commonest first), so that words nobody trained on still have their meaning.
    Raises ValueError when ``size`` cannot hold the specials and the characters.
    """
    vocabulary = json.loads(tokenizer_json)["model"]["vocab"]
    always = {p for p in vocabulary if p in SPECIALS or p in _PLAIN or (p[:2] == "##" and p[2:] in _PLAIN)}
    if size < len(always):
        raise ValueError(f"a vocabulary of {size} cannot hold the {len(always)} characters that must stay")
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    counts: Counter[str] = Counter()
    for encoding in tokenizer.encode_batch(list(texts)):
        counts.update(encoding.tokens)
    kept = set(always)
    used = sorted(counts, key=lambda piece: (-counts[piece], piece))
    common = sorted((p for p in vocabulary if p.isalpha() and len(p) > 2), key=lambda p: int(vocabulary[p]))
    for piece in [*used, *(common if fill else [])]:
        if len(kept) >= size:
            break
        kept.add(piece)
    return _cut(tokenizer_json, kept, max_tokens)


def _cut(tokenizer_json: str, kept: set[str], max_tokens: int) -> Vocabulary:
    document = json.loads(tokenizer_json)
    if document["model"].get("type") != "WordPiece":
        raise ValueError(f"tokenizer model {document['model'].get('type')!r} is not supported; only WordPiece is")
    old = document["model"]["vocab"]
    missing = [s for s in SPECIALS if s not in old]
    if missing:
        raise ValueError(f"the tokenizer lacks the special tokens {', '.join(missing)}")
    order = [*SPECIALS, *sorted((p for p in kept if p not in SPECIALS), key=lambda p: int(old[p]))]
    document["model"]["vocab"] = {piece: i for i, piece in enumerate(order)}
    document["added_tokens"] = [
        {**token, "id": order.index(token["content"])}
        for token in document["added_tokens"]
        if token["content"] in SPECIALS
    ]
    document["added_tokens"].sort(key=lambda token: token["id"])
    document["padding"] = None
    document["truncation"] = {
        "max_length": max_tokens, "strategy": "LongestFirst", "stride": 0, "direction": "Right"
    }  # fmt: skip
    cls, sep = order.index("[CLS]"), order.index("[SEP]")
    document["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", sep], "cls": ["[CLS]", cls]}
    rows = np.asarray([old[piece] for piece in order], np.int64)
    return Vocabulary(json.dumps(document, ensure_ascii=False, separators=(",", ":")), rows, max_tokens)


def piece_counts(vocabulary: Vocabulary, texts: Sequence[str]) -> NDArray[np.int64]:
    """How often each piece of the vocabulary stands in ``texts``, [vocabulary]."""
    ids = np.concatenate([np.zeros(0, np.int64), *vocabulary.encode(texts)])
    return np.bincount(ids, minlength=len(vocabulary.rows))


def whole_words(vocabulary: Vocabulary) -> list[str]:
    """The pieces that are words by themselves, in the order of their ids."""
    pieces = json.loads(vocabulary.tokenizer_json)["model"]["vocab"]
    return [piece for piece in sorted(pieces, key=lambda p: int(pieces[p])) if piece.isalpha() and len(piece) > 2]


def pad(ids: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Stack ids into [batch, longest], padded with 0."""
    out = np.zeros((len(ids), max(len(i) for i in ids)), np.int64)
    for row, i in zip(out, ids, strict=True):
        row[: len(i)] = i
    return out


def batches(lengths: Sequence[int], batch: int, random: np.random.Generator | None = None) -> list[NDArray[np.int64]]:
    """Index batches of texts of similar length: in order of length, or shuffled within buckets of 16 batches."""
    if random is None:
        order = np.argsort(np.asarray(lengths), kind="stable")
        return [order[i : i + batch] for i in range(0, len(order), batch)]
    shuffled = random.permutation(len(lengths))
    out: list[NDArray[np.int64]] = []
    for start in range(0, len(shuffled), 16 * batch):
        bucket = shuffled[start : start + 16 * batch]
        bucket = bucket[np.argsort(np.asarray(lengths)[bucket], kind="stable")]
        out += [bucket[i : i + batch] for i in range(0, len(bucket), batch)]
    return [out[i] for i in random.permutation(len(out))]
