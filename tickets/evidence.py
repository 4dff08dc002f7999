"""The evidence set: texts with labels that a bundle may carry, so that its claims can be measured again.

Owns the form of the member ``evidence.json`` and what is measured on it, by the definitions of the factory
(`tickets.factory.quality`), from a ticket's answers alone. Whoever answers the texts is the caller's business,
and what claims may differ by, `tickets.claims`'s.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from tickets.bundle import Bundle, BundleError

MEMBER = "evidence.json"
MAX_TEXTS = 50_000
BINS = 15
"""Of the calibration error, equally wide."""


class EvidenceSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The member ``evidence.json``. A label of null: the text is out of scope."""

    texts: Annotated[list[Annotated[str, Meta(max_length=65536)]], Meta(min_length=1, max_length=MAX_TEXTS)]
    labels: Annotated[list[str | None], Meta(max_length=MAX_TEXTS)]
    parent: Annotated[list[str | None], Meta(max_length=MAX_TEXTS)] | None = None
    """What the dense parent answered: a label, or null where it found the text out of scope."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One text's answer: the best label, whether it was in scope, and how sure the ticket was of its first choice."""

    label: str
    in_scope: bool
    confidence: float
    """The largest probability, that of being out of scope included."""
    is_label_first: bool
    """Whether that largest probability is the label's, and not that of being out of scope."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket is worth on an evidence set, as fractions; None where the set has no texts for it."""

    texts: int
    in_scope_texts: int
    in_scope_accuracy: float | None
    """Of the in-scope texts, those whose best label is right, whether or not they were kept in scope."""
    out_of_scope_recall: float | None
    """Of the out-of-scope texts, those that were found out of scope."""
    expected_calibration_error: float
    """Over all classes, out of scope included (Guo et al. 2017)."""
    loss: float | None
    """In-scope texts that the parent answered rightly, less those that this ticket did, as a fraction of them all.
    A right answer has the right label and was kept in scope."""


def read_evidence(bundle: Bundle) -> EvidenceSet | None:
    """The bundle's evidence set, None where it carries none. Raises BundleError (``bad_evidence``)."""
    if MEMBER not in bundle.members:
        return None
    try:
        evidence = msgspec.json.decode(bundle.members[MEMBER], type=EvidenceSet)
    except (ValueError, RecursionError) as error:
        raise BundleError("bad_evidence", f"{MEMBER} does not decode: {error}") from error
    rows = len(evidence.texts)
    if len(evidence.labels) != rows or (evidence.parent is not None and len(evidence.parent) != rows):
        raise BundleError("bad_evidence", f"{MEMBER}: texts, labels and parent do not have the same number of rows")
    unknown = ({*evidence.labels} | {*(evidence.parent or ())}) - {*bundle.manifest.labels, None}
    if unknown:
        raise BundleError(
            "bad_evidence", f"{MEMBER} has labels that the manifest lacks: {sorted(map(str, unknown))[:5]}"
        )
    return evidence


def measure(evidence: EvidenceSet, answers: Sequence[Answer]) -> Measured:
    """Judge one answer for each text. Raises ValueError where their numbers differ."""
    pairs = list(zip(evidence.labels, answers, strict=True))
    inside = [(label, answer) for label, answer in pairs if label is not None]
    outside = [answer for label, answer in pairs if label is None]
    return Measured(
        texts=len(pairs),
        in_scope_texts=len(inside),
        in_scope_accuracy=_share([answer.label == label for label, answer in inside]),
        out_of_scope_recall=_share([not answer.in_scope for answer in outside]),
        expected_calibration_error=_calibration_error(evidence.labels, answers),
        loss=_loss(evidence, answers),
    )


def _loss(evidence: EvidenceSet, answers: Sequence[Answer]) -> float | None:
    if evidence.parent is None:
        return None
    rows = zip(evidence.labels, answers, evidence.parent, strict=True)
    inside = [(label, answer, parent) for label, answer, parent in rows if label is not None]
    if not inside:
        return None
    own = sum(answer.in_scope and answer.label == label for label, answer, _ in inside)
    parents = sum(parent == label for label, _, parent in inside)
    return round((parents - own) / len(inside), 5)


def _calibration_error(labels: Sequence[str | None], answers: Sequence[Answer]) -> float:
    confidence = np.array([answer.confidence for answer in answers], np.float64)
    right = np.array([
        (answer.label == label) if answer.is_label_first else label is None
        for label, answer in zip(labels, answers, strict=True)
    ])  # fmt: skip
    edges = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    total = 0.0
    for b in range(BINS):
        chosen = edges == b
        if chosen.any():
            total += chosen.mean() * abs(float(right[chosen].mean()) - float(confidence[chosen].mean()))
    return round(float(total), 5)


def _share(hits: Sequence[bool]) -> float | None:
    return round(sum(hits) / len(hits), 5) if hits else None
