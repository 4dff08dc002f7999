"""Calibration: how far stated confidence is from what is right. Pure functions on logits [n, labels + 1]."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.factory.quality import Floats, Targets, softmax

BINS = 15


def reliability(logits: Floats, targets: Targets, temperature: float, bins: int = BINS) -> list[dict[str, float]]:
    """For a diagram: of each confidence bin of equal width its bounds, texts, mean confidence and accuracy."""
    confidence, right = _confidence(logits, targets, temperature)
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    out = []
    for b in range(bins):
        chosen = place == b
        if chosen.any():
            out.append({
                "from": round(b / bins, 4), "to": round((b + 1) / bins, 4), "texts": int(chosen.sum()),
                "confidence": round(float(confidence[chosen].mean()), 5),
                "accuracy": round(float(right[chosen].mean()), 5),
            })  # fmt: skip
    return out


def expected_error(rows: list[dict[str, float]]) -> float:
    """Expected calibration error of a reliability diagram (Guo et al. 2017, section 2)."""
    texts = sum(row["texts"] for row in rows)
    return sum(row["texts"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / max(1, texts)


def equal_mass_error(logits: Floats, targets: Targets, temperature: float, bins: int = BINS) -> float:
    """The same over bins of equally many texts (Nixon et al. 2019, "Measuring Calibration in Deep Learning")."""
    confidence, right = _confidence(logits, targets, temperature)
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(confidence)))
    return float(sum(len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts) / len(confidence))


def proper_scores(logits: Floats, targets: Targets, temperature: float) -> dict[str, Any]:
    """Brier score (sum over classes) and negative log likelihood, means over texts."""
    chances = softmax(logits, temperature).astype(np.float64)
    rows = np.arange(len(targets))
    truth = np.zeros_like(chances)
    truth[rows, targets] = 1.0
    return {
        "brier": round(float(((chances - truth) ** 2).sum(axis=1).mean()), 5),
        "nll": round(float(-np.log(np.maximum(chances[rows, targets], 1e-12)).mean()), 5),
    }


def _confidence(
    logits: Floats, targets: Targets, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    chances = softmax(logits, temperature).astype(np.float64)
    return chances.max(axis=1), (chances.argmax(axis=1) == targets).astype(np.float64)
