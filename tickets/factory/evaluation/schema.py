"""Schema: the numbers that an evaluation document may hold, by their places. What a gate may ask for.

A test compares this list with what the suite writes, so that neither can move without the other.
"""

from collections.abc import Iterator

from tickets.factory.evaluation.separation import KEEP, OUTSIDE
from tickets.factory.evaluation.shift import SHIFTS

_PLAIN = (
    "accuracy.in_scope", "accuracy.parent", "accuracy.loss_points", "accuracy.loss_points_at_most",
    "accuracy.mcnemar_p",
    "agreement.share", "agreement.churn", "agreement.in_scope", "agreement.mean_kl",
    "calibration.temperature", "calibration.ece_before", "calibration.ece", "calibration.ece_in_scope",
    "calibration.ece_equal_mass_before", "calibration.ece_equal_mass", "calibration.brier", "calibration.nll",
    "calibration.parent_ece", "calibration.ece_increase",
    "out_of_scope.kept", "out_of_scope.fpr",
    "forgetting.forgotten_count", "forgetting.worst_drop_points",
    "shift_extra_drop_points",
    "cost.bytes", "cost.texts_per_s", "cost.speedup", "cost.p50_ms", "cost.p95_ms", "cost.p99_ms",
)  # fmt: skip
_OUTSIDE = (
    "recall", "auroc", "auroc_loss", "auroc_loss_at_most", "recall_loss_points", "recall_loss_points_at_most",
)  # fmt: skip
_SHIFT = ("accuracy", "kept", "out_of_scope_recall", "drop_points", "parent_drop_points", "extra_drop_points")


def numbers() -> tuple[str, ...]:
    """Every dotted path at which a document may hold one number. Parts that need a parent, out-of-scope texts or a
    measured cost are missing from documents without these.
    """
    return tuple(_numbers())


def _numbers() -> Iterator[str]:
    yield from _PLAIN
    thresholds = [f"{100 * keep:.0f}" for keep in KEEP]
    yield from (f"out_of_scope.kept_at.{name}" for name in thresholds)
    for kind in OUTSIDE:
        yield from (f"out_of_scope.{kind}.{key}" for key in _OUTSIDE)
        yield from (f"out_of_scope.{kind}.recall_at.{name}" for name in thresholds)
    for shift in SHIFTS:
        yield from (f"shift.{shift}.{key}" for key in _SHIFT)
