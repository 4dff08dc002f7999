"""A link owes every reply exactly once, whatever the worker does (a real Unix socket each time)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from server import wire
from server.errors import InferenceFailed, Internal, Overloaded, WorkerLost
from server.link import SILENCE_S, Link
from server.tensor import from_texts
from tests.server.fake_worker import FakeWorker, answer, fail, hang, until

TICKET = "t" * 64


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[FakeWorker]:
    with TemporaryDirectory(prefix="tombola-") as folder:
        async with FakeWorker(str(Path(folder) / "w.sock")) as worker:
            worker.holds = [TICKET]
            yield worker


@pytest_asyncio.fixture
async def link(worker: FakeWorker) -> AsyncIterator[Link]:
    link = await Link.connect("w1", str(worker.where))
    yield link
    link.close()
    await asyncio.sleep(0)


async def call(link: Link, text: str = "song", row_ms: float = 0.0) -> wire.Answer:
    inputs = [from_texts("text", [text])]
    return await link.call(ticket=TICKET, tenant="acme", remaining_ms=1000.0, inputs=inputs, row_ms=row_ms)


async def test_an_answer_reaches_its_caller_and_nothing_is_owed_after(link: Link) -> None:
    answered = await call(link, "rain sun")
    assert answered.outputs[0].data.endswith(b"weather")
    assert link.owed == 0


async def test_answers_in_another_order_reach_the_right_callers(worker: FakeWorker, link: Link) -> None:
    worker.behave = hang
    calls = [asyncio.create_task(call(link, text)) for text in ("rain", "song", "lamp")]
    await until(lambda: len(worker.asks) == 3)
    for ask in reversed(worker.asks):
        next(iter(worker.connections)).send(answer(ask))
    labels = [reply.outputs[0].data[4:] for reply in await asyncio.gather(*calls)]
    assert labels == [b"weather", b"music", b"lights"]


async def test_a_failure_raises_the_error_that_it_names(worker: FakeWorker, link: Link) -> None:
    for code, error in (("inference_failed", InferenceFailed), ("overloaded", Overloaded), ("no such", Internal)):
        worker.behave = fail(code)
        with pytest.raises(error, match="made to fail"):
            await call(link)


async def test_losing_the_worker_fails_everything_owed_at_once(worker: FakeWorker, link: Link) -> None:
    worker.behave = hang
    calls = [asyncio.create_task(call(link)) for _ in range(5)]
    await worker.asked.wait()
    await worker.die()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [WorkerLost] * 5
    assert link.owed == 0
    with pytest.raises(WorkerLost):
        await call(link)
    assert link.view() is None


async def test_a_cancelled_call_tells_the_worker_and_leaves_the_others_alone(worker: FakeWorker, link: Link) -> None:
    worker.behave = hang
    given_up, kept = asyncio.create_task(call(link, "rain")), asyncio.create_task(call(link, "song"))
    await until(lambda: len(worker.asks) == 2)
    given_up.cancel()
    await asyncio.wait({given_up})
    await worker.told.wait()
    assert worker.cancelled == [worker.asks[0].id]
    connection = next(iter(worker.connections))
    connection.send(answer(worker.asks[0]))  # too late: ignored
    connection.send(answer(worker.asks[1]))
    assert (await kept).outputs[0].data[4:] == b"music"
    assert link.owed == 0


async def test_replies_nobody_is_owed_are_ignored(worker: FakeWorker, link: Link) -> None:
    next(iter(worker.connections)).send(wire.Failure(999, "internal", "who?"))
    assert (await call(link)).batch_texts == 1


async def test_a_second_answer_to_the_same_ask_is_ignored(worker: FakeWorker, link: Link) -> None:
    def twice(ask: wire.Ask) -> wire.Answer:
        next(iter(worker.connections)).send(wire.Failure(ask.id, "internal", "first"))
        return answer(ask)

    worker.behave = twice
    with pytest.raises(Internal, match="first"):
        await call(link)
    worker.behave = answer
    assert (await call(link)).batch_texts == 1


async def test_asks_of_one_turn_of_the_loop_go_out_as_one_frame(worker: FakeWorker, link: Link) -> None:
    before = worker.frames
    await asyncio.gather(*(call(link) for _ in range(20)))
    assert len(worker.asks) == 20
    assert worker.frames - before == 1


async def test_the_view_follows_the_workers_status(worker: FakeWorker, link: Link) -> None:
    view = link.view()
    assert view is not None
    assert (view.name, view.holds) == ("w1", frozenset({TICKET}))
    worker.holds, worker.wait_ms = ["u" * 64], 60_000.0
    worker.say()
    await until(lambda: (view := link.view()) is not None and view.holds == frozenset({"u" * 64}))
    view = link.view()
    assert view is not None
    assert 0 < view.wait_ms <= 60_000


async def test_a_draining_worker_is_not_shown_but_still_answers(worker: FakeWorker, link: Link) -> None:
    worker.is_draining = True
    worker.say()
    await until(lambda: link.view() is None)
    assert (await call(link)).batch_texts == 1


async def test_work_that_was_sent_counts_towards_the_wait_until_the_worker_reports(
    worker: FakeWorker, link: Link
) -> None:
    worker.behave, worker.beats = hang, False
    calls = [asyncio.create_task(call(link, row_ms=10_000.0)) for _ in range(3)]
    await worker.asked.wait()
    view = link.view()
    assert view is not None
    assert 20_000 < view.wait_ms <= 30_000
    worker.say()  # reports a wait of 0
    await until(lambda: (view := link.view()) is not None and view.wait_ms == 0)
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_silent_worker_is_lost_and_one_that_speaks_is_not(worker: FakeWorker, link: Link) -> None:
    """Time is an argument of `check`."""
    now = asyncio.get_running_loop().time()
    link.check(now + SILENCE_S / 2)
    assert not link.lost.done()
    worker.behave = hang
    owed = asyncio.create_task(call(link))
    await worker.asked.wait()
    link.check(now + 10 * SILENCE_S)
    with pytest.raises(WorkerLost, match="silent"):
        await owed


async def test_a_peer_that_does_not_speak_the_protocol_is_lost(worker: FakeWorker, link: Link) -> None:
    next(iter(worker.connections)).transport.write(b"\xff\xff\xff\xff garbage")
    await asyncio.wait({link.lost})
    assert "protocol" in link.lost.result()


async def test_connecting_to_nobody_or_to_someone_mute_fails(worker: FakeWorker) -> None:
    with pytest.raises(OSError, match="No such file"):
        await Link.connect("w9", "unix:/nonexistent/socket")
    worker.beats = False
    with pytest.raises(TimeoutError):
        await Link.connect("w1", str(worker.where), timeout_s=0.1)
