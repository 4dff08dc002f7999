"""Shift: the test texts as careless people would have typed them. Seeded, the same for every ticket of a domain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tickets.factory.data import Examples

TYPO_RATE = 0.08
"""Of letters that are mistyped: about two in a query of 30 letters."""
DROP_RATE = 0.15
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


@dataclass(frozen=True, slots=True)
class Shifted:
    """The test texts of a domain under each shift, in the order of the test split."""

    texts: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, examples: Examples, seed: int) -> "Shifted":
        """Every shift of every text; none is ever empty."""
        out: dict[str, tuple[str, ...]] = {}
        for number, (name, shift) in enumerate(SHIFTS.items()):
            random = np.random.default_rng((seed, number))
            out[name] = tuple(shift.change(text, random) or text for text in examples.texts)
        return cls(out)


def typos(text: str, random: np.random.Generator) -> str:
    """Letters replaced by a neighbour on the keyboard, left out, doubled or swapped with the next."""
    letters = list(text)
    out: list[str] = []
    i = 0
    while i < len(letters):
        letter = letters[i]
        if letter.isalpha() and random.random() < TYPO_RATE:
            kind = int(random.integers(4))
            if kind == 0:
                out.append(_neighbour(letter, random))
            elif kind == 1:
                out += [letter, letter]
            elif kind == 2 and i + 1 < len(letters):
                out += [letters[i + 1], letter]
                i += 1
        else:
            out.append(letter)
        i += 1
    return "".join(out).strip()


def truncated(text: str, _: np.random.Generator) -> str:
    """The first half of the words."""
    words = text.split()
    return " ".join(words[: max(1, (len(words) + 1) // 2)])


def words_dropped(text: str, random: np.random.Generator) -> str:
    """Some words are missing, never all."""
    words = text.split()
    kept = [word for word in words if random.random() >= DROP_RATE]
    return " ".join(kept or words[:1])


def titled(text: str, _: np.random.Generator) -> str:
    """Every word with a capital, the rest as it is."""
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def _neighbour(letter: str, random: np.random.Generator) -> str:
    low = letter.lower()
    for row in _KEYS:
        place = row.find(low)
        if place >= 0:
            near = [row[p] for p in (place - 1, place + 1) if 0 <= p < len(row)]
            return str(near[int(random.integers(len(near)))])
    return letter


@dataclass(frozen=True, slots=True)
class Shift:
    """One way to change a text, and how strong it is in words. ``change`` may return nothing: the text then stays."""

    strength: str
    change: Callable[[str, np.random.Generator], str]


# A shift's place is part of its seed: new ones come last, so that the numbers of the others stay what they were.
SHIFTS: Mapping[str, Shift] = {
    "typos": Shift(f"{100 * TYPO_RATE:.0f} % of letters", typos),
    "upper case": Shift("all letters", lambda text, _: text.upper()),
    "truncated": Shift("first half of the words", truncated),
    "words dropped": Shift(f"{100 * DROP_RATE:.0f} % of words", words_dropped),
    "title case": Shift("first letter of every word", titled),
}
