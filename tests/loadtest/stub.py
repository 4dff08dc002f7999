"""A small real HTTP/1.1 server for the load test's tests: in the test's own loop, or as a process of its own.

What it answers is a function from the request to bytes, so that a test can answer badly on purpose. As a
process (``python stub.py [delay_ms]``) it prints its port and answers like ``POST /v1/classify``.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple, Self

TICKET = "ab" * 32


class Seen(NamedTuple):
    """A request as it arrived, on the how-manieth connection."""

    head: str
    body: bytes
    connection: int

    @property
    def key(self) -> str:
        """The bearer key."""
        return self.head.partition("Bearer ")[2].partition("\r\n")[0]


Answer = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]
"""Writes a response; closing the writer ends the connection."""


def response(status: int, document: object, *headers: str) -> bytes:
    """A whole response with a JSON body."""
    body = json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def classified(seen: Seen) -> dict[str, object]:
    """The body of a good answer to ``seen``."""
    asked = json.loads(seen.body)
    return {
        "domain": asked["domain"],
        "tier": asked.get("tier", "fast"),
        "ticket": TICKET,
        "results": [{"label": "a", "probability": 0.9, "in_scope": True, "in_scope_score": 0.9, "top": []}],
        "timings_ms": {"queue": 0.5, "run": 1.5, "total": 2.5},
        "request_id": "1",
    }


async def classify(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Answers as the gateway does, with its 401 and 404."""
    asked = json.loads(seen.body)
    if seen.key != "tk_good":
        writer.write(response(401, {"error": "no such key", "code": "unauthorized"}))
    elif asked["domain"] not in ("banking", "travel"):
        writer.write(response(404, {"error": "no domain of that name", "code": "unknown_domain"}))
    else:
        writer.write(response(200, classified(seen)))


async def until(holds: Callable[[], bool]) -> None:
    """Returns when ``holds`` does; a test's own timeout bounds it."""
    while not holds():  # noqa: ASYNC110 - the condition lies in code under test that has no event for it
        await asyncio.sleep(0.001)


class Stub:
    """An async context manager: listens on ``url`` while it lasts, and keeps what it saw."""

    def __init__(self, answer: Answer = classify) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.url = ""
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:  # a task cancelled before its first step has closed nothing
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.ensure_future(self._serve(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
                seen = Seen(head, await reader.readexactly(length), connection)
                self.seen.append(seen)
                await self._answer(seen, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _main(delay_ms: float) -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay_ms / 1000)
        await classify(seen, writer)

    async with Stub(answer) as stub:
        sys.stdout.write(stub.url + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
