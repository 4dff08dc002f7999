"""Traces: which requests are recorded, and what is noted of one while it runs.

Owns the sampling (the caller's decision where it sent a traceparent, else a ratio; bounded, because callers could ask
for any number) and the `Trace` of one request, to which every attempt of `server.retry` adds itself by way of a
context variable. A request that is not recorded costs a look at that variable. Times are `time.perf_counter`
seconds of this process; a worker reports durations, so that clocks are never compared. What becomes of a
finished trace is left to `server.spans` (its form) and `server.otlp` (its way out).
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Protocol

from routing.table import Route
from server.errors import ApiError
from server.trace_context import Parent, new_span_id, new_trace_id, parse_traceparent
from server.wire import Answer

MAX_PER_S = 100.0
"""Traces that one gateway records per second at most; about a hundredth of what it can answer."""


class Late(Protocol):
    """An ask whose worker has fallen silent (`server.link.Suspected`)."""

    async def answer(self) -> Answer:
        """The late answer."""
        ...


class Attempt:
    """One ask of one worker, and what became of it."""

    __slots__ = ("answer", "began", "ended", "error", "late", "route", "span_id")

    def __init__(self, route: Route, began: float) -> None:
        self.route = route
        self.began = began
        self.ended: float | None = None
        self.answer: Answer | None = None
        self.error = ""
        """The code of its failure; "" while there is none."""
        self.late: object | None = None
        """Set once the worker has fallen silent: who else is asked now is a hedge."""
        self.span_id = new_span_id()


class Trace:
    """What is noted of one recorded request."""

    __slots__ = ("attempts", "began", "began_ns", "is_over", "left", "parent_id", "span_id", "trace_id")

    def __init__(self, parent: Parent | None) -> None:
        self.trace_id = parent.trace_id if parent is not None else new_trace_id()
        self.parent_id = parent.span_id if parent is not None else None
        self.span_id = new_span_id()
        self.began = time.perf_counter()
        self.began_ns = time.time_ns()
        """The same moment, in nanoseconds since 1970: the only look at that clock."""
        self.attempts: list[Attempt] = []
        self.left: Callable[[Attempt], None] = lambda attempt: None
        """Called for an attempt that ends after its request: what a trial compares, say."""
        self.is_over = False

    def ns(self, moment: float) -> int:
        """A moment (`time.perf_counter`) in nanoseconds since 1970."""
        return self.began_ns + round((moment - self.began) * 1e9)

    async def watch(self, route: Route, asking: Coroutine[Any, Any, Answer]) -> Answer:
        """Await an ask by ``route``, and note what becomes of it."""
        attempt = Attempt(route, time.perf_counter())
        self.attempts.append(attempt)
        return await self._follow(attempt, asking)

    async def watch_late(self, late: Late) -> Answer:
        """Await the answer of a worker that has fallen silent: the attempt goes on."""
        for attempt in self.attempts:
            if attempt.late is late:
                return await self._follow(attempt, late.answer())
        return await late.answer()

    async def _follow(self, attempt: Attempt, asking: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            attempt.answer = await asking
            return attempt.answer
        except ApiError as error:
            attempt.error = error.code
            raise
        except asyncio.CancelledError:
            attempt.error = "cancelled"
            raise
        except Exception as silence:
            attempt.late = silence
            raise
        finally:
            attempt.ended = time.perf_counter()
            if self.is_over:
                self.left(attempt)


_current: ContextVar[Trace | None] = ContextVar("tombola_trace", default=None)


def current() -> Trace | None:
    """The trace of the request that this code runs for; None where it is not recorded."""
    return _current.get()


def enter(trace: Trace | None) -> None:
    """This task, and what it starts, is about a request with this trace."""
    if trace is not None or _current.get() is not None:
        _current.set(trace)  # a connection's next request may be started from within the one before


async def watched(route: Route, asking: Coroutine[Any, Any, Answer]) -> Answer:
    """Await an ask; noted where the request is recorded."""
    trace = _current.get()
    return await (asking if trace is None else trace.watch(route, asking))


async def watched_late(late: Late) -> Answer:
    """Await a late answer; noted where the request is recorded."""
    trace = _current.get()
    return await (late.answer() if trace is None else trace.watch_late(late))


class Sampler:
    """Decides which requests are recorded."""

    def __init__(
        self, ratio: float, *, max_per_s: float = MAX_PER_S, draw: Callable[[], float] = random.random
    ) -> None:
        """``ratio``: of the requests whose caller says nothing about it; 0 to 1."""
        self._ratio = ratio
        self._draw = draw
        self._max_per_s = max_per_s
        self._second = 0
        self._taken = 0

    def begin(self, traceparent: bytes | None, now: float) -> tuple[Parent | None, Trace | None]:
        """The caller's span, if it sent one, and the trace of this request, if it is recorded. ``now`` in seconds."""
        parent = parse_traceparent(traceparent) if traceparent is not None else None
        wanted = parent.is_sampled if parent is not None else self._draw() < self._ratio
        if not wanted:
            return parent, None
        if int(now) != self._second:
            self._second, self._taken = int(now), 0
        if self._taken >= self._max_per_s:
            return parent, None
        self._taken += 1
        return parent, Trace(parent)
