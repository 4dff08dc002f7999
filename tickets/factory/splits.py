"""Splits: which rows are trained on, which validate, which test."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from tickets.factory.leaks import are_too_many, near_groups, near_leaks
from tickets.factory.rows import DataError, Row

HELD_OUT = 0.15


def split_rows(rows: Sequence[Row], seed: int, notes: list[str]) -> dict[str, list[Row]]:
    """Use the file's splits; make a test (15 %) or validation (15 %) split per label where one is missing. Where that
    would put many near duplicates on two sides, they are kept together instead, which a note tells.

    Raises DataError for a split of another name.
    """
    aliases = {"": "train", "val": "validation", "valid": "validation", "dev": "validation"}
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        name = aliases.get(row.split.lower(), row.split.lower())
        if name not in splits:
            raise DataError(f"unknown split {row.split!r}; use train, validation and test")
        splits[name].append(row)
    random = np.random.default_rng(seed)
    for name in ("test", "validation"):
        if splits[name]:
            continue
        train = splits["train"]
        taken = _by_label(train, random)
        if _leaks(train, taken):
            taken = _by_group(train, near_groups([row.text for row in train]), random)
            notes.append(f"the {name} split that was made keeps near duplicates on one side")
        splits["train"] = [row for i, row in enumerate(train) if i not in taken]
        splits[name] = [row for i, row in enumerate(train) if i in taken]
    return splits


def _by_label(rows: Sequence[Row], random: np.random.Generator) -> set[int]:
    """Of every label as large a share."""
    by_label: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_label[row.domain, row.label].append(i)
    taken: set[int] = set()
    for indices in by_label.values():
        count = _wanted(len(indices)) if len(indices) > 1 else 0
        taken.update(random.permutation(indices)[:count].tolist())
    return taken


def _by_group(rows: Sequence[Row], groups: Sequence[Sequence[int]], random: np.random.Generator) -> set[int]:
    """Whole groups by chance, until every label has its share; none that holds more than half of a label's rows."""
    counts = Counter((row.domain, row.label) for row in rows)
    wanted = {label: _wanted(count) for label, count in counts.items()}
    taken: set[int] = set()
    for number in random.permutation(len(groups)):
        members = groups[number]
        labels = Counter((rows[i].domain, rows[i].label) for i in members)
        if all(wanted[label] > 0 and 2 * count <= counts[label] for label, count in labels.items()):
            taken.update(members)
            wanted = {label: left - labels[label] for label, left in wanted.items()}
    return taken


def _leaks(rows: Sequence[Row], taken: set[int]) -> bool:
    held_out = [row.text for i, row in enumerate(rows) if i in taken]
    found = near_leaks([row.text for i, row in enumerate(rows) if i not in taken], held_out)
    return are_too_many(len(found), len(held_out))


def _wanted(count: int) -> int:
    return max(1, round(HELD_OUT * count))
