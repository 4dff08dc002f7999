"""Measurements go before claims; being better than claimed is no fault; every gate is named where it is not passed."""

import pytest

from routing.account import Policy
from server.gate.judgement import MAX_SERVICE_MS, not_passed, overclaims, too_dear, worth
from tickets.claims import Claims
from tickets.evidence import Measured
from tickets.manifest import Evidence

CLAIMED = Claims(in_scope_accuracy=0.9, out_of_scope_recall=0.8, expected_calibration_error=0.02, loss=0.01)


def measured(**fields: float | None) -> Measured:
    values: dict[str, float | None] = {
        "in_scope_accuracy": 0.9,
        "out_of_scope_recall": 0.8,
        "expected_calibration_error": 0.02,
        "loss": 0.01,
    }
    return Measured(texts=1000, in_scope_texts=500, **(values | fields))  # type: ignore[arg-type]


def test_what_is_borne_out_or_better_is_no_overclaim() -> None:
    assert not list(overclaims(CLAIMED, measured()))
    assert not list(overclaims(CLAIMED, measured(in_scope_accuracy=1.0, expected_calibration_error=0.0, loss=-0.1)))
    assert not list(overclaims(CLAIMED, measured(in_scope_accuracy=0.889)))
    assert not list(overclaims(CLAIMED, measured(out_of_scope_recall=None, loss=None)))
    assert not list(overclaims(Claims(), measured(in_scope_accuracy=0.0)))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"in_scope_accuracy": 0.88}, "in-scope accuracy is 0.8800"),
        ({"out_of_scope_recall": 0.7}, "out-of-scope recall is 0.7000"),
        ({"expected_calibration_error": 0.06}, "calibration error is 0.0600"),
        ({"loss": 0.05}, "loss against the parent is 0.0500"),
    ],
)
def test_what_is_not_borne_out_is_named(found: dict[str, float], words: str) -> None:
    (problem,) = overclaims(CLAIMED, measured(**found))
    assert words in problem


def test_one_text_of_a_small_set_decides_nothing() -> None:
    small = Measured(texts=10, in_scope_texts=10, in_scope_accuracy=0.8, out_of_scope_recall=None,
                     expected_calibration_error=0.0, loss=None)  # fmt: skip
    assert not list(overclaims(CLAIMED, small))


def test_quality_is_the_mean_of_accuracy_and_recall_where_both_are_known() -> None:
    evidence = Evidence(quality=0.7)
    assert worth(evidence, CLAIMED, None).quality == pytest.approx(0.85)
    assert worth(evidence, Claims(in_scope_accuracy=0.7), None).quality == 0.7
    assert worth(evidence, CLAIMED, measured(in_scope_accuracy=0.5)).quality == pytest.approx(0.65)
    assert worth(evidence, Claims(), measured(out_of_scope_recall=None)).quality == 0.9


@pytest.mark.parametrize(
    ("policy", "claims", "gate"),
    [
        (Policy(min_quality=0.9), CLAIMED, "min_quality: 0.8500 is claimed"),
        (Policy(min_out_of_scope_recall=0.9), CLAIMED, "min_out_of_scope_recall: 0.8000 is claimed"),
        (Policy(max_loss=0.005), CLAIMED, "max_loss: 0.0100 is claimed"),
        (Policy(max_calibration_error=0.01), CLAIMED, "max_calibration_error: 0.0200 is claimed"),
        (Policy(max_loss=0.5), Claims(), "max_loss: neither measured nor claimed"),
        (Policy(max_calibration_error=0.5), Claims(), "max_calibration_error: neither measured nor claimed"),
        (Policy(min_out_of_scope_recall=0.1), Claims(), "min_out_of_scope_recall: neither measured nor claimed"),
        (Policy(requires_evidence=True), CLAIMED, "requires_evidence"),
    ],
)
def test_a_gate_that_is_not_passed_is_named(policy: Policy, claims: Claims, gate: str) -> None:
    (problem,) = not_passed(policy, worth(Evidence(quality=0.9), claims, None))
    assert problem.startswith(gate)


def test_gates_that_are_passed_say_nothing() -> None:
    policy = Policy(min_quality=0.85, max_loss=0.01, max_calibration_error=0.02, requires_evidence=True)
    assert not list(not_passed(policy, worth(Evidence(quality=0.9), CLAIMED, measured())))
    assert not list(not_passed(Policy(), worth(Evidence(quality=0.0), Claims(), None)))


def test_time_has_a_bound_without_any_policy() -> None:
    assert not list(too_dear(Policy(), MAX_SERVICE_MS, 1 << 40))
    assert list(too_dear(Policy(), MAX_SERVICE_MS + 1, 0))
    assert list(too_dear(Policy(max_service_ms=600_000.0), MAX_SERVICE_MS + 1, 0))
