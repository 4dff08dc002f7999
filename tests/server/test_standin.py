"""Who answers while a ticket that has just been promoted is being loaded."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from routing.table import FamilyTicket, Table
from server import standin, wire
from server.call import LAST_PRIORITY
from tests.server.fake_worker import COST, hang, until
from tests.server.gateways import tiny_table
from tests.server.house import ACCURATE, FAST, House, two_workers

NEW = "c" * 64


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    """Two workers that hold ACCURATE and FAST; FAST has answered."""
    async with two_workers() as house:
        await house.ask()
        yield house


def with_new(*, is_retired: bool = False) -> Table:
    """NEW, which no worker holds, has been promoted in the place of FAST."""
    table = tiny_table(ACCURATE, FAST, deadline_ms=10_000.0)
    accurate, fast = table.families["home"]
    new = FamilyTicket(id=NEW, tier="fast", quality=0.92, service_ms=1.0, replaces=[FAST])
    old = [] if is_retired else [msgspec.structs.replace(fast, state="registered")]
    return msgspec.structs.replace(table, families={"home": [accurate, new, *old]})


async def test_the_ticket_that_was_replaced_answers_until_the_new_one_is_loaded(house: House) -> None:
    house.use(with_new())
    reply = await house.ask()
    assert reply.ticket == FAST
    assert reply.because == f"stands in for ticket {NEW[:12]}, which has just been promoted and is being loaded"
    loading = [ask for worker in house.workers for ask in worker.asks if ask.ticket == NEW]
    assert [ask.priority for ask in loading] == [LAST_PRIORITY]
    house.workers[0].say(wire.Costs({NEW: COST}))
    await until(lambda: any(NEW in view.costs for view in house.fleet.snapshot().workers))
    assert (await house.ask()).ticket == NEW


async def test_not_for_ever(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket that cannot be loaded must not be covered up."""
    monkeypatch.setattr(standin, "PATIENCE_S", 0.0)
    house.use(with_new())
    assert (await house.ask()).ticket == NEW


async def test_not_for_who_pins_the_new_one_nor_where_the_old_one_is_gone(house: House) -> None:
    house.use(with_new())
    assert (await house.ask(version=NEW)).ticket == NEW
    house.use(tiny_table(ACCURATE, FAST))
    house.use(with_new(is_retired=True))
    assert (await house.ask()).ticket == NEW


async def test_a_table_that_a_gateway_starts_with_promotes_nothing() -> None:
    async with two_workers() as house:
        house.dispatcher.table = None
        house.use(with_new())
        assert (await house.ask()).ticket == NEW


async def test_the_load_that_hangs_keeps_nobody_waiting(house: House) -> None:
    for worker in house.workers:
        usual = worker.behave
        worker.behave = lambda ask, usual=usual: hang(ask) if ask.ticket == NEW else usual(ask)  # type: ignore[misc]
    house.use(with_new())
    assert {(await house.ask()).ticket for _ in range(10)} == {FAST}
