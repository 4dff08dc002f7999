"""Registrations are counted by how they ended, whatever the end was; through the real gate and a real Redis."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from routing.store import Store
from server.admin.counted import CountedRegistrations
from server.admin.registration import GateRefused, Submission
from server.gate.runner import Gate
from server.telemetry import GatewayMetrics
from tests.server.admin.registrar import Registrar, registrar
from tests.tiny import tiny_bundle

FAST = tiny_bundle("fast", 0.9, scale=0.5)
FAST_ID = hashlib.sha256(FAST).hexdigest()


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


def submission(house: Registrar, ticket: str | None = None) -> Submission:
    caller = house.gateway.caller({b"authorization": f"Bearer {house.keys['acme']}".encode()})
    return Submission(caller=caller, tenant="acme", ticket=ticket)


async def test_every_end_of_a_registration_is_counted_once(store: Store, tmp_path: Path) -> None:
    metrics = CollectorRegistry()
    async with registrar(store, tmp_path) as house:
        counted = CountedRegistrations(house.store, house.registry, Gate(), GatewayMetrics(metrics).control)
        try:
            for _ in range(2):
                steps = [item async for item in counted.register(submission(house), pieces(FAST))]
            with pytest.raises(GateRefused):
                [item async for item in counted.register(submission(house), pieces(b"no bundle at all"))]
            async with aclosing(counted.register(submission(house), pieces(FAST[:-1]))) as said:
                await anext(said)  # and its caller goes away
        finally:
            await counted.close()
    assert len(steps) == 1  # the second time it was known
    outcomes = {
        outcome: metrics.get_sample_value("tombola_registrations_total", {"tenant": "acme", "outcome": outcome})
        for outcome in ("registered", "known", "bad_bundle", "abandoned", "conflict")
    }
    assert outcomes == {"registered": 1, "known": 1, "bad_bundle": 1, "abandoned": 1, "conflict": None}
    assert metrics.get_sample_value("tombola_registration_step_seconds_count", {"step": "profile"}) == 1
    assert (metrics.get_sample_value("tombola_registration_step_seconds_sum", {"step": "profile"}) or 0) > 0
