"""Made-up texts for distillation: the parent labels them, so the child sees more of what it thinks.

Words are dropped, replaced, swapped, and halves of two texts joined (after Jiao et al. 2020,
"TinyBERT", section 4.3 and algorithm 1, whose gain on small data sets comes mostly from this; we
draw replacements from the domain's own words instead of a language model).
"""

from collections.abc import Sequence

import numpy as np

DROP, REPLACE, SWAP, JOIN = 0.10, 0.12, 0.08, 0.25


def augment(texts: Sequence[str], common: Sequence[str], copies: int, seed: int) -> list[str]:
    """``copies`` variants of every text, in order, determined by ``seed``.

    Half of the replacements are words of the texts, half are ``common`` words, whose meaning the parent knows.
    """
    random = np.random.default_rng(seed)
    split = [text.split() for text in texts]
    own = np.asarray([word for parts in split for word in parts])
    words = np.concatenate([own, random.choice(np.asarray(common), len(own))]) if common else own
    out = []
    for parts in split:
        for _ in range(copies):
            mate = split[int(random.integers(len(split)))]
            out.append(" ".join(_variant(parts, mate, words, random)))
    return out


def _variant(parts: list[str], mate: list[str], words: np.ndarray, random: np.random.Generator) -> list[str]:
    if random.random() < JOIN:
        cut, mates = random.integers(len(parts) + 1), random.integers(len(mate) + 1)
        parts = [*parts[:cut], *mate[mates:]] or parts
    made = []
    for word, chance in zip(parts, random.random(len(parts)), strict=True):
        if chance < DROP:
            continue
        made.append(str(random.choice(words)) if chance < DROP + REPLACE else word)
    for i in np.flatnonzero(random.random(max(0, len(made) - 1)) < SWAP):
        made[i], made[i + 1] = made[i + 1], made[i]
    return made or parts
