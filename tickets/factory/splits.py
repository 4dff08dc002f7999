"""Splits: which rows are trained on, which validate, which test."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tickets.factory.rows import DataError, Row


def split_rows(rows: Sequence[Row], seed: int) -> dict[str, list[Row]]:
    """Use the file's splits; make a test (15 %) or validation (15 %) split per label where one is missing.

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
