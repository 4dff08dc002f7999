"""One gateway's connection, seen from the worker: bytes in, frames out, bounded both ways.

Owns framing, the replies that wait to be written, and the end of a connection: a peer that
talks nonsense or does not read its replies is cut off, alone. What messages mean is left to
`server.worker`.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

import structlog

from server.job import Job
from server.wire import Answer, Failure, FrameReader, Message, WireError, encode_frame

MAX_UNSENT_BYTES = 16 << 20
"""Replies written but not taken by the system: beyond this the peer is not reading, and is dropped."""

log = structlog.get_logger()


class Host(Protocol):
    """Who a connection belongs to (the worker)."""

    def joined(self, peer: "Peer") -> None:
        """A connection has been made."""

    def left(self, peer: "Peer") -> None:
        """A connection is gone; called once."""

    def receive(self, peer: "Peer", messages: Sequence[Message]) -> None:
        """Messages have arrived. Raises WireError."""


class Peer(asyncio.Protocol):
    """A connection. ``owed`` are the jobs it has no reply to yet, ``seen`` is the largest id that it has asked
    under, ``gone`` is done when it is closed."""

    def __init__(self, host: Host) -> None:
        self.owed: dict[int, Job] = {}
        self.seen = 0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host = host
        self._reader = FrameReader()
        self._outbox: list[Message] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        self._host.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self._transport = None
        self._outbox.clear()
        if not self.gone.done():
            self.gone.set_result(None)
        self._host.left(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the gateway."""
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._host.receive(self, self._reader.feed(data))
        except WireError as error:
            self.abort(str(error))

    def post(self, message: Message) -> None:
        """Put a message with those that go out, as one frame, at the next flush."""
        self._outbox.append(message)

    def send(self, messages: Sequence[Message]) -> None:
        """Post messages and flush."""
        self._outbox += messages
        self.flush()

    def flush(self) -> None:
        """Write what has been posted."""
        if not self._outbox:
            return
        messages, self._outbox = self._outbox, []
        if self._transport is None or self._transport.is_closing():
            return
        for frame in _frames(messages):
            self._transport.write(frame)
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.abort("it does not read its replies")

    def close(self) -> None:
        """Close once everything written has been sent."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Cut the connection off."""
        if self._transport is not None:
            log.warning("connection_dropped", reason=reason)
            self._transport.abort()


def _frames(messages: Sequence[Message]) -> list[bytes]:
    """All in one frame, or a frame each where one would be too large."""
    try:
        return [encode_frame(messages)]
    except WireError as error:
        if len(messages) > 1:
            return [frame for message in messages for frame in _frames([message])]
        message = messages[0]
        if not isinstance(message, Answer):
            raise
        reason = f"the answer is too large to send ({error}): ask for fewer texts or outputs"
        return [encode_frame([Failure(message.id, "bad_request", reason, message.wait_ms)])]
