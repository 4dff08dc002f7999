"""Leaks: held-out texts that training has seen, to the letter or nearly.

Owns what counts as the same text and as nearly the same one. What becomes of them is decided in `tickets.factory.data`.
Near duplicates are found by the overlap of word triples (Broder 1997, "On the resemblance and containment of
documents", section 2), exactly and not by sketches: a prefix filter over the rarest triples (Chaudhuri et al. 2006,
"A primitive operator for similarity joins in data cleaning", section 4) leaves few pairs to compare.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

NEAR = 0.9
"""Jaccard overlap of word triples from which on two texts are near duplicates."""
MOST_LEAKED = 0.05
"""The share of a held-out split that training may have seen, nearly or to the letter."""

_WORD = re.compile(r"\w+")
_APOSTROPHES = str.maketrans("", "", "'\u2019`\u00b4")
Shingles = frozenset[tuple[str, ...]]


def normalized(text: str) -> str:
    """The form under which two texts are the same: case and spaces do not count."""
    return " ".join(text.lower().split())


def words(text: str) -> tuple[str, ...]:
    """The words of a text without case, punctuation and width variants; of a text that has none, its normalized form.

    Apostrophes join, as in ``whats``.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
    return tuple(_WORD.findall(plain)) or (normalized(text),)


def shingles(text: str) -> Shingles:
    """All runs of three words; of shorter texts, the whole."""
    found = words(text)
    return frozenset(found[i : i + 3] for i in range(max(1, len(found) - 2)))


def exact_leaks(train: Sequence[str], held_out: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (index in ``held_out``, index in ``train``) of the same text; one pair for each such training text."""
    places: dict[str, int] = {}
    for i, text in enumerate(held_out):
        places.setdefault(normalized(text), i)
    known = ((places.get(normalized(text)), j) for j, text in enumerate(train))
    return [(i, j) for i, j in known if i is not None]


def near_leaks(train: Sequence[str], held_out: Sequence[str], overlap: float = NEAR) -> list[tuple[int, int]]:
    """Pairs (index in ``held_out``, index in ``train``) whose word triples overlap by ``overlap`` or more: at most one,
    the first, for each held-out text. The same text to the letter counts too.
    """
    theirs, ours = [shingles(text) for text in train], [shingles(text) for text in held_out]
    ranks = _ranks([*theirs, *ours])
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for j, one in enumerate(theirs):
        for shingle in _prefix(one, ranks, overlap):
            index[shingle].append(j)
    out = []
    for i, one in enumerate(ours):
        candidates = sorted({j for shingle in _prefix(one, ranks, overlap) for j in index.get(shingle, ())})
        match = next((j for j in candidates if jaccard(one, theirs[j]) >= overlap), None)
        if match is not None:
            out.append((i, match))
    return out


def are_too_many(leaked: int, held_out: int) -> bool:
    """Whether so many leaked texts of a split make its numbers look better than they are."""
    return leaked > max(2.0, MOST_LEAKED * held_out)


def near_groups(texts: Sequence[str], overlap: float = NEAR) -> list[list[int]]:
    """The indices of the texts, those together that near duplicates chain together; in the order of their first."""
    found = [shingles(text) for text in texts]
    ranks = _ranks(found)
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    group = [[i] for i in range(len(texts))]  # the very list of all its members, at each of them
    for i, one in enumerate(found):
        prefix = _prefix(one, ranks, overlap)
        for j in sorted({j for shingle in prefix for j in index[shingle]}):
            if group[i] is not group[j] and jaccard(one, found[j]) >= overlap:
                joined = group[j] + group[i]
                for member in joined:
                    group[member] = joined
        for shingle in prefix:
            index[shingle].append(i)
    return [members for i, members in enumerate(group) if min(members) == i]


def jaccard(a: Shingles, b: Shingles) -> float:
    """Size of the intersection over size of the union."""
    return len(a & b) / len(a | b)


def _ranks(texts: Sequence[Shingles]) -> dict[tuple[str, ...], int]:
    """Of every triple, the rarest first."""
    counts = Counter(shingle for one in texts for shingle in one)
    return {shingle: rank for rank, (shingle, _) in enumerate(reversed(counts.most_common()))}


def _prefix(one: Shingles, ranks: dict[tuple[str, ...], int], overlap: float) -> list[tuple[str, ...]]:
    """The rarest triples: two texts that overlap enough share one of these."""
    rarest = sorted(one, key=ranks.__getitem__)
    least = math.ceil(overlap * len(one) - 1e-9)  # of a text's triples, that a near duplicate must share
    return rarest[: len(one) - least + 1]
