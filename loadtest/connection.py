"""One keep-alive HTTP/1.1 connection of the load test's client, and the exchange it carries.

It writes a request, cuts the response out of the byte stream with httptools, and tells its pool
what became of it. It carries one request at a time (no pipelining). Which request comes
next, limits and timeouts belong to `loadtest.client`.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

import httptools


class Reply(NamedTuple):
    """How a request ended. ``status`` 0 means without a whole response; then ``failure`` says why:
    ``timeout``, ``connect_refused``, ``connect_failed``, ``connect_timeout``, ``connection_closed``,
    ``bad_response``, ``interrupted``. Times are `time.perf_counter` seconds; ``sent_s`` is None where
    no byte was written."""

    status: int
    body: bytes
    failure: str
    sent_s: float | None
    done_s: float


class Exchange:
    """One request and who waits for its reply."""

    __slots__ = ("connection", "on_done", "payload", "sent_s", "timer")

    def __init__(self, payload: bytes, on_done: Callable[[Reply], None]) -> None:
        self.payload = payload
        self.on_done = on_done
        self.sent_s: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.connection: Connection | None = None


class Pool(Protocol):
    """What a connection reports, and to whom."""

    def attach(self, connection: "Connection") -> None:
        """The connection is open and wants work."""

    def release(self, connection: "Connection") -> None:
        """The connection has delivered a response and is free again."""

    def detach(self, connection: "Connection") -> None:
        """The connection is closed."""

    def settle(self, exchange: Exchange, reply: Reply) -> None:
        """The exchange has ended."""


class Connection(asyncio.Protocol):
    """Sends one request at a time and reads its response."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._body: list[bytes] = []
        self._is_framed = False
        self._has_headers = False
        self.idle_since_s = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether a request may be started here."""
        return self._transport is not None and not self._transport.is_closing() and self._exchange is None

    def start(self, exchange: Exchange) -> None:
        """Write ``exchange``'s request. The connection must be usable."""
        assert self._transport is not None
        assert self._exchange is None
        self._exchange = exchange
        exchange.connection = self
        exchange.sent_s = time.perf_counter()
        self._transport.write(exchange.payload)

    def abort(self) -> None:
        """Close without another word; whatever it carried is the pool's to settle."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open: report for work."""
        self._transport = cast(asyncio.Transport, transport)
        self._pool.attach(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a response, in whatever pieces they come."""
        if self._exchange is None:  # nobody asked: a server's last words before it closes an idle connection
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._end(Reply(0, str(error).encode(), "bad_response", None, 0.0))

    def eof_received(self) -> None:
        """The server has finished. A response without a length ends here."""
        if self._has_headers and not self._is_framed:
            self._end(Reply(self._parser.get_status_code(), b"".join(self._body), "", None, 0.0))

    def connection_lost(self, error: Exception | None) -> None:
        """Closed. What was still owed has no answer."""
        self._end(Reply(0, b"" if error is None else str(error).encode(), "connection_closed", None, 0.0))
        self._transport = None
        self._pool.detach(self)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A response begins."""
        self._body.clear()
        self._is_framed = False
        self._has_headers = False

    def on_header(self, name: bytes, _value: bytes) -> None:
        """Remember whether the response says where it ends."""
        if len(name) in (14, 17) and name.lower() in (b"content-length", b"transfer-encoding"):
            self._is_framed = True

    def on_headers_complete(self) -> None:
        """The body follows."""
        self._has_headers = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The response is whole: hand it over and take the next request."""
        status = self._parser.get_status_code()
        if status < 200:  # an interim response (100 Continue); the final one follows
            return
        exchange, self._exchange = self._exchange, None
        self._has_headers = False
        if exchange is None:
            return
        reply = Reply(status, b"".join(self._body), "", exchange.sent_s, time.perf_counter())
        if self._parser.should_keep_alive():
            self._pool.release(self)
        elif self._transport is not None:
            self._transport.close()
        self._pool.settle(exchange, reply)

    def _end(self, reply: Reply) -> None:
        """End the exchange with ``reply``, stamped now, and the connection with it."""
        exchange = self._exchange
        self.abort()
        if exchange is not None:
            self._pool.settle(exchange, reply._replace(sent_s=exchange.sent_s, done_s=time.perf_counter()))
