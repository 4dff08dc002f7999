"""The gateway's end of one connection to a worker. Owns every reply that worker owes.

A reply is registered before its ask is sent and settled exactly once: by the worker, by the
loss of the connection (which fails everything owed at once), or by the caller giving up
(which sends a Cancel). It keeps the worker's latest Status and estimates its queue from
that and from what has been sent since. It leaves the choice of worker to `routing.decide`,
retries to `server.dispatch`, and reconnecting to `server.fleet`.
"""

import asyncio
from collections.abc import Sequence
from typing import cast

import structlog

from routing.table import WorkerView
from server import address, wire
from server.errors import BY_CODE, Internal, Overloaded, TooLarge, WorkerLost
from server.tensor import Tensor

SILENCE_S = 2.0
"""A connected worker that says nothing for so long (it sends heartbeats) is treated as lost."""
QUIET_S = 0.75
"""One that has missed some heartbeats may hang: others are asked first."""
LEARNING_RATE = 0.2

log = structlog.get_logger()


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
        self._owed: dict[int, asyncio.Future[wire.Answer]] = {}
        self._outbox: list[wire.Message] = []
        self._last_id = 0
        self._holds: frozenset[str] = frozenset()
        self._busy_until = 0.0
        self._row_ms: dict[str, float] = {}
        self._heard_at = self._loop.time()
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

    async def call(
        self, *, ticket: str, tenant: str, remaining_ms: float, inputs: list[Tensor], outputs: Sequence[str] = (),
        row_ms: float = 0.0,
    ) -> wire.Answer:  # fmt: skip
        """Ask the worker and wait for its reply; cancel this call and the worker is told.

        ``row_ms`` is what one row of the input is expected to cost, until the worker has shown it.
        Raises WorkerLost, Overloaded, or the ApiError that the worker names.
        """
        if self.lost.done():
            raise WorkerLost(f"worker {self.name} is lost: {self.lost.result()}")
        if self._is_full:
            raise Overloaded(f"worker {self.name} does not take in what it is sent", retry_after_s=1.0)
        self._last_id += 1
        ask_id = self._last_id
        reply: asyncio.Future[wire.Answer] = self._loop.create_future()
        self._owed[ask_id] = reply
        self._expect(ticket, inputs, row_ms)
        self._post(wire.Ask(ask_id, ticket, tenant, remaining_ms, inputs, list(outputs)))
        try:
            answer = await reply
        finally:
            if self._owed.pop(ask_id, None) is not None:  # nobody settled it: the caller gave up
                self._post(wire.Cancel(ask_id))
            elif reply.done() and not reply.cancelled():
                reply.exception()  # seen, even where the caller gave up in this very turn
        self._learn(ticket, answer)
        return answer

    def view(self) -> WorkerView | None:
        """What routing may know of this worker now; None where it must not be sent anything new."""
        if self.is_draining or self.lost.done() or self._is_full or not self.greeted.done():
            return None
        wait_ms = max(0.0, self._busy_until - self._loop.time()) * 1000
        return WorkerView(name=self.name, holds=self._holds, wait_ms=wait_ms)

    @property
    def is_quiet(self) -> bool:
        """Whether the worker has been silent for longer than one that is well."""
        return self._loop.time() - self._heard_at > QUIET_S

    @property
    def owed(self) -> int:
        """How many replies the worker owes."""
        return len(self._owed)

    def check(self, now: float) -> None:
        """Treat the worker as lost when it has been silent too long. ``now`` is the loop's time."""
        if now - self._heard_at > SILENCE_S:
            self.close(f"silent for {now - self._heard_at:.1f} s")

    def close(self, reason: str = "closed") -> None:
        """Give the connection up; everything owed fails at once."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        if self._transport is not None:
            self._transport.abort()
        owed, self._owed = self._owed, {}
        self._outbox.clear()
        for reply in owed.values():
            if not reply.done():
                reply.set_exception(WorkerLost(f"worker {self.name} was lost: {reason}", retry_after_s=1.0))

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
        self._heard_at = self._loop.time()
        try:
            messages = self._reader.feed(data)
        except wire.WireError as error:
            self.close(f"does not speak the protocol: {error}")
            return
        for message in messages:
            match message:
                case wire.Answer():
                    self._busy_until = self._heard_at + message.wait_ms / 1000
                    self._settle(message)
                case wire.Failure():
                    self._busy_until = self._heard_at + message.wait_ms / 1000
                    self._settle(message)
                case wire.Status():
                    self._take_status(message)
                case _:
                    log.debug("unexpected_message", worker=self.name, kind=type(message).__name__)

    def _settle(self, message: wire.Answer | wire.Failure) -> None:
        reply = self._owed.pop(message.id, None)
        if reply is None or reply.done():
            return  # the caller gave up before: normal
        if isinstance(message, wire.Answer):
            reply.set_result(message)
        else:
            error = BY_CODE.get(message.code, Internal)(message.message)
            error.retry_after_s = 1.0 if error.retryable else None
            reply.set_exception(error)

    def _take_status(self, status: wire.Status) -> None:
        self._holds = frozenset(status.holds)
        self._busy_until = self._heard_at + status.wait_ms / 1000
        self.is_draining = status.draining
        if not self.greeted.done():
            self.greeted.set_result(status.name)

    def _expect(self, ticket: str, inputs: list[Tensor], row_ms: float) -> None:
        """Count work that the worker has not reported yet towards its wait."""
        rows = inputs[0].shape[0] if inputs and inputs[0].shape else 1
        cost_s = rows * self._row_ms.get(ticket, row_ms) / 1000
        self._busy_until = max(self._busy_until, self._loop.time()) + cost_s

    def _learn(self, ticket: str, answer: wire.Answer) -> None:
        """What a row costs here, batching included."""
        seen = answer.run_ms / max(1, answer.batch_texts)
        known = self._row_ms.get(ticket, seen)
        self._row_ms[ticket] = known + LEARNING_RATE * (seen - known)

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
            reply = self._owed.pop(message.id, None)
            if reply is not None and not reply.done():
                reply.set_exception(TooLarge(f"the request does not fit a frame: {error}"))
