"""Searches for the highest rate that a server holds: doubling, then bisection, over short honest runs.

A rate is held when the run is valid and the asked-for percentile over ALL requests (measured from the
intended time; a request without a good answer counts as infinitely late) stays within the limit.
The search itself is pure but for the ``measure`` it is given; `trial` makes one over HTTP.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable

import msgspec

from loadtest.record import Record, Run
from loadtest.report import MAX_LATENESS_MS, Report, Sla, reduce_run, strict_percentile_ms
from loadtest.run import Plan, Watch, run_load
from loadtest.schedule import MAX_RATE_PER_S, Step
from loadtest.send import Read, read_answer
from loadtest.workload import Requests

LOWEST_RATE_PER_S = 1.0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One short run. ``p99_ms`` is None where more than 1 % of the requests got no good answer."""

    rate_per_s: float
    valid: bool
    p99_ms: float | None
    answered_per_s: float

    def holds(self, limit_ms: float) -> bool:
        """Whether the run is valid and within the limit."""
        return self.valid and self.p99_ms is not None and self.p99_ms <= limit_ms


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome: the best trial that held (None: not even the lowest rate did), and every trial made."""

    limit_ms: float
    best: Trial | None
    limited_by: str
    """``server``, ``sender`` (the sender fell behind before the server did), or ``stopped``."""
    trials: list[Trial]


Measure = Callable[[float], Awaitable[Trial]]


async def find_max_rate(
    measure: Measure,
    *,
    limit_ms: float,
    start_per_s: float = 100.0,
    precision: float = 0.05,
    attempts: int = 2,
    growth: float = 2.0,
    lowest_per_s: float = LOWEST_RATE_PER_S,
    stop: asyncio.Event | None = None,
) -> Found:
    """The highest rate whose p99 stays within ``limit_ms``, to ``precision`` (relative).

    A rate is given up after ``attempts`` trials in a row that do not hold: other work on the machine can spoil one
    trial, and does not make the server slower. Every trial is reported. While rates hold, each is ``growth`` times the
    one before (small where ``start_per_s`` is a good guess); below ``lowest_per_s`` the search gives up.
    """
    search = _Search(measure, limit_ms, attempts, stop or asyncio.Event())
    low, high = 0.0, math.inf
    rate = start_per_s
    while lowest_per_s <= rate <= MAX_RATE_PER_S and (high == math.inf or high - low > precision * low):
        held = await search.holds(rate)
        if held is None:
            return search.found("stopped")
        low, high = (rate, high) if held else (low, rate)
        rate = growth * low if high == math.inf else (low + high) / 2
    refused = [trial for trial in search.trials if trial.rate_per_s == high]
    return search.found("sender" if refused and not any(trial.valid for trial in refused) else "server")


class _Search:
    """Makes trials and remembers them."""

    def __init__(self, measure: Measure, limit_ms: float, attempts: int, stop: asyncio.Event) -> None:
        self.trials: list[Trial] = []
        self._measure = measure
        self._limit_ms = limit_ms
        self._attempts = attempts
        self._stop = stop

    async def holds(self, rate_per_s: float) -> bool | None:
        """Whether one of up to ``attempts`` trials holds; None when the search was stopped."""
        for _ in range(self._attempts):
            if self._stop.is_set():
                return None
            trial = await self._measure(rate_per_s)
            if self._stop.is_set():
                return None  # a trial cut short proves nothing
            self.trials.append(trial)
            if trial.holds(self._limit_ms):
                return True
        return False

    def found(self, limited_by: str) -> Found:
        held = [trial for trial in self.trials if trial.holds(self._limit_ms)]
        best = max(held, key=lambda trial: trial.rate_per_s, default=None)
        return Found(limit_ms=self._limit_ms, best=best, limited_by=limited_by, trials=self.trials)


class HttpTrials:
    """Trials over HTTP: ``await trials(rate)`` is a `Measure`. Keeps the run of the best rate that held."""

    def __init__(
        self,
        plan: Plan,
        workload: Requests,
        sla: Sla,
        *,
        limit_ms: float,
        max_lateness_ms: float = MAX_LATENESS_MS,
        stop: asyncio.Event | None = None,
        watch: Watch | None = None,
        on_trial: Callable[[Trial], None] | None = None,
        read: Read = read_answer,
    ) -> None:
        self.best: tuple[Run, list[Record], Report] | None = None
        self._best_rate_per_s = 0.0
        self._plan = plan
        self._workload = workload
        self._sla = sla
        self._limit_ms = limit_ms
        self._max_lateness_ms = max_lateness_ms
        self._stop = stop
        self._watch = watch
        self._on_trial = on_trial
        self._read = read
        self._made = 0

    async def __call__(self, rate_per_s: float) -> Trial:
        """One run at ``rate_per_s``, with the plan's first step's duration and warm-up, and a seed of its own."""
        template = self._plan.steps[0]
        step = Step(rate_per_s=rate_per_s, duration_s=template.duration_s, warmup_s=template.warmup_s)
        plan = msgspec.structs.replace(self._plan, steps=[step], seed=self._plan.seed + self._made)
        self._made += 1
        run, records = await run_load(plan, self._workload, stop=self._stop, watch=self._watch, read=self._read)
        report = reduce_run(run, records, self._sla, max_lateness_ms=self._max_lateness_ms)
        p99_ms = strict_percentile_ms((record for record in records if not record.warmup), 0.99)
        trial = Trial(
            rate_per_s=rate_per_s,
            valid=report.valid,
            p99_ms=p99_ms if math.isfinite(p99_ms) else None,
            answered_per_s=report.steps[0].total.answered_per_s if report.steps else 0.0,
        )
        if trial.holds(self._limit_ms) and rate_per_s > self._best_rate_per_s and not run.interrupted:
            self.best, self._best_rate_per_s = (run, records, report), rate_per_s
        if self._on_trial:
            self._on_trial(trial)
        return trial
