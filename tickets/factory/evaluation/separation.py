"""Separation: how well in-scope and out-of-scope texts are told apart, at the frozen threshold and at any other.

Pure functions on in-scope scores (higher: more in scope). An alarm is a text that is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.factory.quality import Floats, compare

KEEP = (0.99, 0.97, 0.95)
"""Shares of validation in-scope texts that thresholds keep, at which out-of-scope recall is told."""
OUTSIDE = ("out", "near")
"""Kinds of out-of-scope texts: the data set's own, and other domains'."""
_NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Scored:
    """One model's in-scope scores: ``test`` by kind of text, each [texts of the kind]; ``validation`` of the in-scope
    validation texts. ``threshold`` was frozen on the latter.
    """

    test: Mapping[str, Floats]
    validation: Floats
    threshold: float

    @classmethod
    def of(cls, scores: Floats, kinds: Sequence[str], validation: Floats, threshold: float) -> "Scored":
        """Split the ``scores`` [n] of the test texts by their ``kinds`` [n]."""
        of = np.asarray(kinds)
        return cls({kind: scores[of == kind] for kind in ("in", *OUTSIDE)}, validation, threshold)

    def refused(self, kind: str) -> NDArray[np.bool_]:
        """Of each test text of a kind whether it is refused at the frozen threshold."""
        return np.asarray(self.test[kind] < self.threshold)


def separation(scored: Scored) -> dict[str, Any]:
    """Shares kept and refused at the frozen threshold, and per kind of out-of-scope text its recall and AUROC."""
    thresholds = {f"{100 * keep:.0f}": float(np.quantile(scored.validation, 1 - keep)) for keep in KEEP}
    alarms = scored.refused("in")
    out: dict[str, Any] = {
        "kept": round(float(1 - alarms.mean()), 5),
        "fpr": round(float(alarms.mean()), 5),
        "kept_at": {name: _share(scored.test["in"] >= at) for name, at in thresholds.items()},
    }
    for kind in OUTSIDE:
        outside = scored.test[kind]
        if len(outside):
            out[kind] = {
                "recall": _share(scored.refused(kind)),
                "auroc": round(float(placements(scored.test["in"], outside)[0].mean()), 5),
                "recall_at": {name: _share(outside < at) for name, at in thresholds.items()},
            }
    return out


def lost_separation(ticket: Scored, parent: Scored, kind: str) -> dict[str, Any]:
    """What the ticket lost against the parent on one kind of out-of-scope text, each at its own threshold.

    The recall's interval is the paired bootstrap's; the AUROC's is DeLong's for two models on the same texts (DeLong,
    DeLong & Clarke-Pearson 1988, equations 5 to 8).
    """
    gain = compare(ticket.refused(kind), parent.refused(kind))
    loss, error = _auroc_loss(ticket, parent, kind)
    reach = _NORMAL_95 * error
    return {
        "auroc_loss": rounded(loss, 5),
        "auroc_loss_ci": [rounded(loss - reach, 5), rounded(loss + reach, 5)],
        "auroc_loss_at_most": rounded(loss + reach, 5),
        **{f"recall_{key}": value for key, value in losses(gain).items()},
    }


def placements(inside: Floats, outside: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each in-scope text the share of out-of-scope texts that score below it, and for each out-of-scope text the
    share of in-scope ones above, ties counting half. The mean of either is the AUROC.
    """
    return _share_below(inside, outside), 1 - _share_below(outside, inside)


def losses(gain: Mapping[str, Any]) -> dict[str, Any]:
    """`quality.compare` (ticket minus parent) turned into what was lost: positive is worse."""
    low, high = gain["points_ci"]
    return {
        "loss_points": rounded(-gain["points"], 5),
        "loss_points_ci": [rounded(-high, 5), rounded(-low, 5)],
        "loss_points_at_most": rounded(-low, 5),
    }


def rounded(value: float, digits: int) -> float:
    """``value`` for a document: rounded, and never minus zero."""
    return round(float(value), digits) + 0.0


def _auroc_loss(ticket: Scored, parent: Scored, kind: str) -> tuple[float, float]:
    """Parent minus ticket, and its standard error."""
    pairs = zip(
        placements(parent.test["in"], parent.test[kind]), placements(ticket.test["in"], ticket.test[kind]), strict=True
    )
    of_inside, of_outside = (theirs - mine for theirs, mine in pairs)
    variance = sum(float(one.var(ddof=1)) / len(one) for one in (of_inside, of_outside) if len(one) > 1)
    return float(of_inside.mean()), float(np.sqrt(variance))


def _share_below(values: Floats, others: Floats) -> NDArray[np.float64]:
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(below / (2 * len(others)), np.float64)


def _share(values: NDArray[np.bool_]) -> float:
    return round(float(values.mean()), 5)
