"""What the dispatcher makes of a family: steps, predictions, shares, warming, hedging and cancellation."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from routing.cost import Cost
from routing.table import Table
from server import wire
from server.call import Reply
from server.errors import Overloaded
from server.link import QUIET_S, SILENCE_S
from server.tensor import Tensor, from_texts
from tests.server.fake_worker import Behaviour, FakeWorker, answer, fail, hang, until
from tests.server.gateways import tiny_table
from tests.server.house import ACCURATE, FAST, House, two_workers

WHO = {"tenant": "acme", "domain": "home", "tier": "fast"}


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    """Two workers where accurate takes 22 ms a row and fast 1 ms; deadlines of 100 ms; policy best."""
    async with two_workers() as house:
        for worker in house.workers:
            worker.costs = {ACCURATE: Cost(0.0, 22.0, 0.0), FAST: Cost(0.0, 1.0, 0.0)}
            worker.say(wire.Costs(worker.costs))
        await until(lambda: all(view.costs[ACCURATE].row_ms == 22.0 for view in house.fleet.snapshot().workers))
        house.use(tiny_table(ACCURATE, FAST, deadline_ms=100.0, policy="best"))
        yield house


async def load(house: House, **figures: object) -> None:
    """Every worker reports so much work; `busy` tells when it has been heard."""
    mark = house.workers[0].load.busy + 0.125
    for worker in house.workers:
        worker.load = msgspec.structs.replace(wire.Load(0.0, 0.0), busy=mark, **figures)
        worker.say(worker.load)
    await until(lambda: all(view.busy == mark for view in house.fleet.snapshot().workers))


async def test_the_best_ticket_that_makes_the_deadline_answers_and_its_prediction_is_told(house: House) -> None:
    reply = await house.ask()
    assert (reply.ticket, reply.step) == (ACCURATE, 0)
    assert 22.0 <= reply.predicted_ms < 100.0
    assert house.value("tombola_route_steps_total", **WHO, step="0", reason="best") == 1
    assert house.value("tombola_prediction_ratio_count", ticket=ACCURATE[:12]) == 1
    assert house.value("tombola_prediction_error_seconds_total", ticket=ACCURATE[:12]) > 0


async def test_under_load_the_family_is_stepped_down_before_anything_is_refused(house: House) -> None:
    await load(house, running_ms=85.0)
    reply = await house.ask()
    assert (reply.ticket, reply.step) == (FAST, 1)
    assert "stepped down from accurate" in reply.because
    assert house.value("tombola_route_steps_total", **WHO, step="1", reason="late") == 1


async def test_a_refusal_for_load_is_immediate_and_says_when_to_come_again(house: House) -> None:
    await load(house, running_ms=60_000.0)
    with pytest.raises(Overloaded) as refused:
        await house.ask()
    assert refused.value.retry_after_s is not None
    assert not any(worker.asks for worker in house.workers)


async def test_another_tenants_flood_from_another_gateway_does_not_refuse_this_one(house: House) -> None:
    """The workers say whose the queue is; none of it has come through this gateway."""
    await load(house, queued_ms=60_000.0, tenants={"rival": 60_000.0}, active_weight=1.0)
    assert (await house.ask()).outputs
    await load(house, queued_ms=60_000.0, tenants={"acme": 60_000.0}, active_weight=1.0, running_ms=1.0)
    with pytest.raises(Overloaded):
        await house.ask()


async def test_what_one_has_sent_itself_makes_the_next_step_down(house: House) -> None:
    """No worker has reported yet: only what has been sent tells."""
    for worker in house.workers:
        worker.behave, worker.beats = hang, False
    asks = [asyncio.create_task(house.ask()) for _ in range(12)]
    await until(lambda: sum(len(worker.asks) for worker in house.workers) == 12)
    asked = [ask.ticket for worker in house.workers for ask in worker.asks]
    assert asked.count(ACCURATE) == 2 * 4  # of 22 ms each, two workers, within 100 ms, and no more than that
    assert asked.count(FAST) == 4
    for ask in asks:
        ask.cancel()
    await asyncio.gather(*asks, return_exceptions=True)


async def test_the_size_of_a_request_counts(house: House) -> None:
    reply = await house.ask(inputs=[many(8)])
    assert (reply.ticket, reply.step) == (FAST, 1)


async def test_every_worker_learns_the_tenants_shares_and_late_ones_too(house: House) -> None:
    table = weighted(tiny_table(ACCURATE, FAST), weight=3.0, reserved_bytes=1 << 20, version=7)
    house.use(table)
    expected = wire.Shares(7, {"acme": wire.Share(3.0, 1 << 20)})
    await until(lambda: all(worker.shares[-1:] == [expected] for worker in house.workers))
    again = house.workers[0]
    await again.die()
    await until(lambda: house.fleet.link("w1") is None)
    async with FakeWorker(again.where.path, "w1") as back:  # type: ignore[union-attr]
        await until(lambda: back.shares == [expected])


async def test_priority_travels(house: House) -> None:
    await house.ask(priority=1)
    (ask,) = (ask for worker in house.workers for ask in worker.asks)
    assert ask.priority == 1


async def test_a_better_ticket_that_must_be_loaded_is_loaded_meanwhile(house: House) -> None:
    """Nobody waits for it: the request itself is answered by the ticket that is there."""
    house.use(tiny_table(ACCURATE, FAST, deadline_ms=25.0, policy="best"))
    for worker in house.workers:
        worker.unload(ACCURATE)
    await until(lambda: all(ACCURATE not in view.costs for view in house.fleet.snapshot().workers))
    reply = await house.ask(inputs=[many(3)])
    assert reply.ticket == FAST
    await until(lambda: any(ask.ticket == ACCURATE for worker in house.workers for ask in worker.asks))
    (warming,) = (ask for worker in house.workers for ask in worker.asks if ask.ticket == ACCURATE)
    assert (warming.priority, warming.inputs[0].shape) == (3, [1])
    assert warming.remaining_ms > 1000
    assert house.count("ok") == 1


async def test_a_worker_that_falls_silent_with_a_request_is_helped_out_by_another(house: House) -> None:
    """Its connection stands, so that nothing else would tell before the deadline."""
    house.use(tiny_table(ACCURATE, FAST, deadline_ms=20_000.0))
    silent, asked = await ask_one_that_hangs(house)
    reply = await asked
    assert reply.outputs[0].data.endswith(b"music")
    await silent.told.wait()
    assert silent.cancelled == [silent.asks[-1].id]
    assert house.fleet.linked == 2
    assert house.value("tombola_retries_total") == 1
    assert reply.deadline_ms == 20_000.0


async def test_the_first_answer_wins_whoever_gives_it(house: House) -> None:
    house.use(tiny_table(ACCURATE, FAST, deadline_ms=20_000.0))
    other = {w.name: w for w in house.workers}
    silent, asked = await ask_one_that_hangs(house, others=hang)
    helper = next(worker for name, worker in other.items() if name != silent.name)
    await helper.asked.wait()
    for connection in silent.connections:
        connection.send(answer(silent.asks[-1]))
    reply = await asked
    assert reply.outputs[0].data.endswith(b"music")
    await helper.told.wait()
    assert helper.cancelled == [helper.asks[-1].id]
    assert house.dispatcher.in_flight == 0


async def test_a_helper_that_fails_takes_nothing_away(house: House) -> None:
    house.use(tiny_table(ACCURATE, FAST, deadline_ms=20_000.0))
    silent, asked = await ask_one_that_hangs(house, others=fail("overloaded"))
    helper = next(worker for worker in house.workers if worker is not silent)
    await helper.asked.wait()
    for connection in silent.connections:
        connection.send(answer(silent.asks[-1]))
    assert (await asked).outputs


async def test_a_client_that_leaves_takes_its_request_with_it(house: House) -> None:
    for worker in house.workers:
        worker.behave = hang
    task = asyncio.create_task(house.ask())
    await until(lambda: any(worker.asks for worker in house.workers))
    asked = next(worker for worker in house.workers if worker.asks)
    task.cancel()
    await asyncio.wait({task})
    await asked.told.wait()
    assert asked.cancelled == [asked.asks[0].id]
    assert house.count("cancelled") == 1


def many(rows: int) -> Tensor:
    """An input of so many rows."""
    return from_texts("text", ["song"] * rows)


def weighted(table: Table, *, weight: float, reserved_bytes: int, version: int) -> Table:
    acme = msgspec.structs.replace(table.tenants["acme"], weight=weight, reserved_bytes=reserved_bytes)
    return msgspec.structs.replace(table, tenants={**table.tenants, "acme": acme}, version=version)


async def ask_one_that_hangs(
    house: House, others: Behaviour = answer
) -> tuple[FakeWorker, "asyncio.Task[Reply]"]:  # fmt: skip
    """Ask; whoever got it falls silent, and all the others behave so from then on."""
    for worker in house.workers:
        worker.behave = hang
    asked = asyncio.create_task(house.ask())
    await until(lambda: any(worker.asks for worker in house.workers))
    silent = next(worker for worker in house.workers if worker.asks)
    for worker in house.workers:
        if worker is not silent:
            worker.behave = others
    link = house.fleet.link(silent.name)
    assert link is not None
    link.check(time.monotonic() + (QUIET_S + SILENCE_S) / 2)  # as if it had said nothing for so long
    return silent, asked
