"""Speed: percentiles by hand, and what a measurement of real tickets holds. Never how fast this machine is."""

from pathlib import Path

import numpy as np
import pytest

from tickets import bundle as bundles
from tickets import starter
from tickets.factory import speed
from tickets.factory.speed import Percentiles, Speed, cost, percentiles
from tickets.reference import Reference

TEXTS = ("what is my balance", "freeze my card please", "send money to my landlord for the rent of this month")


def test_percentiles_by_hand() -> None:
    """Linear between neighbours, in any order; one time is all of them."""
    assert percentiles([float(i) for i in reversed(range(101))]) == Percentiles(50.0, 95.0, 99.0)
    assert percentiles([1.0, 2.0]) == Percentiles(1.5, 1.95, 1.99)
    assert percentiles([3.0]) == Percentiles(3.0, 3.0, 3.0)


def test_no_times_have_no_percentiles() -> None:
    """Rather than a number that nobody measured."""
    with pytest.raises(ValueError, match="no times"):
        percentiles([])


def test_a_cost_holds_what_was_measured() -> None:
    """Bytes alone, or with times."""
    assert cost(10) == {"bytes": 10}
    measured = Speed(900.0, (8.0, 7.0, 9.0), 1.0, 1.0, 2.0, 3.0)
    assert cost(10, measured) == {
        "bytes": 10, "texts_per_s": 900.0, "speedup": 8.0, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0
    }  # fmt: skip


def test_a_measurement_holds_percentiles_of_one_text_and_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order; the baseline is as fast as itself; a tick for every round."""
    monkeypatch.setattr(speed, "ROUNDS", 2)
    monkeypatch.setattr(speed, "ROUND_SECONDS", 0.02)
    folder = Path(starter.__file__).parent
    references = {name: Reference(bundles.read(folder / f"banking-{name}.ticket")) for name in ("accurate", "fast")}
    ticks: list[None] = []
    found = speed.measure(references, "accurate", TEXTS, lambda: ticks.append(None))
    assert len(ticks) == 2
    assert found["accurate"].speedup == (1.0, 1.0, 1.0)
    for one in found.values():
        assert 0 < one.alone_ms == one.p50_ms <= one.p95_ms <= one.p99_ms
        assert 0 < one.batch_p50_ms <= one.batch_p95_ms <= one.batch_p99_ms
        assert one.texts_per_s > 0
        assert np.isfinite(one.speedup).all()
