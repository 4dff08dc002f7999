"""Sound bundles pass the gate, and the report says what was found out; what a policy asks for is looked at."""

import base64
from pathlib import Path

import pytest

from routing.account import Policy
from server.gate.report import REFUSAL_OF
from tests.server.gate.bundles import TEXTS, bundle, examine, examine_bytes
from tests.tiny import tiny_bundle
from tickets.bundle import ticket_id
from tickets.signing import new_private, public_text, sign

STARTER = Path(__file__).parents[3] / "tickets" / "starter"


async def test_a_sound_bundle_takes_every_step_and_is_accepted(tmp_path: Path) -> None:
    data = tiny_bundle()
    steps, report = await examine_bytes(data, tmp_path)
    assert [step.name for step in steps] == list(REFUSAL_OF)
    assert {step.name: step.status for step in steps if step.status != "passed"} == {
        "signature": "skipped",
        "evidence": "skipped",
    }
    assert report.accepted
    assert report.refusal is None
    assert (report.ticket, report.bytes) == (ticket_id(data), len(data))
    assert (report.tenant, report.domain, report.tier) == ("acme", "home", "fast")
    assert report.quality == 0.9
    assert report.service_ms > 0
    assert report.resident_bytes >= 256 << 10
    assert report.steps == steps


@pytest.mark.parametrize("name", ["banking-fast", "travel-accurate"])
async def test_the_starters_tickets_pass(name: str) -> None:
    _, report = await examine(STARTER / f"{name}.ticket")
    assert report.accepted, report.message
    assert 0.9 < report.quality < 1.0


async def test_domain_and_tier_of_the_request_go_before_the_manifests(tmp_path: Path) -> None:
    _, report = await examine_bytes(tiny_bundle(), tmp_path, domain="kitchen", tier="best")
    assert (report.domain, report.tier) == ("kitchen", "best")


async def test_a_bundle_without_a_tier_needs_one_from_the_request(tmp_path: Path) -> None:
    _, report = await examine_bytes(bundle(tier=None), tmp_path)
    assert report.refusal == "manifest_mismatch"
    assert "tier" in report.message
    _, report = await examine_bytes(bundle(tier=None), tmp_path, tier="fast")
    assert report.accepted


async def test_a_signature_that_holds_is_named(tmp_path: Path) -> None:
    data, private = tiny_bundle(), new_private()
    signature = base64.b64encode(sign(private, ticket_id(data))).decode()
    policy = Policy(requires_signature=True, signers={"release": public_text(private)})
    steps, report = await examine_bytes(data, tmp_path, policy=policy, signature=f"release:{signature}")
    assert report.accepted, report.message
    assert steps[1].facts == {"signer": "release"}


async def test_evidence_is_measured_and_its_numbers_are_what_routing_gets(tmp_path: Path) -> None:
    evidence = {"texts": list(TEXTS), "labels": list(TEXTS.values()), "parent": list(TEXTS.values())}
    steps, report = await examine_bytes(bundle(evidence_set=evidence), tmp_path)
    facts = {step.name: step for step in steps}["evidence"].facts
    assert facts["texts"] == 6
    assert (facts["in_scope_accuracy"], facts["out_of_scope_recall"], facts["loss"]) == (1.0, 1.0, 0.0)
    assert report.quality == 1.0


@pytest.mark.parametrize(
    ("policy", "gate"),
    [
        (Policy(requires_evidence=True), "requires_evidence"),
        (Policy(min_quality=0.95), "min_quality"),
        (Policy(max_loss=0.1), "max_loss"),
        (Policy(max_calibration_error=0.1), "max_calibration_error"),
        (Policy(min_out_of_scope_recall=0.5), "min_out_of_scope_recall"),
    ],
)
async def test_a_policys_gate_that_is_not_passed_is_named(tmp_path: Path, policy: Policy, gate: str) -> None:
    _, report = await examine_bytes(tiny_bundle(), tmp_path, policy=policy)
    assert (report.refusal, report.refused_step) == ("gate_failed", "policy")
    assert report.message.startswith(gate)


@pytest.mark.parametrize(
    ("policy", "gate"),
    [(Policy(max_service_ms=0.0001), "max_service_ms"), (Policy(max_resident_bytes=1000), "max_resident_bytes")],
)
async def test_what_it_costs_on_this_host_is_a_gate_too(tmp_path: Path, policy: Policy, gate: str) -> None:
    _, report = await examine_bytes(tiny_bundle(), tmp_path, policy=policy)
    assert report.refusal == "profile_refused"
    assert report.message.startswith(gate)
    assert report.service_ms > 0


async def test_the_process_says_what_it_is_kept_from(tmp_path: Path) -> None:
    _, report = await examine_bytes(tiny_bundle(), tmp_path)
    assert "no new privileges" in report.confinement
    assert not [words for words in report.confinement if "NOT" in words]
