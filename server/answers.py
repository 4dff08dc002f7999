"""What tickets answer: how sure, in scope or not, and whether that drifts from what they answered when they were new.

Owns the hand-over between threads: the run thread leaves a batch's columns here and goes on; counting is done on the
loop, some times a second and before a scrape. Shown are counts per ticket, and for the tickets that have a name
(`server.labels`) the indices of `server.drift`. Baselines that are measured come from `server.baseline`.
"""

import threading
from collections import deque
from collections.abc import Iterator

import numpy as np

from server.drift import CONFIDENCE_BINS, KINDS, NOTHING, Drift, Kind, Seen, see
from server.labels import OTHER, TICKET_DIGITS, Names
from server.tally import Labels, Tally
from server.task import CHOICE, CONFIDENCE, IN_SCOPE, Columns, FixedColumn

MAX_PENDING = 8192
"""Batches that may wait to be counted. More wait only where the loop has hung; then the oldest are not counted."""

_Left = tuple[str, bytes, bytes, bytes]  # a ticket, and of its rows: confidence, in scope, label


class _Ticket:
    """One label's counts; ``drift`` is of the one ticket that it stands for."""

    __slots__ = ("drift", "indices", "is_fresh", "seen")

    def __init__(self, drift: Drift | None) -> None:
        self.seen, self.drift = NOTHING, drift
        self.indices: dict[Kind, float] = {}
        self.is_fresh = False


class Answers:
    """What one worker's tickets answer."""

    def __init__(self, tally: Tally, tickets: Names) -> None:
        self._names = tickets
        self._left: deque[_Left] = deque(maxlen=MAX_PENDING)
        self._tickets: dict[str, _Ticket] = {}
        self._lock = threading.Lock()  # between the loop and the loader thread, which brings baselines
        confidence = tally.histogram(
            "tombola_ticket_confidence",
            "How sure tickets are of their answers, calibrated: the probability of the likeliest.", ("ticket",),
            bounds=[round(0.1 * (i + 1), 1) for i in range(CONFIDENCE_BINS)],
        )  # fmt: skip
        rows = tally.counter("tombola_ticket_rows", "Answers (rows) by whether they are in scope.", ("ticket", "scope"))
        self._confidence, self._rows = confidence, rows
        tally.reading(
            "tombola_ticket_drift",
            "Population stability index of the ticket's last 2,000 answers against its baseline: 0.1 watch, 0.25 act.",
            ("ticket", "kind"), self._drift,
        )  # fmt: skip
        tally.reading(
            "tombola_ticket_drift_baseline_rows", "Answers that the baseline of a ticket's drift is made of.",
            ("ticket", "source"), self._baselines,
        )  # fmt: skip

    def note(self, ticket: str, columns: Columns) -> None:
        """Leave a batch's answers to be counted; those of a task that is not sure of anything count for nothing."""
        confidence, in_scope, choice = columns.get(CONFIDENCE), columns.get(IN_SCOPE), columns.get(CHOICE)
        if (
            isinstance(confidence, FixedColumn)
            and isinstance(in_scope, FixedColumn)
            and isinstance(choice, FixedColumn)
        ):
            self._left.append((ticket, confidence.data, in_scope.data, choice.data))

    def count(self) -> None:
        """Count what has been left."""
        by_ticket: dict[str, tuple[list[bytes], list[bytes], list[bytes]]] = {}
        for _ in range(len(self._left)):
            ticket, *columns = self._left.popleft()
            for pieces, column in zip(by_ticket.setdefault(ticket, ([], [], [])), columns, strict=True):
                pieces.append(column)
        for ticket, (confidence, in_scope, choice) in by_ticket.items():
            self._add(ticket, seen_in(b"".join(confidence), b"".join(in_scope), b"".join(choice)))

    def begin(self, ticket: str, baseline: Seen, source: str) -> None:
        """A baseline has been measured. One that is there already stays, unless it is of the first answers."""
        with self._lock:
            mine = self._of(ticket)
            if mine.drift is not None and mine.drift.source in ("", "first_answers"):
                mine.drift.begin(baseline, source)
                mine.is_fresh = False

    def wants_baseline(self, ticket: str) -> bool:
        """Whether a measured baseline of this ticket would be of use."""
        with self._lock:
            drift = self._of(ticket).drift
            return drift is not None and drift.source in ("", "first_answers")

    def _add(self, ticket: str, seen: Seen) -> None:
        with self._lock:
            mine = self._of(ticket)
            label = self._label(ticket)
            if mine.drift is not None:
                mine.drift.add(seen)
                mine.is_fresh = False
        buckets = self._confidence.of(label)
        for place, rows in enumerate(seen.confidence.tolist()):
            buckets.counts[place] += rows
        buckets.total += seen.confidence_sum
        self._rows.of(label, "in").value += seen.in_scope
        self._rows.of(label, "out").value += seen.rows - seen.in_scope

    def _of(self, ticket: str) -> _Ticket:
        label = self._label(ticket)
        mine = self._tickets.get(label)
        if mine is None:
            mine = self._tickets[label] = _Ticket(None if label == OTHER else Drift())
        return mine

    def _label(self, ticket: str) -> str:
        return self._names.resolve(ticket[:TICKET_DIGITS])

    def _drift(self) -> Iterator[tuple[Labels, float]]:
        for label, mine in self._known():
            if not mine.is_fresh and mine.drift is not None:
                mine.indices, mine.is_fresh = mine.drift.indices(), True
            for kind in KINDS:
                if kind in mine.indices:
                    yield (label, kind), mine.indices[kind]

    def _baselines(self) -> Iterator[tuple[Labels, float]]:
        for label, mine in self._known():
            if mine.drift is not None and mine.drift.source:
                yield (label, mine.drift.source), mine.drift.baseline.rows

    def _known(self) -> list[tuple[str, _Ticket]]:
        with self._lock:
            return list(self._tickets.items())


def seen_in(confidence: bytes, in_scope: bytes, choice: bytes) -> Seen:
    """Counts of the rows of these columns' bytes."""
    return see(
        np.frombuffer(confidence, np.float32), np.frombuffer(in_scope, np.bool_), np.frombuffer(choice, np.int32)
    )
