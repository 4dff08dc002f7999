"""The overseer against a real Redis: who judges, what a verdict does to the table, and what the log says of it."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from routing.canary import Arm, Counts, Trial
from routing.embedded import EmbeddedRedis
from routing.event import Event
from routing.lifecycle import promote, register, start_canary
from routing.redis.trials import Trials
from routing.sequential import BINS
from routing.store import Store
from routing.table import FamilyTicket, Table, Tier
from server.overseer import CanaryStanding, Overseer
from tests.routing.tables import FAST, example_table

pytestmark = pytest.mark.redis

NEW = "1a" * 32
ACME: dict[str, Any] = {"tenant": "acme", "actor": "operator/0123456789ab"}
TRIAL = Trial(tenant="acme", domain="banking", ticket=NEW, started_at=5.0)
GOOD = Counts(canary=Arm(asks=600), current=Arm(asks=6000), agreement=(*(0,) * BINS, 600), shift=(600, *(0,) * BINS))
BAD = msgspec.structs.replace(GOOD, canary=Arm(asks=600, errors=300))


async def on_trial(store: Store, **changes: Any) -> Table:
    """A published table where acme's new fast ticket is a canary."""
    ticket = FamilyTicket(id=NEW, tier="fast", quality=0.92, service_ms=3.0)
    table, _ = register(example_table(), **ACME, domain="banking", tier="fast", ticket=ticket)
    table, _ = start_canary(table, **ACME, ticket=NEW, now=TRIAL.started_at, **changes)
    return await store.publish(table)


class Gateway:
    """An overseer, and what its gateway would use and count."""

    def __init__(
        self, store: Store, table: Table, name: str = "gw", counts: Mapping[Trial, Counts] | None = None
    ) -> None:
        self.table: Table | None = table
        self.counts: Mapping[Trial, Counts] = counts or {}
        self.trials = Trials(store.connection)
        self.overseer = Overseer(store, self.trials, name, lambda: self.table, lambda: self.counts)


async def state(store: Store) -> str:
    table = await store.load_table()
    assert table is not None
    family = table.families[table.tenants["acme"].domains["banking"].family]
    return next(ticket.state for ticket in family if ticket.id == NEW)


async def stands(gateway: Gateway) -> CanaryStanding:
    standing = await gateway.overseer.standing("acme", "banking")
    assert standing is not None
    return standing


async def newest(store: Store) -> Event:
    return (await store.events(count=1))[0]


async def test_a_bad_canary_is_rolled_back_with_the_reason_in_the_log(store: Store) -> None:
    gateway = Gateway(store, await on_trial(store), counts={TRIAL: BAD})
    await gateway.overseer.look()
    assert await state(store) == "registered"
    event = await newest(store)
    assert (event.action, event.actor, event.subject) == ("canary.roll_back", "overseer/gw", NEW)
    assert (event.tenant, event.after["state"]) == ("acme", "registered")
    assert event.reason.startswith("300 of 600 asks of the canary failed, 0 of 6000 of the current ticket")
    assert event.table_version == 2


async def test_a_good_one_is_promoted_only_where_its_trial_says_so(store: Store) -> None:
    gateway = Gateway(store, await on_trial(store), counts={TRIAL: GOOD})
    await gateway.overseer.look()
    assert await state(store) == "canary"
    standing = await stands(gateway)
    assert (standing.verdict.outcome, standing.current, standing.counts) == ("passed", FAST, GOOD)
    assert msgspec.json.encode(standing)
    gateway.table = await on_trial(store, is_automatic=True)
    await gateway.overseer.look()
    assert await state(store) == "promoted"
    event = await newest(store)
    assert (event.action, event.actor) == ("ticket.promote", "overseer/gw")
    assert event.reason.startswith("all tests passed: ")


