"""Arrival times: their count, their order, their law, their seed."""

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.schedule import Arrivals, Step, arrivals, parse_rates

STEPS = st.builds(
    Step,
    rate_per_s=st.floats(0.5, 500),
    duration_s=st.floats(0.05, 3),
    warmup_s=st.floats(0, 1),
)
KINDS: st.SearchStrategy[Arrivals] = st.sampled_from(("poisson", "constant"))


@pytest.mark.parametrize(
    ("rate", "duration", "times"),
    [
        (4.0, 1.0, [0.0, 0.25, 0.5, 0.75]),
        (1.0, 0.5, [0.0]),
        (2.0, 1.25, [0.0, 0.5, 1.0]),
    ],
)
def test_constant_arrivals_are_evenly_spaced(rate: float, duration: float, times: list[float]) -> None:
    assert list(arrivals(Step(rate_per_s=rate, duration_s=duration), "constant", 0)) == times


@given(STEPS, KINDS, st.integers())
def test_times_rise_and_stay_inside_the_step(step: Step, kind: Arrivals, seed: int) -> None:
    times = list(arrivals(step, kind, seed))
    assert times == sorted(times)
    assert all(0 <= at_s < step.end_s for at_s in times)


@given(STEPS, KINDS, st.integers())
def test_the_same_seed_gives_the_same_times(step: Step, kind: Arrivals, seed: int) -> None:
    assert list(arrivals(step, kind, seed)) == list(arrivals(step, kind, seed))


@given(STEPS, st.integers(0, 1000))
def test_a_longer_step_begins_like_the_shorter_one(step: Step, seed: int) -> None:
    """The warm-up and the duration cut the same endless sequence; they do not redraw it."""
    longer = Step(rate_per_s=step.rate_per_s, duration_s=step.duration_s + 1, warmup_s=step.warmup_s)
    short = list(arrivals(step, "poisson", seed))
    assert list(itertools.islice(arrivals(longer, "poisson", seed), len(short))) == short


@given(st.floats(1, 1000), st.floats(0.1, 10))
def test_a_constant_rate_sends_rate_times_duration(rate: float, duration: float) -> None:
    count = sum(1 for _ in arrivals(Step(rate_per_s=rate, duration_s=duration), "constant", 0))
    assert abs(count - rate * duration) <= 1


def test_poisson_gaps_are_exponential() -> None:
    """Mean and deviation of the gaps are 1 / rate, and as many as should be are longer than the mean."""
    times = list(arrivals(Step(rate_per_s=1000, duration_s=20), "poisson", 7))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == pytest.approx(20_000, abs=5 * math.sqrt(20_000))
    assert statistics.mean(gaps) == pytest.approx(0.001, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(0.001, rel=0.05)
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), abs=0.02)


def test_seeds_differ() -> None:
    step = Step(rate_per_s=100, duration_s=1)
    assert list(arrivals(step, "poisson", 1)) != list(arrivals(step, "poisson", 2))


def test_poisson_times_are_pinned() -> None:
    """A seed means the same load on every machine and Python version."""
    times = list(itertools.islice(arrivals(Step(rate_per_s=10, duration_s=10), "poisson", "0/0"), 3))
    assert times == pytest.approx(PINNED, rel=1e-12)


PINNED = [0.08310291839781551, 0.09059903772161461, 0.14435289797991643]


@pytest.mark.parametrize("values", [(0, 1, 0), (-1, 1, 0), (math.inf, 1, 0), (math.nan, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_a_step_that_makes_no_sense_is_refused(values: tuple[float, float, float]) -> None:
    rate, duration, warmup = values
    with pytest.raises(ValueError, match=r"rate|step"):
        Step(rate_per_s=rate, duration_s=duration, warmup_s=warmup)


def test_parse_rates_reads_one_rate_and_a_sweep() -> None:
    assert parse_rates("200") == [200.0]
    assert parse_rates("100, 200,400") == [100.0, 200.0, 400.0]


@pytest.mark.parametrize("text", ["", "fast", "100,,-3", "0", "nan", "inf"])
def test_parse_rates_refuses_what_is_not_a_rate(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rates(text)
