"""One HTTP connection: uvicorn's protocol, bounded against clients that are slow, greedy or strange.

Owns what a connection may cost before and after a request: the size of a head and the time it
takes to arrive, requests sent ahead of their answers, answers that nobody reads or waits for. An
offer to upgrade (h2c, websocket) is ignored, as HTTP allows (see `server.http_upgrade`). Bytes that
are not HTTP get the one JSON form of an error. Requests themselves belong to `server.api`, and when
a gateway drains to `server.http_server`.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from socket import SO_ERROR, SOL_SOCKET
from typing import Any

import httptools
import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.edge import RESPOND
from server.errors import BadRequest, Overloaded
from server.http_answer import refuse_at_once, respond
from server.http_upgrade import FRAMING, parser_of_body

MAX_HEADER_BYTES = 64 << 10
HEAD_S = 30.0
"""What a head gets to arrive, counted from the connection or from the head's first bytes."""
UNREAD_S = 30.0
"""A client that takes in nothing of its answers for so long is cut off."""
MAX_AHEAD = 32
"""Beyond so many requests that wait for the answer before theirs, nothing more is read."""
FIRST_LOOK_S = 0.01
LAST_LOOK_S = 0.5
"""How soon, and how often at the last, a client that has finished sending is looked after: has it left?"""
_PIECE_BYTES = 8 << 10
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = structlog.get_logger()


