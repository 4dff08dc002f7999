"""The gateway's end of one connection to a worker. Owns every reply that worker owes.

A reply is registered before its ask is sent and settled exactly once: by the worker, by the
loss of the connection (which fails everything owed at once), or by the caller giving up
(which sends a Cancel). A worker that falls silent is suspected: its callers are told to look
elsewhere too, and what it owes stays owed. What the worker says of itself goes to its
`server.estimate`. The choice of worker is left to `routing.decide`, retries to `server.retry`,
reconnecting to `server.fleet`.
"""

import asyncio
import time
from typing import cast

import structlog

from routing.table import WorkerView
from server import address, wire
from server.call import Payload
from server.errors import BY_CODE, Internal, Overloaded, TooLarge, WorkerLost
from server.estimate import Estimate

SILENCE_S = 2.0
"""A connected worker that says nothing for so long (it sends heartbeats) is treated as lost."""
QUIET_S = 0.75
"""One that has missed some heartbeats may hang: others are asked first, and what it owes is asked elsewhere too."""

log = structlog.get_logger()


class Suspected(Exception):
    """The worker has fallen silent. It may still answer: wait for that with `answer`, or `give_up`."""

    def __init__(self, link: "Link", ask_id: int, late: "asyncio.Future[wire.Answer]") -> None:
        super().__init__(f"worker {link.name} has fallen silent")
        self._link = link
        self._ask_id = ask_id
        self._late = late

    async def answer(self) -> wire.Answer:
        """The late answer, or the ApiError that comes instead; cancel this and the worker is told."""
        return await self._link.reply(self._ask_id, self._late)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._link.give_up(self._ask_id, self._late)


class _Owed:
    """A reply that is owed, and in how many milliseconds it was expected (see `Estimate.sent`)."""

    __slots__ = ("expected_ms", "is_suspected", "reply", "sent_at")

    def __init__(self, reply: asyncio.Future[wire.Answer], sent_at: float, expected_ms: float | None) -> None:
        self.reply, self.sent_at, self.expected_ms = reply, sent_at, expected_ms
        self.is_suspected = False


