"""A link owes every reply exactly once, whatever the worker does (a real Unix socket each time)."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_asyncio

from routing.cost import Cost
from server import wire
from server.call import Call, payload_of
from server.errors import InferenceFailed, Internal, Overloaded, WorkerLost
from server.link import QUIET_S, SILENCE_S, Link, Suspected
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


async def call(link: Link, text: str = "song", **changes: Any) -> wire.Answer:
    asked = Call(tenant="acme", domain="home", inputs=[from_texts("text", [text])], **changes)
    return await link.call(payload_of(asked, {}), TICKET, 1000.0)


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
    with pytest.raises(WorkerLost) as later:
        await call(link)
    assert [error.retry_after_s for error in (*results, later.value) if isinstance(error, WorkerLost)] == [1.0] * 6
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


async def test_the_view_follows_what_the_worker_says(worker: FakeWorker, link: Link) -> None:
    await until(lambda: (view := link.view()) is not None and set(view.costs) == {TICKET})
    worker.say(wire.Costs({"u" * 64: Cost(1.0, 2.0, 3.0)}), wire.Unloaded([TICKET]))
    await until(lambda: (view := link.view()) is not None and set(view.costs) == {"u" * 64})
    worker.say(wire.Load(1e6, 50.0, {"acme": 50.0}, 1.0, 0.75))
    await until(lambda: (view := link.view()) is not None and view.busy == 0.75)
    view = link.view()
    assert view is not None
    assert (view.name, view.costs["u" * 64], view.tenants) == ("w1", Cost(1.0, 2.0, 3.0), {"acme": 50.0})
    assert [view.active_weight, view.queued_ms] == pytest.approx([1.0, 50.0])
    assert 9e5 < view.running_ms <= 1e6


async def test_an_ask_carries_the_tenants_priority_and_what_it_wants(worker: FakeWorker, link: Link) -> None:
    await call(link, priority=1, outputs=["label"])
    ask = worker.asks[0]
    assert (ask.tenant, ask.ticket, ask.priority, ask.outputs, ask.wants_confidence) == (
        "acme", TICKET, 1, ["label"], False,
    )  # fmt: skip


async def test_a_draining_worker_is_not_shown_but_still_answers(worker: FakeWorker, link: Link) -> None:
    worker.is_draining = True
    worker.say()
    await until(lambda: link.view() is None)
    assert (await call(link)).batch_texts == 1


async def test_work_that_was_sent_counts_towards_the_queue_until_the_worker_reports(worker: FakeWorker) -> None:
    worker.behave, worker.beats, worker.costs = hang, True, {TICKET: Cost(0.0, 10_000.0, 0.0)}
    link = await Link.connect("w1", str(worker.where))
    worker.beats = False
    await until(lambda: (view := link.view()) is not None and TICKET in view.costs)
    calls = [asyncio.create_task(call(link)) for _ in range(3)]
    await worker.asked.wait()
    view = link.view()
    assert view is not None
    assert 20_000 < view.queued_ms <= 30_000
    assert view.tenants == {"acme": 30_000.0}
    worker.say(wire.Load(0.0, 0.0))
    await until(lambda: (view := link.view()) is not None and view.queued_ms == 0 and not view.tenants)
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    link.close()


async def test_shares_reach_the_worker(worker: FakeWorker, link: Link) -> None:
    link.tell(wire.Shares(3, {"acme": wire.Share(2.0, 1 << 20)}))
    await until(lambda: bool(worker.shares))
    assert worker.shares == [wire.Shares(3, {"acme": wire.Share(2.0, 1 << 20)})]


async def test_a_silent_worker_is_suspected_before_it_is_lost_and_its_late_answer_still_counts(
    worker: FakeWorker, link: Link
) -> None:
    worker.behave = hang
    waiting = [asyncio.create_task(call(link)) for _ in range(2)]
    await until(lambda: len(worker.asks) == 2)
    link.check(time.monotonic() + (QUIET_S + SILENCE_S) / 2)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    first, second = errors
    assert isinstance(first, Suspected)
    assert isinstance(second, Suspected)
    assert not link.lost.done()
    assert link.owed == 2
    second.give_up()
    await worker.told.wait()
    assert worker.cancelled == [worker.asks[1].id]
    late = asyncio.create_task(first.answer())
    next(iter(worker.connections)).send(answer(worker.asks[0]), answer(worker.asks[1]))
    assert (await late).outputs[0].data[4:] == b"music"
    assert link.owed == 0


async def test_who_waits_for_a_suspected_worker_is_told_when_it_is_lost(worker: FakeWorker, link: Link) -> None:
    worker.behave = hang
    waiting = asyncio.create_task(call(link))
    await worker.asked.wait()
    link.check(time.monotonic() + (QUIET_S + SILENCE_S) / 2)
    with pytest.raises(Suspected) as suspected:
        await waiting
    late = asyncio.create_task(suspected.value.answer())
    await worker.die()
    with pytest.raises(WorkerLost):
        await late


async def test_giving_up_a_late_answer_tells_the_worker(worker: FakeWorker, link: Link) -> None:
    worker.behave = hang
    waiting = asyncio.create_task(call(link))
    await worker.asked.wait()
    link.check(time.monotonic() + (QUIET_S + SILENCE_S) / 2)
    with pytest.raises(Suspected) as suspected:
        await waiting
    late = asyncio.create_task(suspected.value.answer())
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.wait({late})
    await worker.told.wait()
    assert worker.cancelled == [worker.asks[0].id]
    assert link.owed == 0


async def test_a_silent_worker_is_lost_and_one_that_speaks_is_not(worker: FakeWorker, link: Link) -> None:
    """Time is an argument of `check`."""
    now = time.monotonic()
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
