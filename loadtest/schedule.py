"""When requests are due: seeded arrival times of one step, pure and lazy.

A step is a rate held for a while: a warm-up part that no result counts, then the measured
part. A sweep is several steps. Times are seconds since the step's start and never depend
on the clock, on answers, or on how long an earlier request took: that is what makes the
load open-loop. What is sent at each time belongs to `loadtest.workload`.
"""

import math
import random
from collections.abc import Iterator
from typing import Literal

import msgspec

Arrivals = Literal["poisson", "constant"]
MAX_RATE_PER_S = 1_000_000.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One rate, held for ``warmup_s`` (sent, not counted) and then ``duration_s`` (counted)."""

    rate_per_s: float
    duration_s: float
    warmup_s: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for a step that could send nothing or never end."""
        if not 0 < self.rate_per_s <= MAX_RATE_PER_S:
            raise ValueError(f"a rate is above 0 and at most {MAX_RATE_PER_S:.0f} per second, not {self.rate_per_s}")
        if not (0 < self.duration_s < math.inf and 0 <= self.warmup_s < math.inf):
            raise ValueError("a step lasts more than 0 seconds, and its warm-up is not negative")

    @property
    def end_s(self) -> float:
        """When the step's last request may be due, in seconds since its start."""
        return self.warmup_s + self.duration_s


def arrivals(step: Step, kind: Arrivals, seed: str | int) -> Iterator[float]:
    """Due times in [0, step.end_s), rising. The same arguments always give the same times.

    ``constant`` spaces them evenly, by multiplication, so that no rounding error adds up.
    ``poisson`` draws independent exponential gaps, so requests bunch as strangers' requests do.
    """
    if kind == "constant":
        yield from _constant(step)
    else:
        yield from _poisson(step, seed)


def _constant(step: Step) -> Iterator[float]:
    index = 0
    while (at_s := index / step.rate_per_s) < step.end_s:
        yield at_s
        index += 1


def _poisson(step: Step, seed: str | int) -> Iterator[float]:
    draw = random.Random(f"arrivals/{seed}").random
    at_s = 0.0
    while True:
        at_s -= math.log(1.0 - draw()) / step.rate_per_s
        if at_s >= step.end_s:
            return
        yield at_s


def parse_rates(text: str) -> list[float]:
    """``"100,200,400"`` to its numbers. Raises ValueError for an empty list or what is not a positive number."""
    try:
        rates = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"{text!r} is not a rate such as 200, nor a sweep such as 100,200,400") from None
    if not rates or not all(0 < rate <= MAX_RATE_PER_S for rate in rates):
        raise ValueError(f"every rate is above 0 and at most {MAX_RATE_PER_S:.0f} per second, not {text!r}")
    return rates
