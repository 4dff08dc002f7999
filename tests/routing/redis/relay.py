"""A relay before a real Redis that loses things as networks do: a reply, a connection, all of them, time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Relay:
    """Passes bytes on between clients and one Redis, except where it is told not to."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.port = 0
        self.lost_replies = 0
        """How many replies have been lost so far."""
        self._lose_reply_to: bytes | None = None
        self.serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def lose_the_reply_to(self, command: bytes) -> None:
        """The next request that holds these bytes is carried out, and the connection ends before its reply."""
        self._lose_reply_to = command

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        its_reader, its_writer = await asyncio.open_unix_connection(self._path)
        requests = asyncio.create_task(self._pass_requests(reader, its_writer))
        try:
            while data := await its_reader.read(1 << 16):
                if self._is_losing(requests):
                    self.lost_replies += 1
                    break
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            requests.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await requests
            for end in (writer, its_writer):
                end.close()
                with contextlib.suppress(ConnectionError):
                    await end.wait_closed()
            self.serving.discard(task)

    async def _pass_requests(self, reader: asyncio.StreamReader, its_writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            if self._lose_reply_to is not None and self._lose_reply_to in data:
                self._lose_reply_to = None
                task = asyncio.current_task()
                assert task is not None
                task.set_name("losing")
            its_writer.write(data)
            await its_writer.drain()
        its_writer.write_eof()

    def _is_losing(self, requests: asyncio.Task[None]) -> bool:
        return requests.get_name() == "losing"


@asynccontextmanager
async def relay_to(redis_url: str) -> AsyncIterator[Relay]:
    """A relay before the Redis at a ``unix://`` URL."""
    relay = Relay(urlsplit(redis_url).path)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for task in relay.serving.copy():
            task.cancel()
        await asyncio.gather(*relay.serving, return_exceptions=True)
        await server.wait_closed()
