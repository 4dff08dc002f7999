"""The load test's HTTP/1.1 client: keep-alive connections as asyncio Protocols, so that sending costs little CPU.

It owns the pool, the limits and the time stamps of each exchange. It never retries and never slows
its caller down: `Client.submit` returns at once, and a request that has to wait for a connection
(while one opens, or at the cap) waits inside the client, where that wait is visible as
the time between submission and ``sent_s``. Every request ends in exactly one `Reply`.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtest.connection import Connection, Exchange, Reply

# Servers close idle connections (uvicorn after 5 s). A connection idle for longer than this is not
# used again, so that a request never races with the server's close: the tool itself makes no errors.
IDLE_S = 2.0


class Endpoint(NamedTuple):
    """Where to send: the parts of a URL such as ``http://127.0.0.1:8080/prefix``."""

    host: str
    port: int
    tls: bool
    authority: str
    base_path: str

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """Raises ValueError for what is not an http or https URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or " " in url:
            raise ValueError(f"{url!r} is not a URL such as http://127.0.0.1:8080")
        if parts.query or parts.fragment or parts.username:
            raise ValueError(f"{url!r}: only scheme, host, port and a path prefix are used")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        authority = parts.netloc
        return cls(parts.hostname, port, parts.scheme == "https", authority, parts.path.rstrip("/"))


class Client:
    """A pool of connections to one endpoint; grows as requests need it, up to ``max_connections``."""

    def __init__(self, endpoint: Endpoint, *, max_connections: int = 1024, timeout_s: float = 10.0) -> None:
        self._endpoint = endpoint
        self._max_connections = max_connections
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if endpoint.tls else None
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[Exchange] = deque()
        self._owed: set[Exchange] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._all_lost = asyncio.Event()
        self._all_lost.set()
        self._closed = False

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def submit(self, payload: bytes, on_done: Callable[[Reply], None]) -> None:
        """Send ``payload`` (one whole HTTP request) as soon as a connection is free; ``on_done`` is called once.

        The timeout runs from here, whether the request has found a connection or not.
        """
        exchange = Exchange(payload, on_done)
        self._owed.add(exchange)
        exchange.timer = self._loop.call_later(self._timeout_s, self._expire, exchange)
        connection = self._take_idle()
        if connection is not None:
            connection.start(exchange)
        else:
            self._waiting.append(exchange)
            self._open_more()

    async def request(self, payload: bytes) -> Reply:
        """`submit`, awaited."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.submit(payload, lambda reply: None if future.done() else future.set_result(reply))
        return await future

    def abandon(self, failure: str) -> None:
        """Settle everything still owed with ``failure`` and drop its connections."""
        self._waiting.clear()
        for exchange in list(self._owed):
            self._give_up(exchange, failure)

    async def close(self) -> None:
        """Settle what is owed as ``interrupted`` and wait until every socket is closed."""
        self._closed = True
        self.abandon("interrupted")
        for task in self._opening:
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening)
        for connection in self._connections:
            connection.abort()
        await self._all_lost.wait()

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()  # last in, first out: the youngest, and few stay in use
            if connection.is_usable and time.perf_counter() - connection.idle_since_s < IDLE_S:
                return connection
            connection.abort()
        return None

    def _open_more(self) -> None:
        """Open one connection for each request that waits, as far as the cap allows."""
        room = self._max_connections - len(self._connections) - len(self._opening)
        for _ in range(min(room, len(self._waiting) - len(self._opening))):
            task = self._loop.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def _open(self) -> None:
        host, port = self._endpoint.host, self._endpoint.port
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._loop.create_connection(lambda: Connection(self), host, port, ssl=self._tls)
        except TimeoutError:
            self._fail_next("connect_timeout", b"no connection in time")
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            self._fail_next("connect_refused" if refused else "connect_failed", str(error).encode())

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled():
            task.result()  # whatever `_open` does not expect is a bug here, and must be seen
        if not self._closed:
            self._open_more()

    def _fail_next(self, failure: str, detail: bytes) -> None:
        exchange = self._next_waiting()
        if exchange is not None:
            self.settle(exchange, Reply(0, detail, failure, None, time.perf_counter()))

    def _next_waiting(self) -> Exchange | None:
        while self._waiting:
            exchange = self._waiting.popleft()
            if exchange in self._owed:
                return exchange
        return None

    def _expire(self, exchange: Exchange) -> None:
        self._give_up(exchange, "timeout")

    def _give_up(self, exchange: Exchange, failure: str) -> None:
        connection = exchange.connection
        self.settle(exchange, Reply(0, b"", failure, exchange.sent_s, time.perf_counter()))
        if connection is not None:
            connection.abort()

    # What a Connection reports.

    def attach(self, connection: Connection) -> None:
        """A connection is open: it takes the request that has waited longest."""
        self._connections.add(connection)
        self._all_lost.clear()
        if self._closed:
            connection.abort()
        else:
            self.release(connection)

    def release(self, connection: Connection) -> None:
        """A connection is free: it takes the next request, or rests."""
        exchange = self._next_waiting()
        if exchange is not None:
            connection.start(exchange)
        else:
            connection.idle_since_s = time.perf_counter()
            self._idle.append(connection)

    def detach(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._connections:
            self._all_lost.set()
        if self._waiting and not self._closed:
            self._open_more()

    def settle(self, exchange: Exchange, reply: Reply) -> None:
        """Hand ``reply`` to whoever submitted the exchange, once."""
        if exchange not in self._owed:
            return
        self._owed.discard(exchange)
        exchange.connection = None
        if exchange.timer is not None:
            exchange.timer.cancel()
        exchange.on_done(reply)
