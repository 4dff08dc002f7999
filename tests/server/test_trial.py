"""A gateway's part in a trial, over real links to fake workers: who is asked, who waits, what is counted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from routing.canary import Arm, Counts
from routing.cost import Cost
from routing.table import Canary, FamilyTicket, Table
from server import trial, wire
from server.call import LAST_PRIORITY
from server.errors import DeadlineExceeded, InferenceFailed
from server.tensor import from_texts
from tests.server.fake_worker import answer, fail, hang, until
from tests.server.gateways import tiny_table
from tests.server.house import ACCURATE, FAST, House, two_workers

NEW = "c" * 64


def on_trial(**changes: Any) -> Table:
    """Acme's `home`, where NEW is tried instead of FAST; on every ask unless changed."""
    table = tiny_table(ACCURATE, FAST, deadline_ms=changes.pop("deadline_ms", 10_000.0))
    fields: dict[str, Any] = {"ticket": NEW, "current": FAST, "share": 1.0, "started_at": 5.0}
    canary = Canary(**fields | changes)
    new = FamilyTicket(id=NEW, tier="fast", quality=0.92, service_ms=1.0, state="canary")
    home = msgspec.structs.replace(table.tenants["acme"].domains["home"], family="acme/home", canary=canary)
    acme = msgspec.structs.replace(table.tenants["acme"], domains={"home": home})
    families = {**table.families, "acme/home": [*table.families["home"], new]}
    return msgspec.structs.replace(table, families=families, tenants={**table.tenants, "acme": acme})


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    """Two workers that hold all three tickets."""
    async with trial_house() as house:
        yield house


@asynccontextmanager
async def trial_house(**changes: Any) -> AsyncIterator[House]:
    async with two_workers() as house:
        for worker in house.workers:
            worker.holds = [ACCURATE, FAST, NEW]
            worker.say()
        await until(lambda: all(len(view.costs) == 3 for view in house.fleet.snapshot().workers))
        house.use(on_trial(**changes))
        yield house
        await house.dispatcher.close()


def counted(house: House) -> Counts:
    (counts,) = house.dispatcher.canaries.counts().values()
    return counts


def behave(house: House, **by_ticket: Callable[[wire.Ask], Any]) -> None:
    """What the workers do by ticket (`new`, `fast`); all else they answer."""
    behaviours = {NEW: by_ticket.get("new", answer), FAST: by_ticket.get("fast", answer)}
    for worker in house.workers:
        worker.behave = lambda ask: behaviours.get(ask.ticket, answer)(ask)


def asked(house: House, ticket: str) -> list[wire.Ask]:
    return [ask for worker in house.workers for ask in worker.asks if ask.ticket == ticket]


