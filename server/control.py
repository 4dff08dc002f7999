"""The control socket of `tombola up`: a Unix socket on which it takes orders from its own user.

Owns the conversation: one JSON line with an order, JSON lines with what is being done, and one
that says how it ended. Who may open the socket is decided by the permissions of its directory.
What an order does is left to whoever serves it (`server.up`), what is shown to `server.restart`.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec

MAX_ORDER_BYTES = 4096
Say = Callable[[str], None]
Order = Callable[[Say], Awaitable[None]]


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the answer. The last one has ``is_done``, with ``error`` where it did not work."""

    text: str = ""
    is_done: bool = False
    error: str = ""


class _Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    order: str


class OrderFailed(Exception):
    """An order that could not be carried out; the message says why."""


def control_file(run_dir: Path) -> Path:
    """Where an installation takes orders."""
    return run_dir / "up.sock"


@contextlib.asynccontextmanager
async def serving(path: Path, orders: dict[str, Order]) -> AsyncIterator[None]:
    """Take orders at ``path`` while the block runs; leaving it abandons the ones in progress."""
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        try:
            await _converse(reader, writer, orders)
        except (OSError, asyncio.CancelledError):
            return  # who asked has gone, or we are stopping
        finally:
            conversations.discard(task)
            writer.close()

    server = await asyncio.start_unix_server(converse, sock=_bound(path), limit=MAX_ORDER_BYTES)
    try:
        yield
    finally:
        server.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        _remove(path)


def _bound(path: Path) -> socket.socket:
    """A socket for this user alone. What is at ``path`` a killed `up` has left: the state directory is locked."""
    _remove(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(str(path))
    path.chmod(0o600)
    return bound


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, orders: dict[str, Order]) -> None:
    def say(text: str) -> None:
        if not writer.is_closing():  # the order is carried out all the same
            writer.write(msgspec.json.encode(Said(text=text)) + b"\n")

    try:
        asked = msgspec.json.decode(await reader.readline(), type=_Asked)
        await orders[asked.order](say)
        last = Said(is_done=True)
    except KeyError as error:
        last = Said(is_done=True, error=f"there is no order {error}; there are {sorted(orders)}")
    except (msgspec.DecodeError, ValueError) as error:
        last = Said(is_done=True, error=f"this is no order: {error}")
    except OrderFailed as error:
        last = Said(is_done=True, error=str(error))
    writer.write(msgspec.json.encode(last) + b"\n")
    await writer.drain()


async def give(path: Path, order: str, say: Say) -> None:
    """Give an order and wait until it has been carried out; ``say`` hears what is being done.

    Raises OrderFailed, and OSError where nobody listens at ``path``.
    """
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(msgspec.json.encode(_Asked(order=order)) + b"\n")
        async for line in reader:
            said = msgspec.json.decode(line, type=Said)
            if said.error:
                raise OrderFailed(said.error)
            if said.is_done:
                return
            say(said.text)
        raise OrderFailed("`tombola up` ended before it was done")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
