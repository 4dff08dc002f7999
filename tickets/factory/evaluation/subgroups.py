"""Subgroups: accuracy by how often a class was seen in training, and by how long a text is, in thirds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.factory.data import DomainData

THIRDS = ("least", "middle", "most")


def subgroups(data: DomainData, hits: Mapping[str, NDArray[np.bool_]]) -> dict[str, list[dict[str, Any]]]:
    """``frequency`` and ``length``, each a list of groups: name, range, texts, and accuracy by model. ``hits``: of the
    in-scope test texts. Groups that ties leave empty are left out.
    """
    test = data.test.of_kind("in")
    counts = np.bincount(data.train.of_kind("in").targets, minlength=len(data.labels))
    frequency = counts[test.targets].astype(np.float64)
    length = np.asarray([len(text.split()) for text in test.texts], np.float64)
    return {"frequency": _thirds(frequency, hits), "length": _thirds(length, hits)}


def _thirds(values: NDArray[np.float64], hits: Mapping[str, NDArray[np.bool_]]) -> list[dict[str, Any]]:
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    place = np.where(values <= low, 0, np.where(values <= high, 1, 2))
    out = []
    for i, name in enumerate(THIRDS):
        chosen = place == i
        if chosen.any():
            out.append({
                "group": name, "from": float(values[chosen].min()), "to": float(values[chosen].max()),
                "texts": int(chosen.sum()),
                **{model: round(float(right[chosen].mean()), 5) for model, right in hits.items()},
            })  # fmt: skip
    return out
