"""The HTTP server under a gateway: uvicorn, with our signals, our limits and our error form.

Owns the settings and three changes to uvicorn: signals are the caller's, headers are
bounded, and bytes that are not HTTP are answered in JSON like every other error.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httptools
import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 << 10
KEEP_ALIVE_S = 75


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    _header_bytes = 0

    def on_message_begin(self) -> None:
        """httptools: a request begins."""
        self._header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """httptools: a part of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP, or its headers are too large."""
        text = f"{msg} Headers may have {MAX_HEADER_BYTES} bytes."
        body = msgspec.json.encode({"error": text, "code": "bad_request", "request_id": ""})
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise httptools.HttpParserError("headers too large")


class HttpServer(uvicorn.Server):
    """A uvicorn server on an open socket that leaves signals alone: `stop` ends it."""

    def __init__(self, app: Callable[..., Any], listener: socket.socket, *, drain_s: float) -> None:
        self.listener = listener
        super().__init__(
            uvicorn.Config(
                app, http=HttpProtocol, ws="none", lifespan="off", loop="none", access_log=False, log_config=None,
                log_level="warning", server_header=False, proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(drain_s)),
            )
        )  # fmt: skip

    async def run_until_stopped(self) -> None:
        """Serve, then finish what is in flight, for at most ``drain_s``."""
        await self.serve(sockets=[self.listener])

    def stop(self) -> None:
        """Accept no more connections and end `run_until_stopped`."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn: take no signals."""
        yield
