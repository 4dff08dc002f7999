"""Claims: what a manifest says its ticket is worth, in the few numbers that anybody acts on.

Owns which entries of a manifest's evidence those are, the one quality that routing compares, and by how much a
measurement may fall short of a claim. Measuring is `tickets.evidence`'s.
"""

import msgspec

from tickets.manifest import Evidence

TOLERANCE = 0.01
"""By which a share of texts may be worse than claimed, beside one text: kernels differ between hosts."""
CALIBRATION_TOLERANCE = 0.03
"""By which the calibration error may be larger: the factory takes it over other domains' texts too."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """Fractions; None where the manifest claims nothing."""

    in_scope_accuracy: float | None = None
    out_of_scope_recall: float | None = None
    expected_calibration_error: float | None = None
    loss: float | None = None
    """In-scope accuracy lost against the dense parent."""


def claims(evidence: Evidence) -> Claims:
    """What a manifest's evidence claims. Its ``quality`` is its in-scope accuracy where the report has none.

    What is no fraction is no claim.
    """
    found = {name: _fraction(evidence.report.get(name)) for name in Claims.__struct_fields__}
    if found["in_scope_accuracy"] is None:
        found["in_scope_accuracy"] = evidence.quality
    return Claims(**found)


def quality(evidence: Evidence) -> float:
    """How often the ticket is right: the mean of in-scope accuracy and out-of-scope recall, where its evidence has
    both. In-scope accuracy alone hardly tells the tickets of a family apart: what pruning costs first is knowing
    what one does not know (see the starter's REPORT.md)."""
    parts = [_fraction(evidence.report.get(name)) for name in ("in_scope_accuracy", "out_of_scope_recall")]
    return combined(*parts, otherwise=evidence.quality)


def combined(accuracy: float | None, recall: float | None, *, otherwise: float) -> float:
    """The one quality of two measurements; ``otherwise`` where one of them is missing."""
    return otherwise if accuracy is None or recall is None else (accuracy + recall) / 2


def _fraction(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0.0 <= value <= 1.0 else None  # type: ignore[operator, arg-type]
