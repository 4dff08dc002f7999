"""The open-loop sender: hands each request to the client at its intended time and records what became of it.

It never waits for an answer before it sends the next request. Its own punctuality is part of the
record (``fired_s`` against ``intended_s``), and so is any wait for a connection (``sent_s``
against ``fired_s``). Whether a run is valid is judged in `loadtest.report`.
"""

import asyncio
import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from loadtest.client import Client
from loadtest.connection import Reply
from loadtest.record import INTERRUPTED, Record
from loadtest.schedule import Step
from loadtest.workload import Request

# After so many requests in a row the event loop gets a turn, so that a late sender still reads answers.
BURST = 32
# How long answers may still arrive after Ctrl-C.
GRACE_S = 1.0
DEFAULT_TIER = "(default)"


class Timings(msgspec.Struct):
    """Milliseconds, as the server measured them."""

    queue: float | None = None
    run: float | None = None
    total: float | None = None


class _Good(msgspec.Struct):
    """The parts of an answer that are recorded. An answer without results is no answer."""

    results: list[msgspec.Raw]
    ticket: str = ""
    timings_ms: Timings = msgspec.field(default_factory=Timings)


class _Bad(msgspec.Struct):
    code: str = ""


_decode_good = msgspec.json.Decoder(_Good).decode
_decode_bad = msgspec.json.Decoder(_Bad).decode
_NO_TIMINGS = Timings()

Outcome = tuple[str, str, Timings]
"""``(code, ticket, timings)`` of a reply: the code is empty for a good answer."""
Read = Callable[[Request, Reply], Outcome]
"""How replies are read."""


def read_answer(request: Request, reply: Reply) -> Outcome:
    """Read a reply of ``POST /v1/classify``, whatever was asked."""
    return read_reply(reply)


class Sender:
    """Sends the requests of one step. ``records`` grows as answers come."""

    def __init__(self, client: Client, step: Step, *, index: int = 0, read: Read = read_answer) -> None:
        self.records: list[Record] = []
        self.fired = 0
        self._client = client
        self._step = step
        self._index = index
        self._read = read
        self._start_s = 0.0
        self._drained = asyncio.Event()
        self._is_sending = True

    @property
    def owed(self) -> int:
        """Requests sent and not yet answered."""
        return self.fired - len(self.records)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step's start."""
        return time.perf_counter() - self._start_s if self._start_s else 0.0

    async def run(self, due: Iterator[float], requests: Iterator[Request], stop: asyncio.Event) -> None:
        """Send until the step's end or ``stop``; return when every request has its record.

        After ``stop`` answers may come for GRACE_S more; what is then still owed is recorded as interrupted.
        """
        with _no_collector_pauses():
            self._start_s = time.perf_counter()
            await self._send_all(due, requests, stop)
            self._is_sending = False
            stopped = asyncio.ensure_future(stop.wait())
            drained = asyncio.ensure_future(self._drained.wait())
            try:
                if self.owed:
                    await asyncio.wait((stopped, drained), return_when=asyncio.FIRST_COMPLETED)
                if self.owed:
                    await asyncio.wait((drained,), timeout=GRACE_S)
                    self._client.abandon(INTERRUPTED)
            finally:
                stopped.cancel()
                drained.cancel()

    async def _send_all(self, due: Iterator[float], requests: Iterator[Request], stop: asyncio.Event) -> None:
        in_a_row = 0
        for intended_s, request in zip(due, requests, strict=False):
            while (ahead_s := intended_s - self.elapsed_s) > 0:
                in_a_row = 0
                if stop.is_set():
                    return
                # Event loops keep time in whole milliseconds. Rounding up means up to 1 ms late and never early;
                # a shorter nap would spin, on a core that the server under test may need.
                await asyncio.sleep(min(math.ceil(ahead_s * 1000) / 1000, 0.1))
            if in_a_row >= BURST:
                in_a_row = 0
                await asyncio.sleep(0)
                if stop.is_set():
                    return
            in_a_row += 1
            self._fire(intended_s, request)

    def _fire(self, intended_s: float, request: Request) -> None:
        fired_s = self.elapsed_s
        self.fired += 1
        self._client.submit(request.payload, lambda reply: self._record(request, intended_s, fired_s, reply))

    def _record(self, request: Request, intended_s: float, fired_s: float, reply: Reply) -> None:
        code, ticket, timings = self._read(request, reply)
        target = request.target
        self.records.append(
            Record(
                step=self._index,
                tenant=target.tenant,
                domain=target.domain,
                tier=target.tier or DEFAULT_TIER,
                intended_s=intended_s,
                fired_s=fired_s,
                sent_s=None if reply.sent_s is None else reply.sent_s - self._start_s,
                done_s=reply.done_s - self._start_s,
                status=reply.status,
                code=code,
                warmup=intended_s < self._step.warmup_s,
                ticket=ticket,
                queue_ms=timings.queue,
                run_ms=timings.run,
                total_ms=timings.total,
            )
        )
        if not self._is_sending and not self.owed:
            self._drained.set()


def read_reply(reply: Reply) -> Outcome:
    """``(code, ticket, timings)`` of a reply. The code is empty for a good answer; else it is the server's
    ``code``, ``http_<status>`` where the body has none, ``bad_body`` for a 200 that cannot be read, or the
    client's name for what failed."""
    if reply.failure:
        return reply.failure, "", _NO_TIMINGS
    try:
        if reply.status == 200:
            good = _decode_good(reply.body)
            return "", good.ticket, good.timings_ms
        return _decode_bad(reply.body).code or f"http_{reply.status}", "", _NO_TIMINGS
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "bad_body" if reply.status == 200 else f"http_{reply.status}", "", _NO_TIMINGS


@contextmanager
def _no_collector_pauses() -> Iterator[None]:
    """No garbage collection while sending: a full pass over many records would look like a slow server."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
