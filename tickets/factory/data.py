"""Labelled texts: reading, checking, splitting.

Owns the one shape the factory works on, `DomainData`: a domain's labels, and train,
validation and test examples in which every text is either in scope (with a label) or out of
scope. Bad data is refused with a sentence that names rows (counted from 1, over all files in the
order given, headings not counted); nothing is silently changed except what `DomainData.notes`
lists. File formats live in `tickets.factory.formats`, likeness of texts in `tickets.factory.leaks`.
"""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tickets.factory.leaks import are_too_many, exact_leaks, near_leaks, normalized
from tickets.factory.rows import DataError, Row
from tickets.factory.splits import split_rows

OUT_OF_SCOPE_LABELS = frozenset({"oos", "out_of_scope", "out-of-scope"})
WHOLE = "all"
"""The domain that is a whole data set, whatever domains its file tells apart."""
MIN_PER_LABEL = 4


Numbers = dict[tuple[str, str], int]
"""Text and split -> the row's number in the file, of equal rows the first: for messages."""


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
    those of all domains (unless the file has a domain of that name). Training texts that stand in validation or test
    too are dropped, near duplicates are counted in the notes; too many of either are refused. Raises DataError.
    """
    notes: list[str] = []
    _check_texts(rows)
    _check_labels(rows)
    numbers = _numbers(rows)
    rows = _of_domain(_without_duplicates(rows, numbers, notes), domain)
    inside = [row.label for row in rows if _kind(row, domain) == "in"]
    labels = tuple(sorted(set(inside)))
    _check_size(len(inside), labels, domain)
    splits = split_rows(rows, seed, notes)
    splits["train"] = _without_leaks(splits, numbers, notes)
    _look_for_near_leaks(splits, numbers, notes)
    index = {label: i for i, label in enumerate(labels)}
    parts = {name: _examples(splits[name], domain, index) for name in ("train", "validation", "test")}
    _check_counts(parts, labels)
    return DomainData(domain, labels, parts["train"], parts["validation"], parts["test"], tuple(notes))


def _numbers(rows: Sequence[Row]) -> Numbers:
    return {(row.text, row.split): number for number, row in reversed(list(enumerate(rows, start=1)))}


def _number(row: Row, numbers: Numbers) -> int:
    return numbers[row.text, row.split]


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


def _check_labels(rows: Sequence[Row]) -> None:
    """Labels that a reader would take for one are a slip of the pen, and would be taught as two."""
    alike: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.label.lower() not in OUT_OF_SCOPE_LABELS:
            alike[" ".join(unicodedata.normalize("NFKC", row.label).casefold().split())][row.label] += 1
    for found in alike.values():
        if len(found) > 1:
            told = ", ".join(f"{label!r} ({count} rows)" for label, count in found.most_common())
            raise DataError(f"labels that differ only in case or spaces: {told}; write them alike")


def _check_size(count: int, labels: tuple[str, ...], domain: str) -> None:
    if len(labels) < 2:
        found = f"only {labels[0]!r}" if labels else "none"
        raise DataError(f"a ticket needs at least two labels in domain {domain!r}; found {found}")
    least = MIN_PER_LABEL + 2
    if count < least * len(labels):
        raise DataError(
            f"{count} texts for {len(labels)} labels are too few: each label needs {least} "
            f"({MIN_PER_LABEL} to train on, one to validate, one to test); is the right column the label?"
        )


def _without_duplicates(rows: Sequence[Row], numbers: Numbers, notes: list[str]) -> list[Row]:
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
    kept: list[Row] = []
    dropped: list[Row] = []
    for row in rows:
        key = (row.split, normalized(row.text))
        (kept if key not in seen and key not in conflicting else dropped).append(row)
        seen.add(key)
    if dropped:
        notes.append(
            f"dropped {len(dropped)} duplicate texts ({len(conflicting)} with two labels), e.g. row "
            f"{_number(dropped[0], numbers)}"
        )
    return kept


def _without_leaks(splits: dict[str, list[Row]], numbers: Numbers, notes: list[str]) -> list[Row]:
    """The training rows whose text stands in no held-out split."""
    train: list[Row] = splits["train"]
    leaked: set[int] = set()
    for name in ("validation", "test"):
        pairs = exact_leaks([row.text for row in train], [row.text for row in splits[name]])
        _refuse_many(pairs, splits[name], train, f"{name} texts stand in training too", numbers)
        leaked.update(j for _, j in pairs)
    if leaked:
        example = _number(train[min(leaked)], numbers)
        notes.append(f"dropped {len(leaked)} training texts that also stand in validation or test, e.g. row {example}")
    return [row for j, row in enumerate(train) if j not in leaked]


def _look_for_near_leaks(splits: dict[str, list[Row]], numbers: Numbers, notes: list[str]) -> None:
    """Near duplicates stay, as people do write nearly the same; but they are counted, and many are refused."""
    seen = splits["train"]
    for name in ("validation", "test"):
        pairs = near_leaks([row.text for row in seen], [row.text for row in splits[name]])
        _refuse_many(pairs, splits[name], seen, f"{name} texts are near duplicates of texts to learn from", numbers)
        if pairs:
            i, j = pairs[0]
            notes.append(
                f"{len(pairs)} of {len(splits[name])} {name} texts are near duplicates of texts to learn from and "
                f"stay, e.g. row {_number(splits[name][i], numbers)} of row {_number(seen[j], numbers)}"
            )
        seen = seen + splits[name]


def _refuse_many(
    pairs: list[tuple[int, int]], held_out: list[Row], seen: list[Row], told: str, numbers: Numbers
) -> None:
    found = sorted({i for i, _ in pairs})
    if not are_too_many(len(found), len(held_out)):
        return
    i, j = pairs[0]
    text = held_out[i].text if len(held_out[i].text) <= 60 else f"{held_out[i].text[:57]}..."
    raise DataError(
        f"{len(found)} of {len(held_out)} {told}, e.g. row {_number(held_out[i], numbers)} ({text!r}) and row "
        f"{_number(seen[j], numbers)}: a ticket would look better there than it is. Keep each on one side; the rows: "
        f"{_some([_number(held_out[k], numbers) for k in found])}"
    )


def _examples(rows: Sequence[Row], domain: str, index: dict[str, int]) -> Examples:
    kinds = tuple(_kind(row, domain) for row in rows)
    targets = [index[r.label] if k == "in" else len(index) for r, k in zip(rows, kinds, strict=True)]
    return Examples(tuple(row.text for row in rows), np.asarray(targets, np.int64), kinds)


def _check_counts(parts: dict[str, Examples], labels: tuple[str, ...]) -> None:
    counts = Counter(parts["train"].targets.tolist())
    unseen = [label for i, label in enumerate(labels) if not counts[i]]
    if unseen:
        raise DataError(f"labels that training never sees, only validation or test: {_some(unseen)}")
    thin = [label for i, label in enumerate(labels) if counts[i] < MIN_PER_LABEL]
    if thin:
        raise DataError(f"fewer than {MIN_PER_LABEL} training texts for: {_some(thin)}")
    for name in ("validation", "test"):
        missing = [label for i, label in enumerate(labels) if i not in parts[name].targets]
        if missing:
            raise DataError(
                f"no {name} text for: {_some(missing)}; add one, or leave the {name} split out and it is made"
            )


def _some(items: Sequence[object]) -> str:
    shown = ", ".join(str(item) for item in items[:5])
    return shown if len(items) <= 5 else f"{shown}, ... ({len(items)} in all)"
