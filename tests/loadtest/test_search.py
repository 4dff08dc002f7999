"""The search for the highest rate, against made-up servers, and once against a real one."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.report import Sla
from loadtest.run import Plan
from loadtest.schedule import Step
from loadtest.search import Found, HttpTrials, Trial, find_max_rate
from loadtest.workload import Target, Workload
from tests.loadtest.stub import Stub


class Machine:
    """Holds up to ``capacity``; its sender keeps up to ``sender``; every ``spoilt``-th trial is disturbed."""

    def __init__(self, capacity: float, sender: float = float("inf"), spoilt: int = 0) -> None:
        self.capacity, self.sender, self.spoilt = capacity, sender, spoilt
        self.asked: list[float] = []

    async def __call__(self, rate_per_s: float) -> Trial:
        self.asked.append(rate_per_s)
        disturbed = bool(self.spoilt) and len(self.asked) % self.spoilt == 0
        p99_ms = 10.0 if rate_per_s <= self.capacity and not disturbed else None
        return Trial(rate_per_s=rate_per_s, valid=rate_per_s <= self.sender, p99_ms=p99_ms, answered_per_s=rate_per_s)


def search(machine: Machine, start: float = 100.0, **options: object) -> Found:
    return asyncio.run(find_max_rate(machine, limit_ms=25, start_per_s=start, **options))  # type: ignore[arg-type]


@given(st.floats(5, 50_000), st.floats(1, 5000))
def test_the_rate_found_is_held_and_within_the_precision(capacity: float, start: float) -> None:
    machine = Machine(capacity)
    found = search(machine, start)
    assert found.best is not None
    assert capacity / 1.05 <= found.best.rate_per_s <= capacity
    assert found.limited_by == "server"
    assert len(found.trials) == len(machine.asked) < 70


def test_a_start_below_the_capacity_doubles_and_then_bisects() -> None:
    machine = Machine(700)
    search(machine, 100, attempts=1, precision=0.1)
    assert machine.asked == [100, 200, 400, 800, 600, 700, 750]


def test_a_start_near_the_capacity_takes_small_steps_up() -> None:
    machine = Machine(140)
    search(machine, 100, attempts=1, precision=0.1, growth=1.25)
    assert machine.asked == pytest.approx([100, 125, 156.25, 140.625, 132.8125])


def test_a_search_gives_up_below_the_lowest_rate() -> None:
    machine = Machine(0)
    found = search(machine, 100, attempts=1, lowest_per_s=30)
    assert found.best is None
    assert machine.asked == [100, 50]


def test_a_start_above_the_capacity_goes_down() -> None:
    machine = Machine(30)
    found = search(machine, 100, attempts=1)
    assert machine.asked[:3] == [100, 50, 25]
    assert found.best is not None


def test_a_server_that_holds_nothing_is_reported_as_such() -> None:
    found = search(Machine(0), 100)
    assert found.best is None
    assert found.trials[-1].rate_per_s >= 1


def test_the_senders_own_limit_is_named() -> None:
    """A run in which the sender fell behind says nothing about the server."""
    found = search(Machine(10_000, sender=300))
    assert found.best is not None
    assert found.best.rate_per_s <= 300
    assert found.limited_by == "sender"


def test_an_invalid_run_never_holds() -> None:
    assert not Trial(rate_per_s=1, valid=False, p99_ms=1.0, answered_per_s=1).holds(25)


def test_one_disturbed_trial_does_not_lower_the_result() -> None:
    found = search(Machine(1000, spoilt=3), attempts=2)
    assert found.best is not None
    assert found.best.rate_per_s == pytest.approx(1000, rel=0.05)


async def test_a_stopped_search_returns_what_it_knows() -> None:
    stop = asyncio.Event()
    machine = Machine(10_000)

    async def measure(rate_per_s: float) -> Trial:
        if rate_per_s > 300:
            stop.set()
        return await machine(rate_per_s)

    found = await find_max_rate(measure, limit_ms=25, start_per_s=100, stop=stop)
    assert found.best is not None
    assert (found.best.rate_per_s, found.limited_by) == (200, "stopped")


async def test_a_trial_over_http_measures_a_real_server() -> None:
    seen: list[Trial] = []
    workload = Workload([Target(tenant="a", key="tk_good", domain="banking")])
    async with Stub() as stub:
        plan = Plan(url=stub.url, steps=[Step(rate_per_s=1, duration_s=0.2, warmup_s=0.05)])
        trials = HttpTrials(plan, workload, Sla(), limit_ms=6e4, max_lateness_ms=6e4, on_trial=seen.append)
        trial = await trials(100)
    assert trial.holds(60_000)
    assert seen == [trial]
    assert trials.best is not None
    assert trials.best[2].steps[0].step.rate_per_s == 100