class Link(asyncio.Protocol):
    """One live connection. Make it with `connect`; once lost it stays lost."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done when the connection is gone; says why."""
        self.greeted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done when the worker has said what it holds."""
        self.is_draining = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = wire.FrameReader()
        self._owed: dict[int, _Owed] = {}
        self._outbox: list[wire.Message] = []
        self._last_id = 0
        self._heard_at = time.monotonic()
        self._estimate = Estimate(name, self._heard_at)
        self._is_full = False

    @classmethod
    async def connect(cls, name: str, where: str, *, timeout_s: float = 2.0) -> "Link":
        """Connect to the worker at ``where`` and wait for its first Status.

        Raises OSError (TimeoutError is one) or address.AddressError.
        """
        link = await address.connect(address.parse(where), lambda: cls(name), timeout_s=timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait({link.greeted, link.lost}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            link.close("did not say what it holds")
            raise
        if link.lost.done():
            raise ConnectionResetError(f"worker {name} at {where}: {link.lost.result()}")
        return link

    async def call(self, payload: Payload, ticket: str, remaining_ms: float) -> wire.Answer:
        """Ask the worker and wait for its reply; cancel this call and the worker is told.

        Raises WorkerLost, Overloaded, the ApiError that the worker names, or Suspected.
        """
        if self.lost.done():
            raise WorkerLost(f"worker {self.name} is lost: {self.lost.result()}", retry_after_s=1.0)
        if self._is_full:
            raise Overloaded(f"worker {self.name} does not take in what it is sent", retry_after_s=1.0)
        self._last_id += 1
        ask_id, now = self._last_id, time.monotonic()
        expected_ms = self._estimate.sent(
            ask_id, ticket=ticket, tenant=payload.tenant, rows=payload.rows, row_bytes=payload.row_bytes,
            service_ms=payload.service_ms.get(ticket, 0.0), now=now,
        )  # fmt: skip
        reply: asyncio.Future[wire.Answer] = self._loop.create_future()
        self._owed[ask_id] = _Owed(reply, now, expected_ms)
        self._post(
            wire.Ask(
                ask_id, ticket, payload.tenant, remaining_ms, payload.inputs, payload.outputs, payload.priority,
                payload.wants_confidence, payload.request_id,
            )
        )  # fmt: skip
        answer = await self.reply(ask_id, reply)
        passed = time.monotonic()
        self._estimate.took((passed - now) * 1000 - answer.queue_ms - answer.run_ms, passed)
        return answer

    async def reply(self, ask_id: int, reply: "asyncio.Future[wire.Answer]") -> wire.Answer:
        """What settles ``reply``; being cancelled meanwhile gives it up."""
        try:
            return await reply
        except asyncio.CancelledError:
            self.give_up(ask_id, reply)
            raise

    def give_up(self, ask_id: int, reply: "asyncio.Future[wire.Answer]") -> None:
        """Nobody waits for the reply: tell the worker, unless it has just come."""
        owed = self._pop(ask_id, is_settled=False)
        if owed is not None:
            self._post(wire.Cancel(ask_id))
            if owed.expected_ms is not None:
                now = time.monotonic()
                self._estimate.took((now - owed.sent_at) * 1000 - owed.expected_ms, now, at_least=True)
        if reply.done() and not reply.cancelled():
            reply.exception()  # seen, even where the caller gave up in this very turn

    def tell(self, message: wire.Message) -> None:
        """Send what needs no reply."""
        if isinstance(message, wire.Shares):
            self._estimate.shares(message)
        self._post(message)

    def view(self, now: float | None = None) -> WorkerView | None:
        """What routing may know of this worker now (`time.monotonic`); None where it must not be sent anything new."""
        if self.is_draining or self.lost.done() or self._is_full or not self.greeted.done():
            return None
        now = time.monotonic() if now is None else now
        silent_s = now - self._heard_at
        return self._estimate.view(now, silent_s * 1000 if silent_s > QUIET_S else 0.0)

    def is_quiet(self, now: float) -> bool:
        """Whether the worker has been silent for longer than one that is well. ``now``: `time.monotonic`."""
        return now - self._heard_at > QUIET_S

    @property
    def owed(self) -> int:
        """How many replies the worker owes."""
        return len(self._owed)

    def check(self, now: float) -> None:
        """Suspect the worker when it has been silent for long, give it up when for too long (`time.monotonic`)."""
        silent_s = now - self._heard_at
        if silent_s > SILENCE_S:
            self.close(f"silent for {silent_s:.1f} s")
        elif silent_s > QUIET_S:
            self._suspect()

    def close(self, reason: str = "closed") -> None:
        """Give the connection up; everything owed fails at once."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        if self._transport is not None:
            self._transport.abort()
        owed, self._owed = self._owed, {}
        self._outbox.clear()
        for one in owed.values():
            if not one.reply.done():
                one.reply.set_exception(WorkerLost(f"worker {self.name} was lost: {reason}", retry_after_s=1.0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self.close(str(exc) if exc else "connection closed")

    def pause_writing(self) -> None:
        """asyncio: the worker reads more slowly than we write."""
        self._is_full = True

    def resume_writing(self) -> None:
        """asyncio: the worker has caught up."""
        self._is_full = False

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the worker."""
        self._heard_at = time.monotonic()
        try:
            messages = self._reader.feed(data)
        except wire.WireError as error:
            self.close(f"does not speak the protocol: {error}")
            return
        for message in messages:
            match message:
                case wire.Answer() | wire.Failure():
                    self._settle(message)
                case wire.Load():
                    self._estimate.load(message, self._heard_at)
                case wire.Costs():
                    self._estimate.costs(message)
                case wire.Unloaded():
                    self._estimate.unloaded(message)
                case wire.Status():
                    self.is_draining = message.draining
                    if not self.greeted.done():
                        self.greeted.set_result(message.name)
                case _:
                    log.debug("unexpected_message", worker=self.name, kind=type(message).__name__)

    def _settle(self, message: wire.Answer | wire.Failure) -> None:
        owed = self._pop(message.id)
        if owed is None or owed.reply.done():
            return  # the caller gave up before: normal
        if isinstance(message, wire.Answer):
            owed.reply.set_result(message)
        else:
            error = BY_CODE.get(message.code, Internal)(message.message)
            error.retry_after_s = 1.0 if error.retryable else None
            owed.reply.set_exception(error)

    def _pop(self, ask_id: int, *, is_settled: bool = True) -> _Owed | None:
        owed = self._owed.pop(ask_id, None)
        if owed is not None:
            self._estimate.ended(ask_id, was_warm=owed.expected_ms is not None, is_settled=is_settled)
        return owed

    def _suspect(self) -> None:
        """Tell everyone who waits that the worker has fallen silent, once each; what it owes stays owed."""
        for ask_id, owed in self._owed.items():
            if not owed.is_suspected and not owed.reply.done():
                waiting, owed.reply, owed.is_suspected = owed.reply, self._loop.create_future(), True
                waiting.set_exception(Suspected(self, ask_id, owed.reply))

    def _post(self, message: wire.Message) -> None:
        if self.lost.done():
            return
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(message)

    def _flush(self) -> None:
        """Everything posted in one turn of the loop goes out as one frame."""
        if not self._outbox or self._transport is None:
            return
        messages, self._outbox = self._outbox, []
        try:
            self._transport.write(wire.encode_frame(messages))
        except wire.WireError:
            for message in messages:
                self._send_alone(message)

    def _send_alone(self, message: wire.Message) -> None:
        assert self._transport is not None
        try:
            self._transport.write(wire.encode_frame([message]))
        except wire.WireError as error:
            assert isinstance(message, wire.Ask)
            owed = self._pop(message.id)
            if owed is not None and not owed.reply.done():
                owed.reply.set_exception(TooLarge(f"the request does not fit a frame: {error}"))
