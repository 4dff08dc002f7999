"""The client against a real server that behaves, and against real servers that do not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest.client import Client, Endpoint
from loadtest.connection import Reply
from tests.loadtest.stub import Answer, Seen, Stub, response, until

PAYLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


@asynccontextmanager
async def talking(answer: Answer, *, timeout_s: float = 30.0, cap: int = 8) -> AsyncIterator[tuple[Client, Stub]]:
    async with Stub(answer) as stub:
        client = Client(Endpoint.parse(stub.url), max_connections=cap, timeout_s=timeout_s)
        try:
            yield client, stub
        finally:
            await client.close()


def writes(*pieces: bytes, close: bool = False) -> Answer:
    """An answer that is written piece by piece."""

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if close:
            writer.close()

    return answer


class Gate:
    """Answers nothing until it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, _: Seen, writer: asyncio.StreamWriter) -> None:
        await self.opened.wait()
        writer.write(response(200, {}))


async def test_requests_one_after_another_share_a_connection() -> None:
    async with talking(writes(response(200, {"a": 1}))) as (client, stub):
        replies = [await client.request(PAYLOAD) for _ in range(5)]
        assert [(r.status, r.body, r.failure) for r in replies] == [(200, b'{"a": 1}', "")] * 5
        assert stub.connections == 1
        assert all(r.sent_s is not None and r.sent_s <= r.done_s for r in replies)


async def test_requests_at_once_get_a_connection_each() -> None:
    """The pool grows to what is under way: none of three requests waits for another's answer."""
    gate = Gate()
    async with talking(gate) as (client, stub):
        tasks = [asyncio.ensure_future(client.request(PAYLOAD)) for _ in range(3)]
        await until(lambda: len(stub.seen) == 3)
        gate.opened.set()
        assert [r.status for r in await asyncio.gather(*tasks)] == [200] * 3
        assert stub.connections == client.connections == 3


async def test_at_the_cap_requests_wait_and_are_all_answered_in_order() -> None:
    async with talking(writes(response(200, {})), cap=2) as (client, stub):
        replies = await asyncio.gather(*(client.request(PAYLOAD) for _ in range(20)))
        assert [r.status for r in replies] == [200] * 20
        assert stub.connections == 2
        sent = [r.sent_s for r in replies if r.sent_s is not None]
        assert sent == sorted(sent)


async def test_a_wait_at_the_cap_counts_towards_the_timeout() -> None:
    """A request that never got a connection ends as a timeout, and says that no byte was sent."""
    gate = Gate()
    async with talking(gate, timeout_s=0.2, cap=1) as (client, _):
        first, second = await asyncio.gather(client.request(PAYLOAD), client.request(PAYLOAD))
        assert (first.failure, second.failure) == ("timeout", "timeout")
        assert first.sent_s is not None
        assert second.sent_s is None


async def test_a_chunked_response_is_put_together() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with talking(writes(head, b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n")) as (client, stub):
        assert [(await client.request(PAYLOAD)).body for _ in range(2)] == [b"abcde"] * 2
        assert stub.connections == 1


async def test_a_response_in_single_bytes_is_put_together() -> None:
    pieces = [bytes([byte]) for byte in response(200, {"x": "y"})]
    async with talking(writes(*pieces)) as (client, _):
        assert (await client.request(PAYLOAD)).body == b'{"x": "y"}'


async def test_connection_close_is_obeyed() -> None:
    async with talking(writes(response(200, {}, "Connection: close"), close=True)) as (client, stub):
        assert [(await client.request(PAYLOAD)).status for _ in range(3)] == [200] * 3
        assert stub.connections == 3


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with talking(writes(b"HTTP/1.1 200 OK\r\n\r\nabc", b"de", close=True)) as (client, _):
        reply = await client.request(PAYLOAD)
        assert (reply.status, reply.body, reply.failure) == (200, b"abcde", "")


async def test_an_interim_response_is_not_the_answer() -> None:
    async with talking(writes(b"HTTP/1.1 100 Continue\r\n\r\n", response(200, {}))) as (client, _):
        assert [(await client.request(PAYLOAD)).status for _ in range(2)] == [200, 200]


async def test_a_server_that_never_answers_is_a_timeout() -> None:
    """The connection is dropped: a late answer must never be taken for the next request's."""
    async with talking(Gate(), timeout_s=0.2) as (client, stub):
        reply = await client.request(PAYLOAD)
        assert (reply.status, reply.failure) == (0, "timeout")
        await client.request(PAYLOAD)
        assert stub.connections == 2


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 200",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",),
    ],
)
async def test_a_response_cut_off_is_no_answer(pieces: tuple[bytes, ...]) -> None:
    async with talking(writes(*pieces, close=True)) as (client, _):
        reply = await client.request(PAYLOAD)
        assert (reply.status, reply.failure) == (0, "connection_closed")


async def test_what_is_not_http_is_a_bad_response() -> None:
    async with talking(writes(b"SSH-2.0-OpenSSH_9.6\r\n")) as (client, _):
        assert (await client.request(PAYLOAD)).failure == "bad_response"


async def test_after_a_failure_the_next_request_gets_a_new_connection() -> None:
    """One bad answer spoils one request, not the run."""
    answers = iter([writes(b"HTTP/1.1 200", close=True), classify_anything, classify_anything])

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await next(answers)(seen, writer)

    async with talking(answer) as (client, _):
        assert [(await client.request(PAYLOAD)).status for _ in range(3)] == [0, 200, 200]


async def classify_anything(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(response(200, {}))


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, {}))  # keep-alive says the response; the server closes all the same
        writer.close()

    async with talking(answer) as (client, stub):
        assert (await client.request(PAYLOAD)).status == 200
        await until(lambda: client.connections == 0)
        assert (await client.request(PAYLOAD)).status == 200
        assert stub.connections == 2


async def test_a_connection_that_rested_too_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be closing it this very moment, and the error would look like the server's."""
    monkeypatch.setattr("loadtest.client.IDLE_S", 0.0)
    async with talking(writes(response(200, {}))) as (client, stub):
        assert [(await client.request(PAYLOAD)).status for _ in range(3)] == [200] * 3
        assert stub.connections == 3


async def test_nobody_listening_is_a_refused_connection() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = Client(Endpoint.parse(f"http://127.0.0.1:{free.getsockname()[1]}"))
        replies = await asyncio.gather(*(client.request(PAYLOAD) for _ in range(3)))
        await client.close()
    assert [r.failure for r in replies] == ["connect_refused"] * 3


async def test_close_settles_everything_once() -> None:
    """Nobody is left waiting, whether the request was sent, queued at the cap, or still connecting."""
    replies: list[Reply] = []
    async with talking(Gate(), cap=2) as (client, stub):
        for _ in range(5):
            client.submit(PAYLOAD, replies.append)
        await until(lambda: len(stub.seen) == 2)
    assert [r.failure for r in replies] == ["interrupted"] * 5


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080, False, "127.0.0.1:8080", "")),
        ("https://api.example.org/tombola/", ("api.example.org", 443, True, "api.example.org", "/tombola")),
        ("http://[::1]:9", ("::1", 9, False, "[::1]:9", "")),
    ],
)
def test_urls_are_taken_apart(url: str, expected: tuple[object, ...]) -> None:
    assert tuple(Endpoint.parse(url)) == expected


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://x", "http://", "http://a b", "http://u@h", "http://h/?q=1", "http://h:99999"]
)
def test_what_is_not_a_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|only scheme|[Pp]ort"):
        Endpoint.parse(url)