class Draining:
    """Whether a server's connections are to end with their next answer; one object for all of them."""

    is_on = False


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    parser: Any
    _header_bytes = 0
    _is_in_head = _body_follows = _has_ended = False
    _unparsed = b""
    _running: RequestResponseCycle | None = None
    _task: asyncio.Task[None] | None = None
    _idle_since: float | None = None
    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def __init__(
        self, *arguments: Any, max_connections: int, draining: Draining, admit: Callable[[], bool], **named: Any  # noqa: ANN401
    ) -> None:  # fmt: skip
        """``max_connections`` of this server may be open at a time; ``admit``: see `HttpServer`; the rest: uvicorn."""
        super().__init__(*arguments, **named)
        self._max_connections, self._draining, self._admit = max_connections, draining, admit

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio: connected."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._refuse(b"503 Service Unavailable", Overloaded.code, "too many connections are open")
            return
        self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone, and with it whoever waits for any of its answers."""
        self._cancel_head_timer()
        self.resume_writing()
        self.pipeline.clear()
        self._unparsed = b""
        if self._running is not None and not self._running.response_complete:  # uvicorn tells the newest request only
            self._running.disconnected = True
            self._running.message_event.set()
            if self._task is not None:
                self._task.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """asyncio: the client sends nothing more; it may still wait for the answer to a complete request."""
        self._has_ended = True
        is_owed = bool(self._unparsed) or self._finish()
        if is_owed:
            self._look_after(FIRST_LOOK_S)
        return is_owed

    def drain(self) -> None:
        """End the connection with the answer to the request that runs, unless another one comes before that.

        Not where requests wait behind it: nothing is read then, and more may have been sent.
        """
        if self._running is not None and not self.pipeline and not self._unparsed:
            self._running.keep_alive = self._running.keep_alive and self._running.response_started

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client."""
        self._unset_keepalive_if_required()
        self._parse(self._unparsed + data if self._unparsed else data)

    def on_response_complete(self) -> None:
        """uvicorn: an answer has been written; the next request of the connection may run.

        As uvicorn does it, but for the timer of an idle connection: that is armed once and looks for itself
        whether the connection has been idle, instead of being made and cancelled with every answer (5 µs).
        """
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self._idle_since = self.loop.time()
                if self.timeout_keep_alive_task is None:
                    self._arm_keep_alive(self.timeout_keep_alive)
        if self.pipeline:
            self.flow.pause_reading()
        if self._unparsed and not self.transport.is_closing():
            self._parse(self._unparsed)
            if self._has_ended and not self._unparsed and not self._finish():
                self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn: end the connection, if it has been idle for so long."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # its next answer arms the timer again
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._arm_keep_alive(left_s)
        else:
            super().timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None
        if self.transport.is_closing():
            super()._unset_keepalive_if_required()

    def _arm_keep_alive(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        """asyncio: the client does not read what it is sent."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """asyncio: the client reads again."""
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def on_message_begin(self) -> None:
        """httptools: a request begins."""
        self._header_bytes = 0
        self._is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """httptools: a part of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """httptools: the head is complete."""
        self._is_in_head = False
        self._body_follows = self.parser.should_upgrade() and any(name in FRAMING for name, _ in self.headers)
        if self._draining.is_on and self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = True  # this one has been sent behind it, and is to be answered too
        super().on_headers_complete()
        if self._draining.is_on and self._running is self.cycle:
            self.drain()

    def on_message_complete(self) -> None:
        """httptools: the request is complete, unless its parser stopped at an offer to upgrade."""
        if not self._body_follows:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP, or its head is too large or too late."""
        self._refuse(b"400 Bad Request", BadRequest.code, msg)

    def _refuse(self, status: bytes, code: str, message: str) -> None:
        """Answer what is no request yet, and end the connection."""
        body = msgspec.json.encode({"error": message, "code": code, "request_id": ""})
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401
        async def until_it_is_gone(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
            scope[RESPOND] = partial(respond, cycle)
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                if not cycle.disconnected:
                    raise
            finally:
                scope.pop(
                    RESPOND, None
                )  # the cycle holds the scope: left there, every request would wait for the collector

        self._running = cycle
        if cycle.scope["method"] == "POST" and not self._admit() and refuse_at_once(cycle):
            return
        self._task = self.loop.create_task(cycle.run_asgi(until_it_is_gone))
        self._task.add_done_callback(self.tasks.discard)
        self.tasks.add(self._task)

    def _parse(self, data: bytes) -> None:
        """Give the parser what came, in pieces: a read may hold thousands of requests, and each takes memory."""
        self._unparsed = b""
        at = 0
        try:
            while at < len(data):
                if len(self.pipeline) > MAX_AHEAD:
                    self._unparsed = data[at:]
                    break
                at += self._parse_piece(data[at : at + _PIECE_BYTES])
        except httptools.HttpParserError as error:
            log.debug("not_http", error=str(error))
            self.send_400_response(f"this is not an HTTP/1.1 request with a head of at most {MAX_HEADER_BYTES} bytes")
            return
        if not self._is_in_head:
            self._cancel_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def _parse_piece(self, piece: bytes) -> int:
        """How many bytes have been parsed: all, or those before the body of a request that offers an upgrade."""
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            if self._body_follows:
                self._body_follows = False
                self.parser = parser_of_body(self)
            return int(upgrade.args[0])
        return len(piece)

    def _finish(self) -> bool:
        """Let the connection end with the newest request's answer; whether there is one to come."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body or self._is_in_head:
            return False
        self.cycle.keep_alive = False
        return True

    def _look_after(self, after_s: float) -> None:
        """Find out whether a client that has finished sending still waits for its answer.

        One that has left looks the same until it is sent something: its system answers that with a
        reset. So it is sent an interim response, which HTTP/1.1 clients must be able to skip (RFC 9110,
        15.2). Nobody reads from the connection any more, so the reset is asked for.
        """
        cycle, socket = self._running, self.transport.get_extra_info("socket")
        if self.transport.is_closing() or cycle is None or cycle.response_started or socket is None:
            return
        if socket.getsockopt(SOL_SOCKET, SO_ERROR):
            self.transport.abort()
            return
        if after_s == FIRST_LOOK_S and cycle.scope["http_version"] == "1.1":
            self.transport.write(_CONTINUE)
        self.loop.call_later(after_s, self._look_after, min(2 * after_s, LAST_LOOK_S))

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._is_in_head:
            self.send_400_response(f"the request's head did not arrive within {HEAD_S:g} s")
        else:
            self.transport.close()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise httptools.HttpParserError("headers too large")
