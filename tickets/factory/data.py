"""Labelled texts: reading, checking, splitting.

Owns the one shape the factory works on, `DomainData`: a domain's labels, and train,
validation and test examples in which every text is either in scope (with a label) or out of
scope. Bad data is refused with a sentence that names rows; nothing is silently changed except
what `DomainData.notes` lists. File formats live in `tickets.factory.formats`.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

OUT_OF_SCOPE_LABELS = frozenset({"oos", "out_of_scope", "out-of-scope"})
WHOLE = "all"
"""The domain that is a whole data set, whatever domains its file tells apart."""
MIN_PER_LABEL = 4


class DataError(ValueError):
    """A data set that no honest ticket can be made from; the message names what and where."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text as a file gives it. ``split`` and ``domain`` are empty where the file has none."""

    text: str
    label: str
    split: str = ""
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts with targets [n] int64: index of the label, or ``len(labels)`` for out of scope.

    ``kinds`` tells where an out-of-scope text comes from: ``in`` (it is in scope), ``out`` (the
    data set's own out-of-scope texts) or ``near`` (another domain's).
    """

    texts: tuple[str, ...]
    targets: NDArray[np.int64]
    kinds: tuple[str, ...]

    def of_kind(self, kind: str) -> "Examples":
        """The examples of one kind, in order."""
        keep = [i for i, k in enumerate(self.kinds) if k == kind]
        return Examples(tuple(self.texts[i] for i in keep), self.targets[keep], tuple(self.kinds[i] for i in keep))

    def half_inside(self, count: int, seed: int) -> NDArray[np.int64]:
        """Indices of at most ``count`` examples drawn by ``seed``: half in scope, half not, as far as they go."""
        random = np.random.default_rng(seed)
        inside = np.asarray(self.kinds) == "in"
        return np.concatenate([random.permutation(np.flatnonzero(m))[: count // 2] for m in (inside, ~inside)])

    def digest(self) -> str:
        """sha256 over texts, targets and kinds: what was trained or measured on, exactly."""
        digest = hashlib.sha256()
        for text, target, kind in zip(self.texts, self.targets, self.kinds, strict=True):
            digest.update(f"{text}\x00{target}\x00{kind}\x01".encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class DomainData:
    """Everything the factory knows about one domain."""

    domain: str
    labels: tuple[str, ...]
    train: Examples
    validation: Examples
    test: Examples
    notes: tuple[str, ...] = field(default=())

    @property
    def classes(self) -> int:
        """How many logits a model of this domain has: one per label, and one for out of scope if training has any."""
        return len(self.labels) + any(kind != "in" for kind in self.train.kinds)

    def digests(self) -> dict[str, str]:
        """The digests that go into a ticket's lineage."""
        return {"train": self.train.digest(), "validation": self.validation.digest(), "test": self.test.digest()}


def build(rows: Sequence[Row], domain: str, seed: int) -> DomainData:
    """Select one domain's rows, check them, drop duplicates and leaks, split what has no split.

    Rows of other domains become out-of-scope examples of kind ``near``; rows labelled
    out-of-scope become kind ``out``. Rows without a domain belong to every domain, and to `WHOLE` belong
    those of all domains (unless the file has a domain of that name). Raises DataError.
    """
    notes: list[str] = []
    _check_texts(rows)
    rows = _of_domain(_without_duplicates(rows, notes), domain)
    labels = tuple(sorted({r.label for r in rows if _kind(r, domain) == "in"}))
    if len(labels) < 2:
        found = f"only {labels[0]!r}" if labels else "none"
        raise DataError(f"a ticket needs at least two labels in domain {domain!r}; found {found}")
    splits = _split(rows, seed)
    splits["train"] = _without_leaks(splits, notes)
    index = {label: i for i, label in enumerate(labels)}
    parts = {name: _examples(splits[name], domain, index) for name in ("train", "validation", "test")}
    _check_counts(parts, labels)
    return DomainData(domain, labels, parts["train"], parts["validation"], parts["test"], tuple(notes))


def normalized(text: str) -> str:
    """The form under which two texts count as the same."""
    return " ".join(text.lower().split())


def _of_domain(rows: list[Row], domain: str) -> list[Row]:
    """The rows as ``domain`` is to see them: none tells domains apart where it is the whole data set."""
    domains = {row.domain for row in rows} - {""}
    if not domains or domain in domains:
        return rows
    if domain == WHOLE:
        return [replace(row, domain="") for row in rows]
    raise DataError(
        f"no rows of domain {domain!r}; the file has: {', '.join(sorted(domains))}; {WHOLE!r} is the whole data set"
    )


