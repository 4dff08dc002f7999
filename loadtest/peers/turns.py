"""In which order and how often: settings first, then turns in which every system is measured once.

A turn of one system: start, closed loops, open loop at several rates, the search for the best rate, then overload.
Systems take turns, so that a machine that changes its speed changes it for all. Everything is kept as soon
as it is known; what is there already is not measured again.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from loadtest.peers.catalogue import WHOLE_FAMILY, Setting, System
from loadtest.peers.closed_loop import Closed, saturate
from loadtest.peers.environments import PeerFailed, python_of
from loadtest.peers.measure import (
    Running,
    cost_between,
    find_best_rate,
    measure_rate,
    measure_saturated,
    rates_up_to,
)
from loadtest.peers.results import BareTurn, Overloaded, Result, Results, Saturated, Tried, Turn
from loadtest.peers.start import HERE, Context, started
from loadtest.schedule import Step

BARE = "bare"
OVERLOAD_FACTOR = 3.0


class Scale(NamedTuple):
    """How much is measured. The default takes less than half an hour for nine systems on two cores."""

    turns: int = 2
    limit_ms: float = 25.0
    connections: Sequence[int] = (16, 64)
    rates: Sequence[float] = (100, 200, 400, 800, 1200, 1600, 2000, 2500)
    settings: int = 9
    """So many settings of each system are tried."""
    try_s: float = 2.0
    closed_s: float = 4.0
    warmup_s: float = 1.0
    """Before closed loops and overload; half of it before each rate."""
    rate_s: float = 2.5
    trial_s: float = 2.5
    overload_s: float = 4.0
    bare_s: float = 2.0


QUICK = Scale(
    turns=1, rates=(50, 200), settings=1, try_s=1.0, closed_s=1.0, rate_s=1.0, trial_s=0.0, overload_s=1.0, bare_s=0.5
)
"""Only shows that everything works."""

Say = Callable[[str], None]


class Bench:
    """The systems, the scale and the results; `run` does all that is not done yet."""

    def __init__(self, systems: Sequence[System], scale: Scale, results: Results, peers: Path, say: Say) -> None:
        self.found: dict[str, Result] = {BARE: results.load(BARE, "bare loop")}
        self._systems = systems
        self._scale = scale
        self._results = results
        self._peers = peers
        self._say = say

    def run(self, context: Context, domain: str) -> None:
        """Settings of every system, then turn after turn of all systems."""
        for number, system in enumerate(self._systems, start=1):
            self._say(f"settings, {number} of {len(self._systems)}: {system.title}{self._done_before(system)}")
            self._guarded(system, context, self._tune)
        for turn in range(self._scale.turns):
            if len(self.found[BARE].bare) <= turn:
                self.found[BARE].bare.append(bare_turn(context, domain, self._scale.bare_s))
                self._results.save(self.found[BARE])
            for number, system in enumerate(self._systems, start=1):
                result = self.found[system.name]
                if not result.failure and len(result.turns) <= turn:
                    where = f"turn {turn + 1} of {self._scale.turns}, {number} of {len(self._systems)}"
                    self._say(f"{where}: {system.title} ({result.setting})")
                    self._guarded(system, context, self._take_turn)

    def _done_before(self, system: System) -> str:
        """What an earlier run has left to take up."""
        result = self._results.load(system.name, system.title)
        return f" (there already: {len(result.turns)} turns, {result.setting})" if result.setting else ""

    def _guarded(self, system: System, context: Context, work: Callable[[System, Result, Path, Context], None]) -> None:
        """Do ``work`` on the system's result and keep it; a system that fails says why, and the others go on."""
        result = self.found.setdefault(system.name, self._results.load(system.name, system.title))
        result.requirements, result.note, result.failure = list(system.requirements), system.note, ""
        # fastapi-batching is fastapi with another program: they share what is installed.
        home = system.name.partition("-")[0]
        try:
            work(system, result, python_of(home, system.requirements, self._peers), context)
        except PeerFailed as error:
            result.failure = str(error)
            self._say(f"  FAILED: {error}")
        self._results.save(result)

    def _tune(self, system: System, result: Result, python: Path, context: Context) -> None:
        if result.setting:
            return
        settings = system.settings[: self._scale.settings]
        if len(settings) > 1:
            result.tried = [self._try(system, setting, python, context) for setting in settings]
            if all(tried.failure for tried in result.tried):
                raise PeerFailed(result.tried[0].failure)
            best = max(result.tried, key=lambda tried: tried.closed[0].per_s if tried.closed else 0.0)
            result.setting = best.setting
        else:
            result.setting = settings[0].name

    def _try(self, system: System, setting: Setting, python: Path, context: Context) -> Tried:
        """The setting under both closed loops. The first decides: it is nearest to where p99 meets the limit."""
        closed: list[Closed] = []
        try:
            with started(system, setting, python, context) as (running, _):
                self._warm_up(running)
                closed += [self._closed(running, connections).closed for connections in self._scale.connections]
        except PeerFailed as error:
            self._say(f"  {setting.name}: {error}")
            return Tried(setting=setting.name, closed=[], failure=str(error))
        rates = ", ".join(f"{one.per_s:,.0f}/s with {one.connections} connections" for one in closed)
        self._say(f"  {setting.name}: {rates}")
        return Tried(setting=setting.name, closed=closed)

    def _closed(self, running: Running, connections: int) -> Saturated:
        return measure_saturated(running, connections, self._scale.try_s)

    def _warm_up(self, running: Running) -> None:
        connections = self._scale.connections[0]
        saturate(
            running.url, running.patient, connections=connections, seconds=self._scale.warmup_s, scratch=running.scratch
        )

    def _take_turn(self, system: System, result: Result, python: Path, context: Context) -> None:
        setting = next(setting for setting in system.settings if setting.name == result.setting)
        is_restarted = system.limit is not None and not system.is_ours
        with started(system, setting, python, context) as (running, start_s):
            idle = running.tree.usage()
            turn = Turn(start_s=start_s, idle=cost_between(idle, idle, 0))
            self._warm_up(running)
            turn = self._add_saturated(turn, running)
            capacity_per_s = self._capacity_per_s(system, turn)
            turn = self._add_rates(turn, running, capacity_per_s)
            turn = self._add_best(turn, running, result, capacity_per_s)
            if not is_restarted:
                turn = self._add_overload(turn, running, capacity_per_s, system.limit.name if system.limit else "")
        if is_restarted and system.limit is not None:
            # As many as are answered in half the limit: the other half is for their bunching and the way there.
            limit = max(2, round(capacity_per_s * self._scale.limit_ms / 2000))
            with started(system, setting, python, context, limit) as (running, _):
                self._warm_up(running)
                turn = self._add_overload(turn, running, capacity_per_s, f"{system.limit.name}: {limit}")
        result.turns.append(turn)

    def _capacity_per_s(self, system: System, turn: Turn) -> float:
        """The saturated rate; for the whole family that of the asked ticket alone, which it may leave."""
        alone = self.found.get("tombola") if system.name == WHOLE_FAMILY else None
        measured = alone.turns[-1] if alone and alone.turns else turn
        return measured.saturated[-1].closed.per_s

    def _add_overload(self, turn: Turn, running: Running, capacity_per_s: float, bound: str) -> Turn:
        """Three times the capacity; a system that breaks down there keeps what was found before."""
        rate_per_s = OVERLOAD_FACTOR * capacity_per_s
        step = Step(rate_per_s=rate_per_s, duration_s=self._scale.overload_s, warmup_s=self._scale.warmup_s)
        try:
            point = measure_rate(running, step, self._scale.limit_ms, seed=1)
        except PeerFailed as error:
            self._say(f"  at {rate_per_s:,.0f}/s: {error}")
            return turn
        self._say(f"  at {rate_per_s:,.0f}/s: {point.goodput_per_s:,.0f}/s good in time")
        return _with(turn, overloaded=Overloaded(capacity_per_s=capacity_per_s, limit=bound, point=point))

    def _add_saturated(self, turn: Turn, running: Running) -> Turn:
        found = []
        for connections in self._scale.connections:
            found.append(measure_saturated(running, connections, self._scale.closed_s))
            self._say(f"  {connections} connections: {found[-1].closed.per_s:,.0f}/s")
        return _with(turn, saturated=found)

    def _add_rates(self, turn: Turn, running: Running, capacity_per_s: float) -> Turn:
        points = []
        for rate_per_s in rates_up_to(self._scale.rates, capacity_per_s):
            step = Step(rate_per_s=rate_per_s, duration_s=self._scale.rate_s, warmup_s=self._scale.warmup_s / 2)
            points.append(measure_rate(running, step, self._scale.limit_ms, seed=len(turn.points)))
        shown = ", ".join(f"{point.rate_per_s:g}/s {_ms(point.p99_ms)}" for point in points)
        if points:
            self._say(f"  open loop, p99: {shown}")
        return _with(turn, points=points)

    def _add_best(self, turn: Turn, running: Running, result: Result, capacity_per_s: float) -> Turn:
        if not self._scale.trial_s:
            return turn
        guess = result.turns[-1].best_per_s if result.turns else 0.0
        found = find_best_rate(
            running,
            start_per_s=guess or 0.7 * capacity_per_s,
            limit_ms=self._scale.limit_ms,
            step=Step(rate_per_s=1, duration_s=self._scale.trial_s, warmup_s=self._scale.warmup_s / 2),
        )
        best_per_s = found.best.rate_per_s if found.best else 0.0
        self._say(f"  best rate with p99 <= {self._scale.limit_ms:g} ms: {best_per_s:,.0f}/s")
        return _with(turn, best_per_s=best_per_s, best_limited_by=found.limited_by, trials=found.trials)


def bare_turn(context: Context, domain: str, seconds: float) -> BareTurn:
    """The bare loop's rates."""
    found = bare_loop(context.ticket, domain, "--seconds", str(seconds))
    return BareTurn(
        plain_per_s=found["plain"]["texts_per_s"],
        grouped_per_s=found["grouped"]["texts_per_s"],
        grouped_cpu_s_per_1000=found["grouped"]["cpu_s_per_1000"],
    )


def bare_loop(ticket: Path, domain: str, *more: str) -> dict:  # type: ignore[type-arg]
    """What `loadtest.peers.programs.bare_loop` prints. Raises PeerFailed."""
    command = [sys.executable, "-m", "loadtest.peers.programs.bare_loop", "--ticket", str(ticket), "--domain", domain]
    result = subprocess.run([*command, *more], cwd=HERE, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PeerFailed(f"the bare loop failed: {result.stderr[-500:]}")
    found: dict = json.loads(result.stdout)  # type: ignore[type-arg]
    return found


def _with(turn: Turn, **more: object) -> Turn:
    return msgspec.structs.replace(turn, **more)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
