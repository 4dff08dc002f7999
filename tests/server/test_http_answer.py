"""Answers in one write are the same bytes as by the ordinary way, and idle connections end by one timer."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from server import edge
from server.http_protocol import HttpProtocol
from server.http_server import HttpServer
from server.listen import listen

WAIT_S = 30.0


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers at /plain the ordinary way, elsewhere by `edge.send_body`."""
    await receive()
    if scope["path"] == "/plain":
        assert callable(scope.pop(edge.RESPOND))
    headers = [(b"content-type", b"text/plain"), (b"x-request-id", b"abc-1")]
    if b"last" in scope["query_string"]:
        headers.append((b"connection", b"close"))
    await edge.send_body(scope, send, 200 if b"ok" in scope["query_string"] else 503, b"four", headers)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[HttpServer]:
    server = HttpServer(app, listen("127.0.0.1", 0, "--port"), drain_s=0.0)
    running = asyncio.create_task(server.run_until_stopped())
    async with asyncio.timeout(WAIT_S):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
    yield server
    server.stop()
    await running


async def ask(server: HttpServer, *requests: bytes) -> bytes:
    """All that comes back on one connection, dates left out; the server must end it."""
    reader, writer = await asyncio.open_connection(*server.listener.getsockname()[:2])
    writer.write(b"".join(requests))
    async with asyncio.timeout(WAIT_S):
        answer = await reader.read()
    writer.close()
    return re.sub(rb"date: [^\r]+\r\n", b"", answer)


@pytest.mark.parametrize("query", [b"ok", b"no"])
@pytest.mark.parametrize(
    "form",
    [
        b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        b"POST %b HTTP/1.0\r\ncontent-length: 0\r\n\r\n",
        b"POST %b-last HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        b"GET %b HTTP/1.1\r\nhost: x\r\n\r\nGET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ],
)
async def test_one_write_and_two_give_the_same_bytes(server: HttpServer, form: bytes, query: bytes) -> None:
    """Kept alive, closed by either side, pipelined; for HTTP/1.0 and 1.1."""
    whole, plain = [
        await ask(server, form.replace(b"%b", path + b"?" + query)) for path in (b"/whole", b"/plain")
    ]  # fmt: skip
    assert whole == plain
    assert whole.count(b"four") == form.count(b"%b")
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n" if query == b"ok" else b"HTTP/1.1 503 Service Unavailable\r\n")


async def test_an_idle_connection_ends_when_it_has_been_idle_for_so_long_and_no_earlier(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection(*server.listener.getsockname()[:2])
    writer.write(b"GET /whole?ok HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(WAIT_S):
        await reader.readuntil(b"four")
        (connection,) = server.server_state.connections
        assert isinstance(connection, HttpProtocol)
        connection.timeout_keep_alive_handler()  # the timer, early: the connection was in use meanwhile
        writer.write(b"GET /whole?ok HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"four")
        assert connection.timeout_keep_alive_task is not None
        assert connection._idle_since is not None
        connection._idle_since -= connection.timeout_keep_alive
        connection.timeout_keep_alive_handler()
        assert await reader.read() == b""
    writer.close()
