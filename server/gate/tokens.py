"""The tokenizer of a stranger's bundle, read as a document before any library opens it.

Owns what a ``tokenizer.json`` may not hold because it could take a worker's time or memory for itself: regular
expressions of its own, replacements that make texts grow, words and vocabularies without bounds. Whether it
tokenizes as its ticket says, the samples show. Pure.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

MAX_BYTES = 64 << 20
MAX_DEPTH = 32
MAX_GROWTH = 16
"""Times that a text may become longer by replacements, all of them one after the other."""
MAX_WORD_CHARACTERS = 1000
MAX_SPECIAL_TOKENS = 8
MAX_ADDED_TOKENS = 10_000

KNOWN_PATTERNS = frozenset(
    {
        " {2,}", "\\s+", "\\s", "\\d", "\\p{N}", "\\p{N}{1,3}", "[0-9]", "`|''", "[\\r\\n]", "\\n",
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    }
)  # fmt: skip
"""Regular expressions of published tokenizers, none of which can be made to backtrack for long."""


class TokenizerError(ValueError):
    """A tokenizer that may not be opened, and why."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What was read: the kind of model, its pieces, and the largest id that it can give."""

    model: str
    pieces: int
    largest_id: int


def read_tokenizer(data: bytes | memoryview) -> Tokens:
    """Look at a whole ``tokenizer.json``. Raises TokenizerError."""
    if len(data) > MAX_BYTES:
        raise TokenizerError(f"the tokenizer has {len(data)} bytes; the limit is {MAX_BYTES}")
    try:
        document: Any = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"the tokenizer is no JSON document: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise TokenizerError("the tokenizer is not of the form of tokenizer.json: it has no model")
    growth = 1.0
    for part in ("normalizer", "pre_tokenizer", "post_processor"):
        for node in _nodes(document.get(part), 0):
            growth *= _growth(node)
            _check_pattern(node)
            _check_template(node)
    if growth > MAX_GROWTH:
        raise TokenizerError(f"its replacements make a text up to {growth:.3g} times as long; {MAX_GROWTH} are allowed")
    return _model(document["model"], document.get("added_tokens") or [])


def _nodes(node: Any, depth: int) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON
    """All objects of a document."""
    if depth > MAX_DEPTH:
        raise TokenizerError(f"the tokenizer is nested deeper than {MAX_DEPTH}")
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from _nodes(child, depth + 1)
    elif isinstance(node, list):
        for child in node:
            if isinstance(child, dict | list):
                yield from _nodes(child, depth + 1)


def _check_pattern(node: dict[str, Any]) -> None:
    pattern = node.get("Regex")
    if pattern is not None and pattern not in KNOWN_PATTERNS:
        raise TokenizerError(
            f"it has a regular expression of its own, which may take for ever: {str(pattern)[:80]!r} "
            "(those of published tokenizers are known; see docs/gate.md)"
        )


def _check_template(node: dict[str, Any]) -> None:
    for kind in ("single", "pair"):
        template = node.get(kind)
        if isinstance(template, list) and len(template) > MAX_SPECIAL_TOKENS:
            raise TokenizerError(f"its template has {len(template)} parts; {MAX_SPECIAL_TOKENS} are allowed")


def _growth(node: dict[str, Any]) -> float:
    """By how much a replacement can lengthen a text."""
    match node.get("type"):
        case "Replace":
            pattern = node.get("pattern")
            found = pattern.get("String", "x") if isinstance(pattern, dict) else "x"
            content = node.get("content", "")
            if not isinstance(found, str) or not isinstance(content, str):
                raise TokenizerError("a replacement is not of text by text")
            # Nothing is found between any two characters too.
            return max(1.0, len(content) / len(found) if found else 1.0 + len(content))
        case "Prepend" if len(str(node.get("prepend", ""))) > MAX_GROWTH:
            raise TokenizerError("it puts a long text before every other")
        case _:
            return 1.0


def _model(model: dict[str, Any], added: Any) -> Tokens:  # noqa: ANN401 - JSON
    if not isinstance(added, list) or len(added) > MAX_ADDED_TOKENS:
        raise TokenizerError(f"its added tokens are no list of at most {MAX_ADDED_TOKENS}")
    longest = model.get("max_input_chars_per_word", 100)
    if not isinstance(longest, int) or not 1 <= longest <= MAX_WORD_CHARACTERS:
        raise TokenizerError(f"max_input_chars_per_word is {longest!r}; 1 to {MAX_WORD_CHARACTERS} are allowed")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        ids = list(vocabulary.values())
    elif isinstance(vocabulary, list):
        ids = list(range(len(vocabulary)))  # Unigram: pieces with their scores, numbered as they stand
    else:
        raise TokenizerError("its model has no vocabulary")
    ids += [entry.get("id") if isinstance(entry, dict) else None for entry in added]
    if not ids or not all(type(id_) is int and 0 <= id_ < 1 << 24 for id_ in ids):
        raise TokenizerError("its vocabulary is empty, or has ids that are no numbers from 0 to 2^24")
    return Tokens(model=str(model.get("type") or "?")[:32], pieces=len(vocabulary), largest_id=max(ids))
