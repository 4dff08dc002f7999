"""What is written down: for each system its settings tried and its turns, one JSON file per system.

Owns the records, their files and the medians over turns. A run that is started again goes on where the files
end, provided that they were made with the same conditions.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from loadtest.peers.closed_loop import Closed
from loadtest.search import Trial


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What the system's processes took, all of them together."""

    cpu_s_per_1000: float | None
    """CPU seconds per 1,000 good answers; None where there was none."""
    pss_bytes: int
    rss_bytes: int
    processes: int


class Saturated(msgspec.Struct, frozen=True, kw_only=True):
    """One closed loop and its cost."""

    closed: Closed
    cost: Cost


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One open-loop run at one rate. Latency counts from the intended time, over good answers and timeouts."""

    rate_per_s: float
    is_valid: bool
    """False where the sender fell behind."""
    answered_per_s: float
    goodput_per_s: float
    good_after_sending_per_s: float
    """As goodput, but counted from when the bytes were sent: tells a slow server from a sender that fell behind."""
    sent_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    p99_after_sending_ms: float | None
    errors: dict[str, int]
    tickets: dict[str, int]
    cost: Cost
    quality: float | None = None
    """Mean held-out accuracy of the tickets that answered, where the system says which did."""


class Overloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What is left at three times the capacity (the turn's saturated rate with most connections)."""

    capacity_per_s: float
    limit: str
    """How the system bounds its queue; empty where it has no way to."""
    point: Point


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One system's turn."""

    start_s: float
    """From the start of its first process to the first right answer."""
    idle: Cost
    saturated: list[Saturated] = []
    points: list[Point] = []
    best_per_s: float = 0.0
    """Highest rate whose p99 over ALL requests stays within the limit; 0 where no rate tried did."""
    best_limited_by: str = ""
    trials: list[Trial] = []
    overloaded: Overloaded | None = None


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A setting and how it did; the best at 16 connections is kept."""

    setting: str
    closed: list[Closed]
    failure: str = ""


class BareTurn(msgspec.Struct, frozen=True, kw_only=True):
    """Texts per second of one core without a server: padded plainly, and with rows grouped by length."""

    plain_per_s: float
    grouped_per_s: float
    grouped_cpu_s_per_1000: float


class Result(msgspec.Struct, kw_only=True):
    """All about one system. ``conditions`` tells results that can be compared from those that cannot."""

    name: str
    title: str
    conditions: str
    requirements: list[str] = []
    setting: str = ""
    note: str = ""
    tried: list[Tried] = []
    turns: list[Turn] = []
    bare: list[BareTurn] = []
    failure: str = ""


class Results:
    """The results of a folder, by system."""

    def __init__(self, folder: Path, conditions: str, digests: Mapping[str, str] | None = None) -> None:
        """``digests``: of each system, what it is (`loadtest.peers.conditions`)."""
        self._folder = folder
        self._conditions = conditions
        self._digests = digests or {}
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, name: str, title: str) -> Result:
        """What is known of a system under the same conditions; an empty result where nothing is."""
        try:
            result = msgspec.json.decode(self._path(name).read_bytes(), type=Result)
        except (OSError, msgspec.DecodeError):
            result = None
        conditions = f"{self._conditions}; {name} {self._digests.get(name, '')}".rstrip()
        if result is None or result.conditions != conditions:
            return Result(name=name, title=title, conditions=conditions)
        return result

    def save(self, result: Result) -> None:
        """Keep what is known by now; a reader never sees half a file."""
        path = self._path(result.name)
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        draft.replace(path)

    def forget(self, name: str) -> None:
        """Throw away what is known of a system."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def median(values: Iterable[float | None]) -> float | None:
    """The median of the values that are there; None where none is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def over_turns(result: Result, pick: Callable[[Turn], float | None]) -> float | None:
    """The median over a system's turns."""
    return median(pick(turn) for turn in result.turns)


def saturated_at(turn: Turn, connections: int) -> Saturated | None:
    """The closed loop with so many connections."""
    return next((one for one in turn.saturated if one.closed.connections == connections), None)


def point_at(turn: Turn, rate_per_s: float) -> Point | None:
    """The open-loop run at this rate."""
    return next((point for point in turn.points if point.rate_per_s == rate_per_s), None)