class TestCanary:
    async def test_it_answers_says_so_and_is_compared_behind_the_callers_back(self, house: House) -> None:
        reply = await house.ask()
        assert reply.ticket == NEW
        assert reply.because.startswith(f"canary {NEW[:12]}, tried on 100% of the asks that {FAST[:12]} would answer")
        assert (reply.tier, reply.deadline_ms) == ("fast", 10_000.0)
        await until(lambda: sum(counted(house).agreement) == 1)
        assert counted(house).canary == Arm(asks=1)
        assert counted(house).agreement[-1] == 1
        assert counted(house).shift[0] == 1
        (compared,) = asked(house, FAST)
        assert compared.priority == LAST_PRIORITY

    async def test_its_share_of_the_asks_is_drawn_and_the_others_are_the_measure(self) -> None:
        async with trial_house(share=0.25) as house:
            replies = [await house.ask() for _ in range(400)]
            tried = sum(reply.ticket == NEW for reply in replies)
            assert 70 <= tried <= 130
            assert counted(house).canary.asks == tried
            assert counted(house).current == Arm(asks=400 - tried)

    @pytest.mark.parametrize(
        "changes", [{"version": FAST[:8]}, {"tier": "accurate"}, {"tenant": "rival", "domain": "secret"}]
    )
    async def test_pins_other_tickets_asks_and_other_tenants_are_no_part_of_it(
        self, house: House, changes: dict[str, str]
    ) -> None:
        assert (await house.ask(**changes)).ticket != NEW
        assert counted(house) == Counts()

    async def test_who_pins_it_gets_it_uncounted(self, house: House) -> None:
        assert (await house.ask(version=NEW[:8])).ticket == NEW
        assert counted(house) == Counts()

    @pytest.mark.parametrize("code", ["inference_failed", "ticket_unavailable", "overloaded", "bad_request"])
    async def test_where_it_fails_the_current_ticket_answers_and_the_caller_sees_no_error(
        self, house: House, code: str
    ) -> None:
        behave(house, new=fail(code))
        reply = await house.ask()
        assert (reply.ticket, reply.outputs[0].data[-5:]) == (FAST, b"music")
        assert counted(house).canary == Arm(asks=1, errors=1)
        assert len(asked(house, NEW)) == 1

    async def test_a_wrong_answer_is_found_out(self, house: House) -> None:
        behave(house, new=lambda ask: says(ask, "lights"))
        assert (await house.ask()).ticket == NEW
        await until(lambda: sum(counted(house).agreement) == 1)
        assert counted(house).agreement[0] == 1

    async def test_where_it_hangs_the_current_ticket_answers_in_time(self, house: House) -> None:
        behave(house, new=hang)
        reply = await house.ask(deadline_ms=200.0)
        assert reply.ticket == FAST
        assert reply.total_ms <= 200.0
        replies = [await house.ask(deadline_ms=200.0) for _ in range(20)]  # it is left alone while that one is out
        assert {one.ticket for one in replies} == {FAST}
        assert len(asked(house, NEW)) == 1
        assert counted(house).skipped == 20

    async def test_one_that_never_answered_counts_as_late_and_costs_it_a_pause(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trial, "GRACE_S", 0.01)
        behave(house, new=hang)
        await house.ask(deadline_ms=100.0)
        await until(lambda: counted(house).canary == Arm(asks=1, late=1))
        await house.ask(deadline_ms=100.0)
        assert len(asked(house, NEW)) == 1

    async def test_its_answer_still_counts_where_it_comes_before_the_other_ones(self, house: House) -> None:
        """Slow, but in time: the current ticket was asked to stand by, and hung."""
        behave(house, new=hang, fast=hang)
        asking = asyncio.create_task(house.ask(deadline_ms=2_000.0))
        await until(lambda: bool(asked(house, FAST)))
        release(house, NEW)
        assert (await asking).ticket == NEW
        assert counted(house).canary == Arm(asks=1)

    async def test_where_both_fail_the_caller_gets_the_current_tickets_error(self, house: House) -> None:
        behave(house, new=fail("ticket_unavailable"), fast=fail("inference_failed"))
        with pytest.raises(InferenceFailed):
            await house.ask()

    async def test_where_both_hang_the_deadline_holds(self, house: House) -> None:
        behave(house, new=hang, fast=hang)
        with pytest.raises(DeadlineExceeded):
            await house.ask(deadline_ms=50.0)

    async def test_a_worker_that_it_kills_costs_no_caller_an_error_and_it_is_not_tried_on_the_next(
        self, house: House
    ) -> None:
        behave(house, new=hang)
        asking = asyncio.create_task(house.ask())
        await until(lambda: bool(asked(house, NEW)))
        victim = next(worker for worker in house.workers if any(ask.ticket == NEW for ask in worker.asks))
        await victim.die()
        assert (await asking).ticket == FAST
        assert counted(house).canary == Arm(asks=1, errors=1)
        replies = [await house.ask() for _ in range(10)]
        assert {reply.ticket for reply in replies} == {FAST}
        assert len(asked(house, NEW)) == 1

    async def test_one_ask_at_a_time_until_it_has_answered(self, house: House) -> None:
        behave(house, new=hang)
        asking = [asyncio.create_task(house.ask()) for _ in range(10)]
        await until(lambda: sum(task.done() for task in asking) == 9)
        assert len(asked(house, NEW)) == 1
        behave(house)
        release(house, NEW)
        await asyncio.gather(*asking)
        assert (await house.ask()).ticket == NEW

    async def test_one_that_is_predicted_to_be_late_counts_as_late_and_nobody_waits_for_it(self, house: House) -> None:
        for worker in house.workers:
            worker.costs = {NEW: Cost(0.0, 500.0, 0.0)}
            worker.say(wire.Costs(worker.costs))
        await until(lambda: all(view.costs[NEW].row_ms == 500.0 for view in house.fleet.snapshot().workers))
        assert (await house.ask(deadline_ms=100.0)).ticket == FAST
        assert counted(house).canary == Arm(asks=1, late=1)
        assert asked(house, NEW) == []

    async def test_it_is_loaded_before_callers_are_sent_to_it(self, house: House) -> None:
        for worker in house.workers:
            worker.unload(NEW)
        await until(lambda: all(NEW not in view.costs for view in house.fleet.snapshot().workers))
        assert (await house.ask()).ticket == FAST
        await until(lambda: bool(asked(house, NEW)))
        assert asked(house, NEW)[0].priority == LAST_PRIORITY
        assert counted(house).canary == Arm()
        assert counted(house).skipped == 1

    async def test_one_that_cannot_be_loaded_fails(self, house: House) -> None:
        behave(house, new=fail("ticket_unavailable"))
        for worker in house.workers:
            worker.unload(NEW)
        await until(lambda: all(NEW not in view.costs for view in house.fleet.snapshot().workers))
        assert (await house.ask()).ticket == FAST
        await until(lambda: counted(house).canary == Arm(asks=1, errors=1))

    async def test_errors_of_the_current_ticket_count_too(self) -> None:
        async with trial_house(share=1e-9) as house:
            behave(house, fast=fail("inference_failed"))
            with pytest.raises(InferenceFailed):
                await house.ask()
            behave(house, fast=hang)
            with pytest.raises(DeadlineExceeded):
                await house.ask(deadline_ms=30.0)
            assert counted(house).current == Arm(asks=2, errors=1, late=1)

    async def test_a_caller_that_has_gone_is_nobodys_fault(self) -> None:
        async with trial_house(share=1e-9) as house:
            behave(house, fast=hang)
            asking = asyncio.create_task(house.ask())
            await until(lambda: bool(asked(house, FAST)))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert counted(house) == Counts()


