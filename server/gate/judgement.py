"""Judgement: measurements against claims, and both against a tenant's policy.

Owns which gate looks at which number, what counts where nothing was measured, and the words of a refusal, each of
which names its gate. Pure.
"""

from collections.abc import Iterator

import msgspec

from routing.account import Policy
from tickets.claims import CALIBRATION_TOLERANCE, TOLERANCE, Claims, combined
from tickets.evidence import Measured
from tickets.manifest import Evidence

MAX_SERVICE_MS = 10_000.0
"""One row alone, whatever the policy: what takes longer makes no deadline that anybody sets."""


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates look at: measured where there is an evidence set, else claimed; None where neither says."""

    quality: float
    out_of_scope_recall: float | None
    expected_calibration_error: float | None
    loss: float | None
    is_measured: bool


def worth(evidence: Evidence, claimed: Claims, measured: Measured | None) -> Worth:
    """Measurements go before claims, one by one."""
    found = measured or Measured(
        texts=0,
        in_scope_texts=0,
        in_scope_accuracy=None,
        out_of_scope_recall=None,
        expected_calibration_error=0.0,
        loss=None,
    )
    accuracy = _first(found.in_scope_accuracy, claimed.in_scope_accuracy)
    recall = _first(found.out_of_scope_recall, claimed.out_of_scope_recall)
    return Worth(
        quality=combined(accuracy, recall, otherwise=_first(accuracy, evidence.quality) or 0.0),
        out_of_scope_recall=recall,
        expected_calibration_error=(
            claimed.expected_calibration_error if measured is None else measured.expected_calibration_error
        ),
        loss=_first(found.loss, claimed.loss),
        is_measured=measured is not None,
    )


def overclaims(claimed: Claims, measured: Measured) -> Iterator[str]:
    """What is claimed and does not hold. Being better than claimed is no fault."""
    texts_out = measured.texts - measured.in_scope_texts
    for name, claim, found, texts in (
        ("in-scope accuracy", claimed.in_scope_accuracy, measured.in_scope_accuracy, measured.in_scope_texts),
        ("out-of-scope recall", claimed.out_of_scope_recall, measured.out_of_scope_recall, texts_out),
    ):
        if claim is not None and found is not None and found < claim - TOLERANCE - 1 / texts:
            yield f"{name} is {found:.4f} on the evidence set, {claim:.4f} is claimed"
    claim, found = claimed.expected_calibration_error, measured.expected_calibration_error
    if claim is not None and found > claim + CALIBRATION_TOLERANCE:
        yield f"the calibration error is {found:.4f} on the evidence set, {claim:.4f} is claimed"
    claim, loss = claimed.loss, measured.loss
    if claim is not None and loss is not None and loss > claim + TOLERANCE + 1 / max(1, measured.in_scope_texts):
        yield f"the loss against the parent is {loss:.4f} on the evidence set, {claim:.4f} is claimed"


def too_dear(policy: Policy, service_ms: float, resident_bytes: int) -> Iterator[str]:
    """The gates on the profile of this host that are not passed."""
    limit_ms = min(MAX_SERVICE_MS, policy.max_service_ms or MAX_SERVICE_MS)
    if service_ms > limit_ms:
        yield f"max_service_ms: one row alone takes {service_ms:.3g} ms on this host, {limit_ms:g} are allowed"
    if policy.max_resident_bytes is not None and resident_bytes > policy.max_resident_bytes:
        yield f"max_resident_bytes: it takes {resident_bytes} bytes of memory, {policy.max_resident_bytes} are allowed"


def not_passed(policy: Policy, found: Worth) -> Iterator[str]:
    """The policy's gates on a ticket's worth that are not passed. One that nothing speaks for is not passed."""
    if policy.requires_evidence and not found.is_measured:
        yield "requires_evidence: the bundle carries no evidence set (member evidence.json)"
    source = "measured" if found.is_measured else "claimed"
    for gate, value, least in (
        ("min_quality", found.quality, policy.min_quality),
        ("min_out_of_scope_recall", found.out_of_scope_recall, policy.min_out_of_scope_recall),
    ):
        if least is not None and (value is None or value < least):
            yield f"{gate}: {_shown(value, source)}, at least {least:g} is asked for"
    for gate, value, most in (
        ("max_loss", found.loss, policy.max_loss),
        ("max_calibration_error", found.expected_calibration_error, policy.max_calibration_error),
    ):
        if most is not None and (value is None or value > most):
            yield f"{gate}: {_shown(value, source)}, at most {most:g} is allowed"


def _shown(value: float | None, source: str) -> str:
    return "neither measured nor claimed" if value is None else f"{value:.4f} is {source}"


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
