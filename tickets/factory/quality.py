"""Quality: what a ticket's logits are worth, measured the same way for every ticket.

Pure functions on arrays. Logits [n, labels + 1]: the last column is out of scope. Intervals
are 95 % percentile bootstraps over texts, paired where two models answered the same texts
(Efron & Tibshirani 1993, chapter 13).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

KEEP_IN_SCOPE = 0.97
"""Share of validation in-scope texts that the frozen threshold keeps."""

RESAMPLES = 2000
NEVER = -1e9  # the logit of a class that cannot be
_TEMPERATURES = np.geomspace(0.2, 5.0, 161)

Floats = NDArray[np.float32]
Targets = NDArray[np.int64]
Kinds = NDArray[np.str_]
_PerText = NDArray[np.bool_] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Temperature and threshold, fitted on validation data and frozen before any test.

    ``scheme`` is the in-scope score: ``class`` or ``max_probability`` (tickets.manifest.Calibration).
    """

    temperature: float
    threshold: float
    scheme: Literal["class", "max_probability"] = "class"


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Row-wise softmax of ``logits / temperature``."""
    scaled = logits / np.float32(temperature)
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


def with_last_column(logits: Floats, labels: int) -> Floats:
    """[n, labels] -> [n, labels + 1] with an out-of-scope column of probability zero; others pass unchanged."""
    return np.pad(logits, ((0, 0), (0, labels + 1 - logits.shape[1])), constant_values=NEVER)


def fit(logits: Floats, targets: Targets, kinds: Kinds) -> Calibrated:
    """Temperature by likelihood (Guo et al. 2017), in-scope and out-of-scope texts weighing the same;
    threshold as the score that keeps `KEEP_IN_SCOPE` of the in-scope texts.
    """
    inside = kinds == "in"
    weights = np.where(inside, 1 / max(1, inside.sum()), 1 / max(1, (~inside).sum()))
    rows = np.arange(len(targets))

    def loss(temperature: float) -> float:
        chance = softmax(logits, temperature)[rows, targets]
        return float(-(weights * np.log(np.maximum(chance, 1e-12))).sum())

    temperature = round(float(min(_TEMPERATURES, key=loss)), 4)
    scheme: Literal["class", "max_probability"] = "max_probability" if (logits[:, -1] == NEVER).all() else "class"
    scores = in_scope_scores(logits, Calibrated(temperature, 0.0, scheme))[inside]
    return Calibrated(temperature, round(float(np.quantile(scores, 1 - KEEP_IN_SCOPE)), 6), scheme)


def in_scope_scores(logits: Floats, calibrated: Calibrated) -> Floats:
    """The score that the threshold is compared with, [n]."""
    chances = softmax(logits, calibrated.temperature)
    return np.asarray(1 - chances[:, -1] if calibrated.scheme == "class" else chances[:, :-1].max(axis=1), np.float32)


def correct(logits: Floats, targets: Targets, kinds: Kinds) -> NDArray[np.bool_]:
    """For each in-scope text: whether the best label (the out-of-scope column left aside) is right."""
    inside = kinds == "in"
    return np.asarray(logits[inside, :-1].argmax(axis=1) == targets[inside])


def measure(logits: Floats, targets: Targets, kinds: Kinds, calibrated: Calibrated) -> dict[str, float | list[float]]:
    """All numbers of one model on test texts, as fractions; ``*_ci`` are 95 % intervals."""
    inside = kinds == "in"
    right = correct(logits, targets, kinds)
    scores = in_scope_scores(logits, calibrated)
    kept = scores >= calibrated.threshold
    report: dict[str, float | list[float]] = {
        "in_scope_accuracy": _mean(right),
        "in_scope_accuracy_ci": _interval(right),
        "in_scope_kept": _mean(kept[inside]),
        "in_scope_right_and_kept": _mean(right & kept[inside]),
        "expected_calibration_error": _rounded(calibration_error(logits, targets, calibrated.temperature)),
    }
    for kind, name in (("out", "out_of_scope"), ("near", "other_domains")):
        if (kinds == kind).any():
            refused = ~kept[kinds == kind]
            report[f"{name}_recall"] = _mean(refused)
            report[f"{name}_recall_ci"] = _interval(refused)
            report[f"{name}_auroc"] = _rounded(auroc(scores[inside], scores[kinds == kind]))
    return report


def compare(child: _PerText, parent: _PerText) -> dict[str, float | list[float]]:
    """Paired difference child - parent of two vectors (hits, or any number per text) over the same texts, in points of
    100.
    """
    difference = child.astype(np.float64) - parent.astype(np.float64)
    return {"points": round(100 * float(difference.mean()), 3), "points_ci": _interval(100 * difference)}


def calibration_error(logits: Floats, targets: Targets, temperature: float, bins: int = 15) -> float:
    """Expected calibration error over all classes, out of scope included (Guo et al. 2017, section 2)."""
    chances = softmax(logits, temperature)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == targets
    edges = np.clip((confidence * bins).astype(int), 0, bins - 1)
    total = 0.0
    for b in np.unique(edges):
        chosen = edges == b
        total += chosen.mean() * abs(float(right[chosen].mean()) - float(confidence[chosen].mean()))
    return float(total)


def auroc(positive: Floats, negative: Floats) -> float:
    """Chance that an in-scope text scores above an out-of-scope one, ties counting half (Mann-Whitney)."""
    values = np.concatenate([positive, negative]).astype(np.float64)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))


def _interval(values: _PerText) -> list[float]:
    random = np.random.default_rng(0)
    floats = values.astype(np.float64)
    means = floats[random.integers(0, len(floats), (RESAMPLES, len(floats)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return [_rounded(low), _rounded(high)]


def _mean(values: NDArray[np.bool_]) -> float:
    return _rounded(float(values.mean()))


def _rounded(value: float) -> float:
    return round(float(value), 5)
