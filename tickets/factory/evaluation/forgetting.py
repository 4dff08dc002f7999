"""Forgetting: what the parent knew and the ticket does not, class by class (Hooker et al. 2019, "What Do Compressed
Deep Neural Networks Forget?").
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tickets.factory.quality import Targets
from tickets.factory.verdict import holm

DROP_POINTS = 10.0
ALPHA = 0.01

Bools = NDArray[np.bool_]


def forgetting(ticket: Bools, parent: Bools, targets: Targets, labels: Sequence[str]) -> dict[str, Any]:
    """Of each class recall of parent and ticket, the drop in points, and the p-value of an exact McNemar test after
    Holm. ``forgotten``: classes that lose more than `DROP_POINTS` with p below `ALPHA`. All arrays are of the in-scope
    test texts.
    """
    rows: list[dict[str, Any]] = []
    for i, label in enumerate(labels):
        chosen = targets == i
        a, b = parent[chosen], ticket[chosen]
        rows.append({
            "label": label, "texts": int(chosen.sum()), "parent": round(float(a.mean()), 5),
            "ticket": round(float(b.mean()), 5), "drop_points": round(100 * float(a.mean() - b.mean()), 3),
            "p": mcnemar(b, a),
        })  # fmt: skip
    for row, p in zip(rows, holm([float(row["p"]) for row in rows]), strict=True):
        row["p"] = round(p, 6)
    forgotten = [str(r["label"]) for r in rows if r["drop_points"] > DROP_POINTS and r["p"] < ALPHA]
    return {
        "classes": rows, "forgotten": forgotten, "forgotten_count": len(forgotten),
        "worst_drop_points": max(float(r["drop_points"]) for r in rows),
        "lost_texts": [int(i) for i in np.flatnonzero(parent & ~ticket)],
    }  # fmt: skip


def mcnemar(ticket: Bools, parent: Bools) -> float:
    """Exact two-sided McNemar test on paired hits (binomial on the texts where they differ)."""
    lost, won = int((parent & ~ticket).sum()), int((ticket & ~parent).sum())
    if lost + won == 0:
        return 1.0
    return float(stats.binomtest(lost, lost + won, 0.5).pvalue)
