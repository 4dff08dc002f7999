"""The history: the last fifteen minutes of what all processes have counted, one step for each sample. Pure.

Owns the ring of increases and what is known of each process. Counters of one process become increases here, so that a
restart, which begins them anew, is never a fall: what a new process has counted since its start is its increase. A
process that did not answer is caught up with when it does. Time is passed in; who samples is
`server.dashboard.board`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec
import numpy as np
from numpy.typing import NDArray

from routing.lease import LeaseKind
from server.dashboard.series import BY_PROCESS, SUM, Key, Reading

STEP_S = 5.0
SLOTS = 180
MAX_SERIES = 1 << 15
"""Series that are kept at most; later ones are left out while there is no room. All labels are bounded besides."""
_FIRST_SERIES = 256

Floats = NDArray[np.float64]


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one process."""

    kind: LeaseKind
    name: str
    is_up: bool
    """Whether it answered the last sample."""
    is_known: bool
    """Whether it had a lease then, or was remembered while Redis was away."""
    seen_at: float | None
    """When it last answered; None: it never has."""
    started_at: float | None
    restarts: tuple[float, ...] = ()
    """When it was found to be a new process under the old name, within the history."""
    gauges: Mapping[Key, float] = MappingProxyType({})
    """Of its last answer."""


class Window:
    """The steps of some seconds, to be looked at; it does not change when the history goes on.

    ``at`` has the moment at which each step ended, ``seconds`` how long it was.
    """

    def __init__(
        self, at: Floats, seconds: Floats, places: Mapping[Key, int], rows: NDArray[np.float32],
        processes: Mapping[str, Process], bounds: Mapping[str, Floats],
    ) -> None:  # fmt: skip
        self.at, self.seconds = at, seconds
        self.bounds = bounds
        """Of each histogram the upper bounds of all its buckets, ascending; the last one is infinite."""
        self.covered_s = float(seconds.sum())
        self.processes = processes
        self._places = places
        self._rows = rows
        self._totals = rows.sum(axis=1, dtype=np.float64)
        self._by_name: dict[str, list[Key]] | None = None

    def total(self, key: Key) -> float:
        """By how much a series grew."""
        row = self._places.get(key)
        return 0.0 if row is None else float(self._totals[row])

    def steps(self, keys: Sequence[Key]) -> Floats:
        """By how much each series grew in each step: one row for each step, one column for each key."""
        out = np.zeros((len(keys), len(self.at)))
        for place, key in enumerate(keys):
            row = self._places.get(key)
            if row is not None:
                out[place] = self._rows[row]
        return out.T

    def keys(self, name: str) -> Sequence[Key]:
        """All series of a metric that grew within the window."""
        if self._by_name is None:
            grouped: dict[str, list[Key]] = defaultdict(list)
            totals = self._totals.tolist()
            for key, row in self._places.items():
                if totals[row] > 0:
                    grouped[key[0]].append(key)
            self._by_name = grouped
        return self._by_name.get(name, ())


