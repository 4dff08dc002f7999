"""What the dispatcher promises: one outcome per request, in time, one retry, everything counted."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from routing.store import Store
from server import wire
from server.call import Reply
from server.errors import (
    ApiError,
    BadRequest,
    DeadlineExceeded,
    InferenceFailed,
    NotReady,
    NoWorker,
    Overloaded,
    TicketUnavailable,
    UnknownDomain,
    UnknownTier,
    WorkerLost,
)
from server.fleet import WorkerFleet
from server.last_known import LastKnown
from tests.server.fake_worker import FakeWorker, answer, fail, hang, until
from tests.server.house import ACCURATE, FAST, House, two_workers


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    async with two_workers() as house:
        yield house


async def test_an_answer_says_who_gave_it_why_and_where_the_time_went(house: House) -> None:
    reply = await house.ask()
    assert (reply.ticket, reply.tier) == (FAST, "fast")
    assert "best ticket of tier fast" in reply.because
    assert reply.outputs[0].data.endswith(b"music")
    assert reply.total_ms > 0
    assert house.count("ok") == 1


@pytest.mark.parametrize("code", ["overloaded", "worker_lost", "ticket_unavailable", "not_ready"])
async def test_a_worker_that_cannot_serve_is_replaced_once(house: House, code: str) -> None:
    failing = await first_choice(house)
    failing.behave = fail(code)
    reply = await house.ask()
    assert reply.outputs[0].data.endswith(b"music")
    assert house.count("ok") == 2  # with first_choice's own
    assert house.value("tombola_retries_total") == 1


async def test_a_ticket_that_no_worker_can_load_is_stepped_down_from(house: House) -> None:
    """Its file is missing or damaged: the family's next ticket answers, and the answer says why."""
    for worker in house.workers:
        worker.behave = cannot_load_accurate
        worker.unload(ACCURATE)
    await until(lambda: all(ACCURATE not in view.costs for view in house.fleet.snapshot().workers))
    reply = await house.ask(tier="accurate")
    assert (reply.ticket, reply.tier) == (FAST, "accurate")
    assert reply.because == "stepped down to fast: a better ticket could not be loaded"
    with pytest.raises(TicketUnavailable):  # who pins a ticket gets that one or none
        await house.ask(tier="accurate", version=ACCURATE)


async def test_a_ticket_that_every_worker_refuses_is_stepped_down_from_though_they_seem_to_hold_it(
    house: House,
) -> None:
    """Quarantined, for example, after it has crashed its workers."""
    for worker in house.workers:
        worker.behave = cannot_load_accurate
    reply = await house.ask(tier="accurate")
    assert (reply.ticket, reply.because) == (FAST, "stepped down to fast: a better ticket could not be loaded")
    assert sum(len(worker.asks) for worker in house.workers) == 3
    with pytest.raises(TicketUnavailable):
        await house.ask(tier="accurate", version=ACCURATE)


def cannot_load_accurate(ask: wire.Ask) -> wire.Answer | wire.Failure:
    return fail("ticket_unavailable")(ask) if ask.ticket == ACCURATE else answer(ask)  # type: ignore[return-value]


async def test_a_worker_that_dies_with_the_request_is_replaced(house: House) -> None:
    dying = await first_choice(house)
    dying.asked.clear()
    dying.behave = hang
    asked = asyncio.create_task(house.ask())
    await dying.asked.wait()
    await dying.die()
    assert (await asked).outputs[0].data.endswith(b"music")


async def test_there_is_only_one_retry(house: House) -> None:
    for worker in house.workers:
        worker.behave = fail("overloaded")
    with pytest.raises(Overloaded):
        await house.ask()
    assert sum(len(worker.asks) for worker in house.workers) == 2
    assert house.count("overloaded") == 1


async def test_a_request_that_failed_by_itself_is_not_tried_again(house: House) -> None:
    for worker in house.workers:
        worker.behave = fail("inference_failed")
    with pytest.raises(InferenceFailed):
        await house.ask()
    assert sum(len(worker.asks) for worker in house.workers) == 1


async def test_the_first_error_stands_where_nobody_else_can_answer(house: House) -> None:
    (only,) = house.workers[:1]
    await house.workers[1].die()
    await until(lambda: house.fleet.linked == 1)
    only.behave = fail("worker_lost")
    with pytest.raises(WorkerLost, match="made to fail"):
        await house.ask()


async def test_a_deadline_that_passes_is_an_error_and_the_worker_is_told(house: House) -> None:
    for worker in house.workers:
        worker.behave = hang
    with pytest.raises(DeadlineExceeded, match="50 ms"):
        await house.ask(deadline_ms=50.0)
    asked = next(worker for worker in house.workers if worker.asks)
    await asked.told.wait()
    assert asked.cancelled == [asked.asks[0].id]
    assert asked.asks[0].remaining_ms <= 50
    assert house.count("deadline_exceeded") == 1


@pytest.mark.parametrize("deadline_ms", [0.0, -5.0])
async def test_a_deadline_that_has_passed_sends_nothing(house: House, deadline_ms: float) -> None:
    with pytest.raises(DeadlineExceeded):
        await house.ask(deadline_ms=deadline_ms)
    assert not any(worker.asks for worker in house.workers)


