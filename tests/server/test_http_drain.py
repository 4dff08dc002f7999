"""Connections at their end, over real sockets: a draining server loses no request, and work nobody waits for stops."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from server import http_server
from server.http_server import HttpServer

WAIT_S = 30.0
NEXT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
App = Callable[[Any, Any, Any], Awaitable[None]]


class Desk:
    """An application that answers with its name once it may, and remembers who was cancelled."""

    def __init__(self, name: str = "desk", *, is_open: bool = True) -> None:
        self.name = name
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Semaphore(0)
        self.cancelled = asyncio.Semaphore(0)
        if is_open:
            self.may_answer.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.release()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise
        body = self.name.encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[str, bool]:
        """The body of the next answer, and whether the connection ends with it; interim answers are skipped."""
        async with asyncio.timeout(WAIT_S):
            while True:
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
                if not head.startswith("http/1.1 100 "):
                    break
            assert head.startswith("http/1.1 200 "), head
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            return (await self.reader.readexactly(length)).decode(), "connection: close" in head

    async def ask(self) -> tuple[str, bool]:
        """Send a request and read its answer."""
        self.writer.write(NEXT)
        return await self.answer()

    async def ends(self) -> bytes:
        """What still comes before the server closes the connection."""
        async with asyncio.timeout(WAIT_S):
            return await self.reader.read()


@pytest.fixture
async def listener() -> AsyncIterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        yield listener


@pytest.fixture
async def connect(listener: socket.socket) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    clients: list[Client] = []

    async def one() -> Client:
        host, port = listener.getsockname()
        clients.append(Client(*await asyncio.open_connection(host, port)))
        return clients[-1]

    yield one
    for client in clients:
        client.writer.close()
        with contextlib.suppress(OSError):
            await client.writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(app: App, listener: socket.socket, *, drain_s: float = WAIT_S) -> AsyncIterator[HttpServer]:
    """A server of its own on a socket that others hold open too."""
    server = HttpServer(app, listener.dup(), drain_s=drain_s)
    task = asyncio.create_task(server.run_until_stopped())
    async with asyncio.timeout(WAIT_S):
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    try:
        yield server
    finally:
        server.stop()
        await asyncio.wait_for(task, WAIT_S)


async def draining(server: HttpServer) -> None:
    """Stop a server and wait until it has begun to drain."""
    server.stop()
    async with asyncio.timeout(WAIT_S):
        while not server._draining.is_on:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_the_next_request_of_a_kept_connection_is_answered_and_told_to_close(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]]
) -> None:
    async with serving(Desk(), listener) as server:
        kept, fresh = await connect(), await connect()
        assert await kept.ask() == ("desk", False)
        await asyncio.sleep(0.05)  # the fresh one has been accepted by now
        await draining(server)
        for client in (kept, fresh):
            assert await client.ask() == ("desk", True)
            assert await client.ends() == b""


async def test_an_answer_on_its_way_when_the_drain_begins_says_close(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]]
) -> None:
    desk = Desk(is_open=False)
    async with serving(desk, listener) as server:
        client = await connect()
        client.writer.write(NEXT)
        await asyncio.wait_for(desk.asked.acquire(), WAIT_S)
        await draining(server)
        desk.may_answer.set()
        assert await client.answer() == ("desk", True)
        assert await client.ends() == b""


async def test_requests_sent_ahead_of_the_drain_and_during_it_are_all_answered(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]]
) -> None:
    desk = Desk(is_open=False)
    async with serving(desk, listener) as server:
        client = await connect()
        client.writer.write(NEXT * 2)
        await asyncio.wait_for(desk.asked.acquire(), WAIT_S)
        await draining(server)
        client.writer.write(NEXT * 2)
        await client.writer.drain()
        await asyncio.sleep(0.05)  # read, and queued behind the first
        desk.may_answer.set()
        assert [await client.answer() for _ in range(4)] == [("desk", False)] * 4
        assert await client.ask() == ("desk", True)


async def test_an_idle_connection_is_closed_after_the_grace(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "GRACE_S", 0.1)
    async with serving(Desk(), listener):
        client = await connect()
        assert await client.ask() == ("desk", False)
    assert await client.ends() == b""


async def test_connections_that_come_during_the_drain_are_left_to_who_else_listens(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]]
) -> None:
    async with serving(Desk("old"), listener) as old:
        kept = await connect()
        assert await kept.ask() == ("old", False)
        async with serving(Desk("new"), listener):
            await draining(old)
            for _ in range(5):
                fresh = await connect()
                assert await fresh.ask() == ("new", False)
                fresh.writer.close()
            assert await kept.ask() == ("old", True)


async def test_clients_that_never_stop_sending_lose_nothing_when_one_server_replaces_another(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]]
) -> None:
    """Clients reconnect when told to close, and never repeat a request."""
    answered: list[str] = []
    done = asyncio.Event()

    async def keep_asking() -> None:
        client = await connect()
        while not done.is_set():
            name, closes = await client.ask()
            answered.append(name)
            if closes:
                client = await connect()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        last = contextlib.AsyncExitStack()
        clients = [group.create_task(keep_asking()) for _ in range(16)]
        for i in range(6):
            async with contextlib.AsyncExitStack() as current:
                await current.enter_async_context(serving(Desk(f"server {i}"), listener))
                await last.aclose()  # the one before it, while this one accepts
                async with asyncio.timeout(WAIT_S):
                    while answered.count(f"server {i}") < 100:  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                last = current.pop_all()
        done.set()
        await asyncio.wait(clients, timeout=WAIT_S)
        await last.aclose()
    assert len(answered) >= 600


async def test_what_is_not_finished_when_the_drain_time_is_over_is_cancelled(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]], caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(is_open=False)
    async with serving(desk, listener, drain_s=0.1):
        client = await connect()
        client.writer.write(NEXT)
        await asyncio.wait_for(desk.asked.acquire(), WAIT_S)
    await asyncio.wait_for(desk.cancelled.acquire(), WAIT_S)


async def test_work_for_a_client_that_has_left_is_cancelled(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]], caplog: pytest.LogCaptureFixture
) -> None:
    """It closes its socket in the ordinary way, which on the wire looks like having finished sending."""
    desk = Desk(is_open=False)
    async with serving(desk, listener):
        client = await connect()
        client.writer.write(NEXT)
        await asyncio.wait_for(desk.asked.acquire(), WAIT_S)
        client.writer.close()
        await asyncio.wait_for(desk.cancelled.acquire(), WAIT_S)
    assert caplog.records == [], "a client that leaves is no error"


async def test_work_for_a_client_that_resets_its_connection_is_cancelled(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]]
) -> None:
    desk = Desk(is_open=False)
    async with serving(desk, listener):
        client = await connect()
        client.writer.write(NEXT)
        await asyncio.wait_for(desk.asked.acquire(), WAIT_S)
        client.writer.transport.abort()
        await asyncio.wait_for(desk.cancelled.acquire(), WAIT_S)


async def test_a_client_that_has_finished_sending_and_waits_is_answered(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]]
) -> None:
    desk = Desk(is_open=False)
    async with serving(desk, listener):
        client = await connect()
        client.writer.write(NEXT)
        client.writer.write_eof()
        await asyncio.wait_for(desk.asked.acquire(), WAIT_S)
        await asyncio.sleep(0.1)  # looked after several times
        assert desk.cancelled.locked()
        desk.may_answer.set()
        assert await client.answer() == ("desk", True)


async def test_a_client_of_http_1_0_gets_no_interim_answer(
    listener: socket.socket, connect: Callable[[], Awaitable[Client]]
) -> None:
    desk = Desk(is_open=False)
    async with serving(desk, listener):
        client = await connect()
        client.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        client.writer.write_eof()
        await asyncio.wait_for(desk.asked.acquire(), WAIT_S)
        await asyncio.sleep(0.05)
        desk.may_answer.set()
        assert (await client.ends()).startswith(b"HTTP/1.1 200")
