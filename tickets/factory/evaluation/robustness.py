"""Robustness: what shifted texts cost a ticket, and how much more than they cost its parent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.factory.data import Examples
from tickets.factory.evaluation.separation import rounded
from tickets.factory.evaluation.shift import SHIFTS
from tickets.factory.quality import Calibrated, Floats, compare, correct, in_scope_scores

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Decided:
    """What one model made of some texts at its frozen threshold. ``hits``: of each in-scope text whether the label is
    right; ``kept`` of in-scope texts and ``refused`` of the data set's own out-of-scope texts.
    """

    hits: Bools
    kept: Bools
    refused: Bools

    @classmethod
    def of(cls, logits: Floats, examples: Examples, calibrated: Calibrated) -> "Decided":
        """From ``logits`` [n, labels + 1] of the n examples."""
        kinds = np.asarray(examples.kinds)
        kept = in_scope_scores(logits, calibrated) >= calibrated.threshold
        return cls(correct(logits, examples.targets, kinds), kept[kinds == "in"], ~kept[kinds == "out"])


@dataclass(frozen=True, slots=True)
class UnderShift:
    """One model on the texts as they are, and on each shift of the same texts."""

    clean: Decided
    shifted: Mapping[str, Decided]

    def dropped(self, name: str) -> NDArray[np.float64]:
        """Of each in-scope text what the shift costs: 1 lost, 0 nothing, -1 won."""
        return self.clean.hits.astype(np.float64) - self.shifted[name].hits


def robustness(ticket: UnderShift, parent: UnderShift | None) -> dict[str, dict[str, Any]]:
    """Per shift its strength, the ticket's accuracy, kept share and out-of-scope recall, the drop in points against
    clean texts, and with a parent the drop beyond the parent's with a 95 % bootstrap interval over texts.
    """
    out: dict[str, dict[str, Any]] = {}
    for name, one in ticket.shifted.items():
        entry: dict[str, Any] = {
            "strength": SHIFTS[name].strength,
            "accuracy": _share(one.hits),
            "kept": _share(one.kept),
        }
        if len(one.refused):
            entry["out_of_scope_recall"] = _share(one.refused)
        mine = ticket.dropped(name)
        entry["drop_points"] = _points(mine)
        if parent is not None:
            theirs = parent.dropped(name)
            extra = compare(mine, theirs)
            entry |= {
                "parent_drop_points": _points(theirs),
                "extra_drop_points": extra["points"], "extra_drop_points_ci": extra["points_ci"],
            }  # fmt: skip
        out[name] = entry
    return out


def _share(values: Bools) -> float:
    return round(float(values.mean()), 5)


def _points(values: NDArray[np.float64]) -> float:
    return rounded(100 * float(values.mean()), 3)
