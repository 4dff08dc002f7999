"""What a transfer matrix says: accuracies, and how far own masks stand from others', random ones and dense.

Pure functions of a `Matrix`, and its heat map.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.factory.lottery.transfer import Matrix

RESAMPLES = 2000


def document(matrix: Matrix) -> dict[str, Any]:
    """The run's result: the matrix and its controls as accuracies, mean and by seed, and what the means say.

    ``summary`` has means over domains and seeds, and how far own masks stand above others', above random masks and
    below dense, in points with 95 % intervals (bootstrap over domains and, within each, its test texts).
    """
    by_seed = [[[_accuracy(hits) for hits in row] for row in table] for table in matrix.pairs]
    random = [[_accuracy(hits) for hits in row] for row in matrix.random]
    dense = [[_accuracy(hits) for hits in row] for row in matrix.dense]
    return {
        "domains": list(matrix.domains), "density": round(matrix.density, 5), "levels": matrix.plan.levels,
        "seeds": list(matrix.plan.seeds), "epochs": matrix.plan.recipe.epochs,
        "test_texts": [len(hits) for hits in matrix.dense[0]],
        "accuracy": _means(by_seed), "accuracy_by_seed": by_seed,
        "random": _means(random), "random_by_seed": random, "dense": _means(dense), "dense_by_seed": dense,
        "overlap": np.round(matrix.overlap, 5).tolist(), "summary": _summary(matrix),
    }  # fmt: skip


def _summary(matrix: Matrix) -> dict[str, Any]:
    """Per domain B and text: hits of the own mask, the mean of the others', of random, of dense, all over seeds."""
    columns = range(len(matrix.domains))
    own = [_texts([table[b][b] for table in matrix.pairs]) for b in columns]
    others = [_texts([table[a][b] for table in matrix.pairs for a in columns if a != b]) for b in columns]
    random = [_texts([row[b] for row in matrix.random]) for b in columns]
    dense = [_texts([row[b] for row in matrix.dense]) for b in columns]
    out: dict[str, Any] = {
        name: round(float(np.mean([column.mean() for column in values])), 5)
        for name, values in (("own", own), ("others", others), ("random", random), ("dense", dense))
    }
    for name, other in (("others", others), ("random", random), ("dense", dense)):
        differences = [100 * (mine - its) for mine, its in zip(own, other, strict=True)]
        out[f"own_minus_{name}"] = {
            "points": round(float(np.mean([d.mean() for d in differences])), 3), "points_ci": _interval(differences),
        }  # fmt: skip
    return out


def _interval(differences: Sequence[NDArray[np.float64]]) -> list[float]:
    """95 % percentile interval of the mean over domains, domains and texts drawn again (two-stage bootstrap)."""
    random = np.random.default_rng(0)
    means = np.stack([
        d[random.integers(0, len(d), (RESAMPLES, len(d)))].mean(axis=1) for d in differences
    ])  # fmt: skip
    drawn = random.integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(means[drawn, np.arange(RESAMPLES)[:, None]].mean(axis=1), [2.5, 97.5])
    return [round(float(low), 3), round(float(high), 3)]


def _texts(hits: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    return np.asarray(np.mean(np.stack(hits), axis=0), np.float64)


def _accuracy(hits: NDArray[np.bool_]) -> float:
    return round(float(hits.mean()), 5)


def _means(by_seed: Any) -> Any:  # noqa: ANN401 - nested lists of numbers, as JSON has them
    return np.round(np.mean(by_seed, axis=0), 5).tolist()


def heat_map(result: dict[str, Any]) -> bytes:
    """The matrix as PNG: rows are masks, columns what they were trained on, then random masks and the dense model.

    Colour is the distance to the dense model of the same column, in points: what a column's domain makes hard or
    easy does not show, what a mask loses does.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(result["domains"])
    accuracy = 100 * np.asarray([*result["accuracy"], result["random"], result["dense"]])
    loss = accuracy - accuracy[-1]
    figure = Figure(figsize=(2.6 + 0.85 * len(names), 2.2 + 0.5 * len(names)), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # The scale is the masks'; a random mask may lie far below it.
    low = min(-1.0, float(loss[: len(names)].min()))
    high = max(0.0, float(loss[: len(names)].max()))
    image = axes.imshow(loss, cmap="viridis", vmin=low, vmax=high, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names) + 2), [*names, "random mask", "dense"])
    axes.set_xlabel("trained and tested on")
    axes.set_ylabel("mask found on")
    axes.axhline(len(names) - 0.5, color="white", linewidth=3)
    for row, column in np.ndindex(*accuracy.shape):
        dark = loss[row, column] < low + 0.6 * (high - low)
        axes.text(
            column, row, f"{accuracy[row, column]:.1f}", ha="center", va="center", fontsize=9,
            color="white" if dark else "black", fontweight="bold" if row == column else "normal",
        )  # fmt: skip
    axes.set_title(f"Test accuracy (%) at density {result['density']:.2f}", fontsize=11)
    figure.colorbar(image, label="points against dense", extend="min")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
