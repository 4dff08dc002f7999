"""The picture's curves, and that pictures are written for a run and a sweep."""

import importlib.util
from pathlib import Path

import pytest

from loadtest.plot import curves, plot
from loadtest.report import Sla, reduce_run
from loadtest.schedule import Step
from tests.loadtest.test_report import a_record, a_run

needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")


def test_a_curve_ends_where_the_count_no_longer_supports_it() -> None:
    """From 100 requests a p99 can be drawn, a p99.9 cannot."""
    records = [a_record(took=n / 1000) for n in range(1, 101)]
    (points,) = curves(records, 0).values()
    assert max(share for share, _ in points) == 0.99
    assert [value for _, value in points] == sorted(value for _, value in points)


def test_curves_are_by_tier_and_leave_out_warm_up_errors_and_other_steps() -> None:
    left_out = [a_record(warmup=True), a_record(code="overloaded"), a_record(step=1)]
    found = curves([a_record(tier="fast"), a_record(tier="slow"), *left_out], 0)
    assert {tier: len({value for _, value in points}) for tier, points in found.items()} == {"fast": 1, "slow": 1}


@needs_matplotlib
@pytest.mark.parametrize("rates", [(100,), (100, 200, 400)])
def test_a_picture_is_written(tmp_path: Path, rates: tuple[float, ...]) -> None:
    steps = [Step(rate_per_s=rate, duration_s=1) for rate in rates]
    records = [a_record(took=n / 1000, step=index) for index in range(len(rates)) for n in range(1, 50)]
    path = tmp_path / "run.png"
    plot(reduce_run(a_run(*steps), records, Sla()), records, path)
    assert path.read_bytes().startswith(b"\x89PNG")
