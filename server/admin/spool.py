"""The spool: one upload on its way to disk, bounded in bytes and in time, hashed as it comes.

Owns the ``.part`` file: that no more is written than may be, that the event loop never waits for the disk, that a full
disk has a name, and that nothing is left of an upload that ends early. What a bundle is, nobody here knows; whether
this one may be registered is decided by `server.admin.registration`.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from server import edge
from server.admin.journal import Journal
from server.deadlines import Deadlines
from server.errors import ApiError, BadRequest, StorageFull

IDLE_S = 15.0
"""An upload of which nothing comes for so long is given up."""
WHOLE_S = 900.0
"""And one that has not ended by then."""
BATCH_BYTES = 1 << 20
"""So much is gathered before it is handed to a thread: a hand-over costs the loop 50 µs."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

T = TypeVar("T")


class Spool:
    """One upload's file. ``threads``: where everything that waits for the disk is done."""

    def __init__(self, journal: Journal, threads: Executor) -> None:
        self.journal = journal
        self.size = 0
        """Bytes written so far."""
        self._threads = threads
        self._sha256 = hashlib.sha256()
        self._is_handed_over = False
        self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o400)

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.journal.part

    @property
    def sha256(self) -> str:
        """Of what has been written, in hex: the ticket's id, once all of it has come."""
        return self._sha256.hexdigest()

    async def fill(self, chunks: AsyncIterator[bytes], limit_bytes: int, too_much: ApiError) -> None:
        """Write everything that comes, and sync it. Raises ``too_much`` beyond ``limit_bytes``, StorageFull, and
        whatever ``chunks`` raises."""
        gathered: list[bytes] = []
        waiting = 0
        async for chunk in chunks:
            if self.size + waiting + len(chunk) > limit_bytes:
                raise too_much
            gathered.append(chunk)
            waiting += len(chunk)
            if waiting >= BATCH_BYTES:
                await on_disk(self._threads, self._write, gathered)
                gathered, waiting = [], 0
        await on_disk(self._threads, self._finish, gathered)

    def hand_over(self) -> Journal:
        """From now on the file and its journal are somebody else's to end."""
        self._is_handed_over = True
        return self.journal

    async def end(self) -> None:
        """Nothing is left of it, unless it has been handed over."""
        if not self._is_handed_over:
            await on_disk(self._threads, self._end)

    def _end(self) -> None:
        self._close()
        self.journal.end()

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
            self._sha256.update(chunk)
            self.size += len(chunk)

    def _finish(self, chunks: list[bytes]) -> None:
        self._write(chunks)
        os.fsync(self._handle)
        self._close()


async def begin(registry: Path, threads: Executor) -> Spool:
    """A new spool with its journal. Raises StorageFull."""

    def make() -> Spool:
        journal = Journal.begin(registry)
        try:
            return Spool(journal, threads)
        except BaseException:
            journal.end()
            raise

    return await on_disk(threads, make)


async def chunks_of(receive: edge.Receive, deadlines: Deadlines) -> AsyncIterator[bytes]:
    """The body of a request, as it comes. Raises LateBody, ClientGone."""
    ends = asyncio.get_running_loop().time() + WHOLE_S
    has_more = True
    while has_more:
        left_s = ends - asyncio.get_running_loop().time()
        try:
            with deadlines.within(min(IDLE_S, left_s)):
                message = await receive()
        except TimeoutError as error:
            if left_s > IDLE_S:
                raise edge.LateBody(f"nothing of the upload came for {IDLE_S:g} s") from error
            raise edge.LateBody(f"the upload took longer than {WHOLE_S:g} s") from error
        if message["type"] == "http.disconnect":
            raise edge.ClientGone
        has_more = message.get("more_body", False)
        if body := message.get("body", b""):
            yield body


def declared_bytes(headers: edge.Headers) -> int:
    """The length that the head declares; 0 where it declares none. Raises BadRequest for a compressed upload."""
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
        raise BadRequest("send the bundle as it is, without Content-Encoding: its id is the hash of what is sent")
    declared = headers.get(b"content-length", b"")
    return int(declared[:18]) if declared.isdigit() else 0


async def on_disk(threads: Executor, work: Callable[..., T], *arguments: object) -> T:
    """Do blocking work in a thread, and wait for its end even where the caller is cancelled meanwhile: what it works on
    is closed and removed afterwards. Raises StorageFull, and whatever ``work`` raises."""
    future = asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    try:
        return future.result()
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"the upload cannot be kept here: {os.strerror(error.errno or 0)}") from error
        raise


async def read_away(headers: edge.Headers, receive: edge.Receive) -> None:
    """Read what still comes of a refused upload, within bounds, so that its sender hears why instead of a reset."""
    if b"expect" in headers:
        return  # who asked for permission first has sent nothing
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(edge.DISCARD_S):
            has_more = True
            while has_more and size <= edge.DISCARD_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                has_more = message.get("more_body", False)