class TestShadow:
    async def test_the_current_ticket_answers_and_the_canary_is_asked_beside_it(self) -> None:
        async with trial_house(mode="shadow") as house:
            reply = await house.ask()
            assert (reply.ticket, "canary" in reply.because) == (FAST, False)
            await until(lambda: sum(counted(house).agreement) == 1)
            assert asked(house, NEW)[0].priority == LAST_PRIORITY
            assert counted(house).canary == counted(house).current == Arm(asks=1)

    async def test_nobody_waits_for_it_whatever_it_does(self) -> None:
        async with trial_house(mode="shadow") as house:
            behave(house, new=hang)
            replies = [await house.ask() for _ in range(30)]
            assert {reply.ticket for reply in replies} == {FAST}
            assert counted(house).current == Arm(asks=30)
            assert len(asked(house, NEW)) == 1

    async def test_its_errors_count_what_others_cause_does_not(self) -> None:
        async with trial_house(mode="shadow") as house:
            behave(house, new=fail("inference_failed"))
            await house.ask()
            await until(lambda: counted(house).canary == Arm(asks=1, errors=1))
            behave(house, new=fail("overloaded"))
            await house.ask()
            await until(lambda: counted(house).skipped == 1)
            assert counted(house).canary == Arm(asks=1, errors=1)

    async def test_so_many_at_a_time_and_no_more(self) -> None:
        async with trial_house(mode="shadow") as house:
            for _ in range(10):  # until it is known well enough to be asked several things at once
                await house.ask()
                await until(lambda: not house.dispatcher.canaries.waiting)
            behave(house, new=hang)
            before = len(asked(house, NEW))
            await asyncio.gather(*(house.ask() for _ in range(40)))
            await until(lambda: len(asked(house, NEW)) - before == 4)
            assert counted(house).current.asks == 50


async def test_a_new_table_keeps_the_counts_of_a_trial_that_goes_on_and_drops_those_of_one_that_ended(
    house: House,
) -> None:
    await house.ask()
    house.use(on_trial(share=0.0))
    assert counted(house).canary == Arm(asks=1)
    house.use(on_trial(started_at=6.0))
    assert counted(house) == Counts()
    house.use(tiny_table(ACCURATE, FAST))
    assert house.dispatcher.canaries.counts() == {}


async def test_draining_ends_what_nobody_waits_for(house: House) -> None:
    behave(house, fast=hang)
    assert (await house.ask()).ticket == NEW
    await until(lambda: bool(asked(house, FAST)))
    await house.dispatcher.close()
    assert not house.dispatcher.canaries.waiting
    assert house.dispatcher.in_flight == 0


def says(ask: wire.Ask, label: str) -> wire.Answer:
    """The usual answer with another label."""
    usual = answer(ask)
    outputs = [from_texts("label", [label]) if one.name == "label" else one for one in usual.outputs]
    return msgspec.structs.replace(usual, outputs=outputs)


def release(house: House, ticket: str) -> None:
    """Answer what has been asked of a ticket and hangs."""
    for worker in house.workers:
        for ask in [one for one in worker.asks if one.ticket == ticket]:
            for connection in worker.connections:
                connection.send(answer(ask))
