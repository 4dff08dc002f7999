"""Uploads on their way to disk: bounded, hashed, and gone when they end early."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from server import edge
from server.admin import spool
from server.admin.journal import FOLDER, Journal
from server.deadlines import Deadlines
from server.errors import BadRequest, TooLarge

BIG = TooLarge("too much")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


async def parts(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


def receiving(*messages: dict[str, Any]) -> edge.Receive:
    """ASGI's receive, which says these and then never anything again."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def left(folder: Path) -> list[Path]:
    return list((folder / FOLDER).iterdir())


async def test_what_comes_is_written_and_hashed(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    chunks = [b"a" * 700_000, b"", b"b" * 700_000, b"c"]
    upload = await spool.begin(tmp_path, threads)
    await upload.fill(parts(*chunks), 2 << 20, BIG)
    assert upload.path.read_bytes() == b"".join(chunks)
    assert (upload.size, upload.sha256) == (1_400_001, hashlib.sha256(b"".join(chunks)).hexdigest())
    await upload.end()
    assert left(tmp_path) == []


@pytest.mark.parametrize("over", [0, 1])
async def test_the_limit_is_kept_to_the_byte(tmp_path: Path, threads: ThreadPoolExecutor, over: int) -> None:
    upload = await spool.begin(tmp_path, threads)
    if over:
        with pytest.raises(TooLarge):
            await upload.fill(parts(b"x" * 50, b"x" * (50 + over)), 100, BIG)
    else:
        await upload.fill(parts(b"x" * 50, b"x" * 50), 100, BIG)
        assert upload.size == 100
    await upload.end()
    assert left(tmp_path) == []


async def test_what_has_been_handed_over_is_not_removed(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    upload = await spool.begin(tmp_path, threads)
    await upload.fill(parts(b"data"), 100, BIG)
    journal = upload.hand_over()
    await upload.end()
    assert journal.part.read_bytes() == b"data"
    journal.end()


async def test_a_cancelled_upload_waits_for_the_thread_that_writes_it(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    """Else its file would be closed under that thread, which would write into whatever is opened next."""
    has_begun, may_end = asyncio.Event(), __import__("threading").Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(has_begun.set)
        may_end.wait(30)

    task = asyncio.create_task(spool.on_disk(threads, work))
    await has_begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_body_comes_in_pieces(tmp_path: Path) -> None:
    receive = receiving(
        {"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.request", "body": b"b"}
    )
    assert [one async for one in spool.chunks_of(receive, Deadlines())] == [b"a", b"b"]


async def test_a_client_that_goes_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IDLE_S", 0.01)
    receive = receiving({"type": "http.request", "body": b"a", "more_body": True})
    with pytest.raises(edge.LateBody, match="nothing of the upload came"):
        [one async for one in spool.chunks_of(receive, Deadlines())]


async def test_a_client_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "WHOLE_S", 0.05)

    async def drip() -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"a", "more_body": True}

    with pytest.raises(edge.LateBody, match="took longer"):
        [one async for one in spool.chunks_of(drip, Deadlines())]


async def test_a_client_that_has_gone_is_noticed() -> None:
    with pytest.raises(edge.ClientGone):
        [one async for one in spool.chunks_of(receiving({"type": "http.disconnect"}), Deadlines())]


def test_a_compressed_upload_is_refused() -> None:
    with pytest.raises(BadRequest):
        spool.declared_bytes({b"content-encoding": b"gzip"})


@pytest.mark.parametrize(("declared", "size"), [(b"12", 12), (b"", 0), (b"-1", 0), (b"9" * 40, int("9" * 18))])
def test_a_declared_length_is_read_with_care(declared: bytes, size: int) -> None:
    assert spool.declared_bytes({b"content-length": declared}) == size


def test_a_journal_is_its_owners_until_it_lets_go(tmp_path: Path) -> None:
    mine = Journal.begin(tmp_path)
    assert Journal.claim(mine.path) is None
    mine.let_go()
    theirs = Journal.claim(mine.path)
    assert theirs is not None
    theirs.end()
    assert Journal.claim(mine.path) is None
