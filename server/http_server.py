"""The HTTP server under a gateway: uvicorn with our settings, on a socket that is open already.

Owns the settings, and that signals are the caller's. What one connection may do is
`server.http_protocol`'s, what a request means `server.api`'s.
"""

import contextlib
import functools
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from server.http_protocol import HttpProtocol

KEEP_ALIVE_S = 75


class HttpServer(uvicorn.Server):
    """A uvicorn server on an open socket that leaves signals alone: `stop` ends it."""

    def __init__(
        self, app: Callable[..., Any], listener: socket.socket, *, drain_s: float, max_connections: int = 10_000
    ) -> None:
        """``max_connections`` may be open at a time; who comes then is told so and let go."""
        self.listener = listener
        protocol: Any = functools.partial(HttpProtocol, max_connections=max_connections)
        super().__init__(
            uvicorn.Config(
                app, http=protocol, ws="none", lifespan="off", loop="none", access_log=False, log_config=None,
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
