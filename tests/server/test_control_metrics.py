"""What is measured of the control plane and of Redis."""

import pytest
from prometheus_client import CollectorRegistry

from routing.canary import Arm, Counts, Trial
from server.control_metrics import RedisMetrics
from server.tally import Tally
from server.telemetry import GatewayMetrics


class World:
    """A gateway's metrics on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.control = GatewayMetrics(self.registry, max_tenants=2).control

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"tombola_{name}", labels)


@pytest.fixture
def world() -> World:
    return World()


def test_registrations_are_counted_by_how_they_ended(world: World) -> None:
    for tenant in ("a", "a", "b", "c"):
        world.control.registered(tenant, "registered")
    world.control.registered("a", "samples_differ")
    assert world.value("registrations_total", tenant="a", outcome="registered") == 2
    assert world.value("registrations_total", tenant="other", outcome="registered") == 1
    assert world.value("registrations_total", tenant="a", outcome="samples_differ") == 1


def test_steps_of_registrations_are_timed(world: World) -> None:
    world.control.registration_step("profile", 0.2)
    world.control.registration_step("profile", 3.0)
    assert world.value("registration_step_seconds_count", step="profile") == 2
    assert world.value("registration_step_seconds_bucket", step="profile", le="0.25") == 1


def test_refusals_by_limits_are_counted_by_limit(world: World) -> None:
    world.control.limited("a", "rate")
    world.control.limited("a", "day")
    world.control.limited("a", "rate")
    assert world.value("limit_refusals_total", tenant="a", limit="rate") == 2
    assert world.value("limit_refusals_total", tenant="a", limit="day") == 1


def test_trials_are_shown_as_they_stand_and_gone_when_they_end(world: World) -> None:
    trial = Trial(tenant="a", domain="banking", ticket="t", started_at=0.0)
    running = {trial: Counts(canary=Arm(asks=10, errors=1, late=2), current=Arm(asks=90))}
    world.control.canaries = lambda: running
    who = {"tenant": "a", "domain": "banking"}
    assert world.value("canary_asks_total", **who, side="canary", outcome="ok") == 7
    assert world.value("canary_asks_total", **who, side="canary", outcome="error") == 1
    assert world.value("canary_asks_total", **who, side="canary", outcome="late") == 2
    assert world.value("canary_asks_total", **who, side="current", outcome="ok") == 90
    running.clear()
    assert world.value("canary_asks_total", **who, side="canary", outcome="ok") is None
    world.control.judged("a", "banking", "bad")
    assert world.value("canaries_judged_total", **who, verdict="bad") == 1


def test_when_table_and_accounts_were_taken_up_is_shown_once_there_are_any(world: World) -> None:
    assert world.value("table_used_timestamp_seconds") is None
    assert world.value("accounts") is None
    world.control.use_table(7, now=100.0)
    world.control.use_accounts(3, now=200.0)
    assert world.value("table_version") == 7
    assert world.value("table_used_timestamp_seconds") == 100
    assert world.value("accounts") == 3
    assert world.value("accounts_used_timestamp_seconds") == 200


def test_redis_is_up_when_the_last_announcement_came_through() -> None:
    registry, now = CollectorRegistry(), [0.0]
    redis = RedisMetrics(Tally(registry), lambda: now[0])
    assert registry.get_sample_value("tombola_redis_up") is None  # nobody has tried yet
    with redis.trip():
        now[0] += 0.003
    assert registry.get_sample_value("tombola_redis_up") == 1
    assert registry.get_sample_value("tombola_redis_seconds_bucket", {"le": "0.0025"}) == 0
    assert registry.get_sample_value("tombola_redis_seconds_bucket", {"le": "0.005"}) == 1
    with pytest.raises(OSError, match="away"), redis.trip():
        raise OSError("away")
    assert registry.get_sample_value("tombola_redis_up") == 0
    assert registry.get_sample_value("tombola_redis_failures_total") == 1
    assert registry.get_sample_value("tombola_redis_seconds_count") == 1