async def test_the_tiers_deadline_holds_where_the_caller_allows_more(house: House) -> None:
    assert (await house.ask(deadline_ms=1e9)).deadline_ms == 10_000


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"domain": "secret"}, UnknownDomain), ({"tenant": "nobody"}, UnknownDomain), ({"tier": "gold"}, UnknownTier)],
)
async def test_what_routing_refuses_raises_its_name(
    house: House, changes: dict[str, str], error: type[ApiError]
) -> None:
    with pytest.raises(error):
        await house.ask(**changes)
    assert house.count(error.code) == 1


async def test_without_workers_or_table_the_refusal_says_so() -> None:
    house = House([])
    with pytest.raises(NoWorker):
        await house.ask()
    house.dispatcher.table = None
    with pytest.raises(NotReady):
        await house.ask()


async def test_beyond_the_permits_a_request_is_refused_at_once_and_the_others_are_answered(house: House) -> None:
    limited = House(house.workers, max_in_flight=3)
    await limited.link()
    for worker in house.workers:
        worker.behave = hang
    waiting = [asyncio.create_task(limited.ask()) for _ in range(3)]
    await until(lambda: sum(len(worker.asks) for worker in house.workers) == 3)
    with pytest.raises(Overloaded) as refused:
        await limited.ask()
    assert refused.value.retry_after_s is not None
    for worker in house.workers:
        worker.behave = answer
        for ask in worker.asks:
            for connection in worker.connections:
                connection.send(answer(ask))
    assert all(isinstance(reply, Reply) for reply in await asyncio.gather(*waiting))
    assert limited.dispatcher.in_flight == 0
    await limited.fleet.close()


async def test_killing_a_worker_under_load_gives_every_request_exactly_one_outcome(house: House) -> None:
    """The owed invariant, counted: N asked, N ended, and those that another worker could serve were answered."""
    doomed = house.workers[0]

    doomed.behave = hang
    asks = [asyncio.create_task(house.ask()) for _ in range(200)]
    await until(lambda: bool(doomed.asks))
    await doomed.die()
    results = await asyncio.gather(*asks, return_exceptions=True)
    assert [r for r in results if not isinstance(r, Reply)] == []
    assert house.count("ok") == 200
    assert house.dispatcher.in_flight == 0


async def test_a_cancelled_request_frees_its_permit_and_is_counted(house: House) -> None:
    for worker in house.workers:
        worker.behave = hang
    task = asyncio.create_task(house.ask())
    await until(lambda: any(worker.asks for worker in house.workers))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert house.dispatcher.in_flight == 0
    assert house.count("cancelled") == 1
    who = {"tenant": "acme", "domain": "home", "tier": "fast"}
    assert house.value("tombola_sla_total", **who, result="missed") == 0  # nobody waited for it


async def test_requests_refused_before_they_are_calls_are_counted_too(house: House) -> None:
    house.dispatcher.reject(BadRequest("no"), tenant="acme", arrived=time.perf_counter())
    assert house.count("bad_request") == 1


async def test_a_worker_that_comes_back_is_linked_again(house: House) -> None:
    worker = house.workers[0]
    await worker.die()
    await until(lambda: house.fleet.link("w1") is None)
    async with FakeWorker(worker.where.path, "w1"):  # type: ignore[union-attr]
        await until(lambda: house.fleet.link("w1") is not None)
        assert {view.name for view in house.fleet.snapshot().workers} == {"w1", "w2"}
        house.fleet.meet([])  # the leases ran out (Redis lost them): a live connection is the truth
        assert {view.name for view in house.fleet.snapshot().workers} == {"w1", "w2"}


async def test_a_worker_that_may_hang_is_asked_only_where_there_is_no_other(house: House) -> None:
    """Long before its silence counts as its loss."""
    well, hung = house.workers
    hung.beats = False
    await until(lambda: [view.name for view in house.fleet.snapshot().workers] == [well.name])
    well.beats = False
    await until(lambda: len(house.fleet.snapshot().workers) == 2)
    assert house.fleet.linked == 2


async def test_a_fleet_settles_with_its_first_link_and_at_once_where_there_are_no_workers(
    house: House, tmp_path: Path
) -> None:
    """So a gateway that starts again is not asked before it has somebody to ask."""
    cache = LastKnown(tmp_path / "workers")
    nobody, known = (WorkerFleet(Store.connect("unix:///nonexistent/redis"), cache) for _ in range(2))
    for fleet, linked in ((nobody, 0), (known, 1)):
        running = asyncio.create_task(fleet.run())
        await asyncio.wait_for(fleet.settle(3600.0), 30)
        assert fleet.linked >= linked
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        cache.write(msgspec.json.encode([worker.lease for worker in house.workers]))


async def test_a_worker_without_lease_or_link_is_forgotten(house: House) -> None:
    await house.workers[0].die()
    await until(lambda: house.fleet.link("w1") is None)
    house.fleet.meet([house.workers[1].lease])
    assert house.fleet.known == {"w2"}


async def first_choice(house: House) -> FakeWorker:
    """The worker that an idle fleet is asked on first."""
    await house.ask()
    return next(worker for worker in house.workers if worker.asks)