async def test_what_several_gateways_have_counted_is_added_and_one_of_them_judges(store: Store) -> None:
    """Neither has seen enough alone. The other writes, and leaves judging to the first."""
    half = Counts(canary=Arm(asks=3, errors=2), current=Arm(asks=200))
    table = await on_trial(store)
    first, second = (Gateway(store, table, name, {TRIAL: half}) for name in ("one", "two"))
    await first.overseer.look()
    await second.overseer.look()
    assert await state(store) == "canary"
    assert (await stands(second)).counts == half.plus(half)
    await first.overseer.look()
    assert await state(store) == "registered"
    assert (await newest(store)).actor == "overseer/one"


async def test_when_the_judge_goes_another_takes_over_at_once(store: Store) -> None:
    table = await on_trial(store)
    first, second = Gateway(store, table, "one", {TRIAL: GOOD}), Gateway(store, table, "two", {TRIAL: BAD})
    await first.overseer.look()
    running = asyncio.create_task(first.overseer.run())
    await asyncio.sleep(0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await second.overseer.look()
    assert (await newest(store)).actor == "overseer/two"


async def test_a_change_by_somebody_else_meanwhile_is_neither_lost_nor_in_the_way(store: Store) -> None:
    """The overseer decides by the table that its gateway uses, and changes the one that stands."""
    table = await on_trial(store)
    gateway = Gateway(store, table, counts={TRIAL: BAD})
    other = FamilyTicket(id="2b" * 32, tier="fast", quality=0.9, service_ms=3.0)
    changed, _ = register(table, **ACME, domain="banking", tier="fast", ticket=other)
    await store.publish(changed)
    await gateway.overseer.look()
    assert await state(store) == "registered"
    now = await store.load_table()
    assert now is not None
    assert other.id in {ticket.id for ticket in now.families["acme/banking"]}


async def test_a_trial_that_has_ended_meanwhile_is_left_alone(store: Store) -> None:
    """Promoted by somebody, or withdrawn and begun anew: the verdict is about another trial."""
    table = await on_trial(store)
    gateway = Gateway(store, table, counts={TRIAL: BAD})
    await store.publish(promote(table, **ACME, ticket=NEW)[0])
    await gateway.overseer.look()
    assert await state(store) == "promoted"


async def test_counts_of_an_earlier_trial_of_the_same_ticket_do_not_count(store: Store) -> None:
    gateway = Gateway(store, await on_trial(store), counts={msgspec.structs.replace(TRIAL, started_at=1.0): BAD})
    await gateway.overseer.look()
    assert (await stands(gateway)).counts == Counts()
    assert await state(store) == "canary"


async def test_without_a_canary_there_is_no_standing(store: Store) -> None:
    gateway = Gateway(store, await store.publish(example_table()))
    for tenant, domain in (("acme", "banking"), ("nobody", "banking"), ("acme", "x")):
        assert await gateway.overseer.standing(tenant, domain) is None


async def test_while_redis_is_away_it_waits_and_then_judges(own_redis: EmbeddedRedis) -> None:
    store = Store.connect(own_redis.url)
    gateway = Gateway(store, await on_trial(store))
    own_redis.stop()
    running = asyncio.create_task(gateway.overseer.run())
    await asyncio.sleep(0.05)
    gateway.counts = {TRIAL: BAD}
    own_redis.start(timeout_s=60)
    await on_trial(store)
    async with asyncio.timeout(30):
        while await state(store) != "registered":  # noqa: ASYNC110 - Redis says nothing
            await asyncio.sleep(0.05)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await store.close()


async def test_a_canary_that_cannot_be_promoted_any_more_is_left_as_it_is(store: Store) -> None:
    """Somebody has raised its tier's floor above it meanwhile."""
    table = await on_trial(store, is_automatic=True)
    acme = table.tenants["acme"]
    banking = acme.domains["banking"]
    tiers = {**banking.tiers, "fast": Tier(deadline_ms=10.0, quality_floor=0.99)}
    acme = msgspec.structs.replace(acme, domains={"banking": msgspec.structs.replace(banking, tiers=tiers)})
    table = await store.publish(msgspec.structs.replace(table, tenants={**table.tenants, "acme": acme}))
    gateway = Gateway(store, table, counts={TRIAL: GOOD})
    await gateway.overseer.look()
    assert await state(store) == "canary"