class History:
    """Samples go in by `add`; what can be looked at comes out by `window`."""

    def __init__(self, slots: int = SLOTS, max_series: int = MAX_SERIES) -> None:
        self._slots = slots
        self._max_series = max_series
        self._at = np.zeros(slots)
        self._seconds = np.zeros(slots)
        self._rows = np.zeros((min(_FIRST_SERIES, max_series), slots), np.float32)  # a series lies in one piece
        self._places: dict[Key, int] = {}
        self._filled = 0
        self._next = 0
        self._first_at: float | None = None
        self._last_at = 0.0
        self._last: dict[str, Reading] = {}
        self._bounds: dict[str, frozenset[str]] = {}
        self._processes: dict[str, Process] = {}

    @property
    def steps(self) -> int:
        """How many steps there are to look at."""
        return self._filled

    def add(self, at: float, readings: Sequence[Reading]) -> None:
        """What all processes said at ``at`` (seconds since 1970). Where the clock has gone back, begin anew."""
        if self._first_at is not None and at <= self._last_at:
            self._first_at, self._filled, self._last = None, 0, {}
        increases: dict[Key, float] = defaultdict(float)
        for reading in readings:
            for name, bounds in reading.bounds.items():
                self._bounds[name] = self._bounds.get(name, frozenset()) | bounds
            if reading.is_up:
                self._count(reading, increases)
        if self._first_at is None:
            self._first_at = at
        else:
            self._put(at, at - self._last_at, increases)
        self._last_at = at
        self._meet(at, readings)

    def window(self, seconds: float) -> Window:
        """The last ``seconds``, or what there is of them."""
        order = [(self._next - 1 - i) % self._slots for i in range(self._filled)]
        half = STEP_S / 2  # steps are only about as long as they should be
        slots = [i for i in order if self._at[i] - self._seconds[i] >= self._last_at - seconds - half][::-1]
        return Window(
            at=self._at[slots], seconds=self._seconds[slots], places=dict(self._places),
            rows=self._rows[: len(self._places), slots], processes=dict(self._processes),
            bounds={name: np.array(sorted(map(float, bounds))) for name, bounds in self._bounds.items()},
        )  # fmt: skip

    def _count(self, reading: Reading, increases: dict[Key, float]) -> None:
        """Add what a process has counted since it was last heard of."""
        before = self._last.get(reading.name)
        if before is None and (
            self._first_at is None or reading.started_at is None or reading.started_at < self._first_at
        ):
            return  # it was there before this history began: who knows when it counted that
        earlier = before.counters if before is not None and before.started_at == reading.started_at else {}
        for key, value in reading.counters.items():
            increase = value - earlier.get(key, 0.0)
            if increase < 0:
                increase = value
            if increase > 0:
                increases[key] += increase
                if key[0] in BY_PROCESS and key[-1] != SUM:
                    increases[of_process(key[0], reading.name)] += increase

    def _put(self, at: float, seconds: float, increases: Mapping[Key, float]) -> None:
        slot = self._next
        missing = [key for key in increases if key not in self._places]
        if missing:
            self._make_room(len(missing))
            for key in missing[: len(self._rows) - len(self._places)]:
                self._places[key] = len(self._places)
        known = [(self._places[key], increase) for key, increase in increases.items() if key in self._places]
        self._rows[:, slot] = 0.0
        if known:
            rows, values = zip(*known, strict=True)
            self._rows[list(rows), slot] = values
        self._at[slot], self._seconds[slot] = at, seconds
        self._next = (slot + 1) % self._slots
        self._filled = min(self._slots, self._filled + 1)

    def _make_room(self, count: int) -> None:
        """Forget the series that nothing has been counted of; then have room for ``count`` more, within the bound."""
        if len(self._places) + count <= len(self._rows):
            return
        largest: NDArray[np.float32] = self._rows.max(axis=1)
        kept = [(key, row) for key, row in self._places.items() if largest[row] > 0]
        size = len(self._rows)
        while size < len(kept) + count and size < self._max_series:
            size = min(2 * size, self._max_series)
        rows = np.zeros((size, self._slots), np.float32)
        rows[: len(kept)] = self._rows[[row for _, row in kept]]
        self._rows = rows
        self._places = {key: place for place, (key, _) in enumerate(kept)}

    def _meet(self, at: float, readings: Sequence[Reading]) -> None:
        """Remember the processes as they are now; forget those that have been gone for longer than the history."""
        horizon = at - self._slots * STEP_S
        present = {reading.name for reading in readings}
        for reading in readings:
            self._processes[reading.name] = _now(self._processes.get(reading.name), reading, at, horizon)
            if reading.is_up:
                self._last[reading.name] = reading
        for name, process in list(self._processes.items()):
            if name in present:
                continue
            if process.seen_at is None or process.seen_at < horizon:
                del self._processes[name]
                self._last.pop(name, None)
            else:
                self._processes[name] = msgspec.structs.replace(process, is_up=False, is_known=False)


def of_process(name: str, process: str) -> Key:
    """The series of what one process alone has counted of a metric, all its labels together."""
    return (f"{name} by process", process)


def _now(before: Process | None, reading: Reading, at: float, horizon: float) -> Process:
    if not reading.is_up:
        if before is None:
            return Process(
                kind=reading.kind, name=reading.name, is_up=False, is_known=True, seen_at=None, started_at=None
            )
        return msgspec.structs.replace(before, is_up=False, is_known=True)
    restarts = () if before is None else tuple(moment for moment in before.restarts if moment >= horizon)
    if before is not None and before.started_at not in (None, reading.started_at):
        restarts = (*restarts, at)
    return Process(
        kind=reading.kind, name=reading.name, is_up=True, is_known=True, seen_at=at, started_at=reading.started_at,
        restarts=restarts, gauges=reading.gauges,
    )  # fmt: skip