def _kind(row: Row, domain: str) -> str:
    if row.label.lower() in OUT_OF_SCOPE_LABELS:
        return "out"
    return "in" if row.domain in ("", domain) else "near"


def _check_texts(rows: Sequence[Row]) -> None:
    if not rows:
        raise DataError("the data file has no rows")
    empty = [i + 1 for i, row in enumerate(rows) if not row.text.strip()]
    if empty:
        raise DataError(f"{len(empty)} empty text(s), first in row(s) {_some(empty)}: remove or fill them")
    unlabelled = [i + 1 for i, row in enumerate(rows) if not row.label.strip()]
    if unlabelled:
        raise DataError(f"{len(unlabelled)} row(s) without a label, first in row(s) {_some(unlabelled)}")


def _without_duplicates(rows: Sequence[Row], notes: list[str]) -> list[Row]:
    """Drop exact repeats within a split, and texts that carry two labels there (nobody can learn them)."""
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        labels[row.split, normalized(row.text)].add(row.label)
    conflicting = {key for key, found in labels.items() if len(found) > 1}
    if len(conflicting) > 0.01 * len(rows):
        example = sorted(conflicting)[0]
        raise DataError(
            f"{len(conflicting)} texts carry two labels, e.g. {example[1]!r}: {sorted(labels[example])}; "
            "decide on one label for each"
        )
    seen: set[tuple[str, str]] = set()
    kept = []
    for row in rows:
        key = (row.split, normalized(row.text))
        if key not in seen and key not in conflicting:
            kept.append(row)
        seen.add(key)
    if len(kept) < len(rows):
        notes.append(f"dropped {len(rows) - len(kept)} duplicate texts ({len(conflicting)} with two labels)")
    return kept


def _split(rows: Sequence[Row], seed: int) -> dict[str, list[Row]]:
    """Use the file's splits; make a test (15 %) or validation (15 %) split per label where one is missing."""
    aliases = {"": "train", "val": "validation", "valid": "validation", "dev": "validation"}
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        name = aliases.get(row.split.lower(), row.split.lower())
        if name not in splits:
            raise DataError(f"unknown split {row.split!r}; use train, validation and test")
        splits[name].append(row)
    random = np.random.default_rng(seed)
    for name in ("test", "validation"):
        if not splits[name]:
            splits["train"], splits[name] = _carve(splits["train"], 0.15, random)
    return splits


def _carve(rows: list[Row], fraction: float, random: np.random.Generator) -> tuple[list[Row], list[Row]]:
    by_label: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_label[row.domain, row.label].append(i)
    taken: set[int] = set()
    for indices in by_label.values():
        count = max(1, round(fraction * len(indices))) if len(indices) > 1 else 0
        taken.update(random.permutation(indices)[:count].tolist())
    return [r for i, r in enumerate(rows) if i not in taken], [r for i, r in enumerate(rows) if i in taken]


def _without_leaks(splits: dict[str, list[Row]], notes: list[str]) -> list[Row]:
    held_out = {normalized(row.text) for name in ("validation", "test") for row in splits[name]}
    kept = [row for row in splits["train"] if normalized(row.text) not in held_out]
    if len(kept) < len(splits["train"]):
        notes.append(f"dropped {len(splits['train']) - len(kept)} training texts that also stand in validation or test")
    return kept


def _examples(rows: Sequence[Row], domain: str, index: dict[str, int]) -> Examples:
    kinds = tuple(_kind(row, domain) for row in rows)
    unseen = {r.label for r, k in zip(rows, kinds, strict=True) if k == "in"} - index.keys()
    if unseen:
        raise DataError(f"labels that training never sees: {_some(sorted(unseen))}")
    targets = [index[r.label] if k == "in" else len(index) for r, k in zip(rows, kinds, strict=True)]
    return Examples(tuple(row.text for row in rows), np.asarray(targets, np.int64), kinds)


def _check_counts(parts: dict[str, Examples], labels: tuple[str, ...]) -> None:
    counts = Counter(parts["train"].targets.tolist())
    thin = [label for i, label in enumerate(labels) if counts[i] < MIN_PER_LABEL]
    if thin:
        raise DataError(f"fewer than {MIN_PER_LABEL} training texts for: {_some(thin)}")
    for name in ("validation", "test"):
        missing = [label for i, label in enumerate(labels) if i not in parts[name].targets]
        if missing:
            raise DataError(f"no {name} text for: {_some(missing)}")


def _some(items: Sequence[object]) -> str:
    shown = ", ".join(str(item) for item in items[:5])
    return shown if len(items) <= 5 else f"{shown}, ... ({len(items)} in all)"
