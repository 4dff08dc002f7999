"""Waiting until a gateway says that it is ready: one HTTP request at a time, no HTTP library.

Owns the question and how to read its answer; what to do while waiting is the caller's.
An HTTP client library would take longer to import than the gateway takes to start.
"""

import asyncio
import contextlib
import socket

from server.listen import loopback

POLL_S = 0.02
ONE_TRY_S = 5.0


async def wait_until_ready(listener: socket.socket) -> None:
    """Return when the gateway behind a listening socket says that it is ready (HTTP 200)."""
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ONE_TRY_S):
                if await _is_ready(listener):
                    return
        await asyncio.sleep(POLL_S)


async def _is_ready(listener: socket.socket) -> bool:
    host, port = loopback(listener)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = (await reader.readline()).split()
        return len(status) > 1 and status[1] == b"200"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
