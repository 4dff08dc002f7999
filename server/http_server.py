"""The HTTP server under a gateway: uvicorn with our settings, on a socket that is open already.

Owns the settings, that signals are the caller's, and how it drains: new connections are left to
whoever else listens on the socket, open ones may send for a while and get their answers with
`Connection: close`, so that no request of a client that keeps its connections is lost. What one
connection may do is `server.http_protocol`'s, what a request means `server.api`'s.
"""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Iterator
from typing import Any

import structlog
import uvicorn

from server.http_protocol import Draining, HttpProtocol

KEEP_ALIVE_S = 75
GRACE_S = 3.0
"""How long a draining server waits for what is sent on open connections: a busy client's next request comes
sooner, and is told to close; an idle connection is closed after it."""
POLL_S = 0.02

log = structlog.get_logger()


class HttpServer(uvicorn.Server):
    """A uvicorn server on an open socket that leaves signals alone: `stop` ends it."""

    def __init__(
        self, app: Callable[..., Any], listener: socket.socket, *, drain_s: float, max_connections: int = 10_000,
        admit: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        """``max_connections`` may be open at a time; who comes then is told so and let go. ``admit`` is asked about
        every POST that begins (`server.surge`)."""
        self.listener = listener
        self._drain_s = drain_s
        self._draining = Draining()
        protocol: Any = functools.partial(
            HttpProtocol, max_connections=max_connections, draining=self._draining, admit=admit
        )
        super().__init__(
            uvicorn.Config(
                app, http=protocol, ws="none", lifespan="off", loop="none", access_log=False, log_config=None,
                log_level="warning", server_header=False, proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_S,
            )
        )  # fmt: skip

    async def run_until_stopped(self) -> None:
        """Serve, then finish what is in flight, for at most ``drain_s``."""
        await self.serve(sockets=[self.listener])

    def stop(self) -> None:
        """Accept no more connections and end `run_until_stopped`."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn: called when `stop` has been noticed. Answer what there is and what still comes, then end."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        self._draining.is_on = True
        for connection in self._connections():
            connection.drain()
        loop = asyncio.get_running_loop()
        limit = loop.time() + max(1.0, self._drain_s)
        await self._are_gone(min(limit, loop.time() + GRACE_S))
        for connection in self._connections():
            connection.shutdown()  # the idle ones; the others end with their answers
        await self._are_gone(limit)
        tasks = list(self.server_state.tasks)
        if tasks:
            log.warning("drain_incomplete", requests=len(tasks))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)

    def _connections(self) -> list[HttpProtocol]:
        return [found for found in self.server_state.connections if isinstance(found, HttpProtocol)]

    async def _are_gone(self, until: float) -> None:
        """Wait until no connection and no request is left, to the loop's time ``until`` at most."""
        loop = asyncio.get_running_loop()
        state = self.server_state
        while (state.connections or state.tasks) and loop.time() < until:  # noqa: ASYNC110 - uvicorn's sets
            await asyncio.sleep(POLL_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn: take no signals."""
        yield
