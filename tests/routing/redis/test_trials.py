"""Trials in a real Redis: counts of several gateways, and one of them that leads."""

import asyncio

import pytest
from redis.asyncio import Redis

from routing.canary import Arm, Counts, Trial
from routing.redis.trials import KEEP_S, Trials
from routing.store import Store, StoreUnavailable

pytestmark = pytest.mark.redis

TRIAL = Trial(tenant="acme", domain="home", ticket="a" * 64, started_at=5.0)
OTHER = Trial(tenant="acme", domain="work", ticket="a" * 64, started_at=5.0)
SEEN = Counts(canary=Arm(asks=3, errors=1), current=Arm(asks=30, late=2), skipped=4).compared(0.5, 0.1)


@pytest.fixture
def trials(store: Store) -> Trials:
    return Trials(store.connection)


async def test_counts_of_gateways_are_added_and_writing_again_changes_nothing(trials: Trials) -> None:
    for _ in range(3):
        await trials.record("one/1", {TRIAL: SEEN, OTHER: Counts(skipped=1)})
    await trials.record("two/1", {TRIAL: SEEN})
    assert await trials.counts(TRIAL) == SEEN.plus(SEEN)
    assert await trials.counts(OTHER) == Counts(skipped=1)


async def test_what_a_dead_gateway_had_counted_still_counts(trials: Trials) -> None:
    await trials.record("one/1", {TRIAL: SEEN})
    await trials.record("one/2", {TRIAL: SEEN})  # the same place, started again
    assert await trials.counts(TRIAL) == SEEN.plus(SEEN)


async def test_an_earlier_trial_of_the_ticket_and_what_does_not_read_are_left_out(
    trials: Trials, store: Store, raw: Redis
) -> None:
    await trials.record("one/1", {TRIAL: SEEN})
    await raw.hset(store.connection.keys.trial("acme", "home", "a" * 64), "two/1", b"{}")
    later = Trial(tenant="acme", domain="home", ticket="a" * 64, started_at=6.0)
    await trials.record("three/1", {later: Counts(skipped=7)})
    assert await trials.counts(TRIAL) == SEEN
    assert await trials.counts(later) == Counts(skipped=7)


async def test_nothing_written_and_nothing_to_write(trials: Trials) -> None:
    await trials.record("one/1", {})
    assert await trials.counts(TRIAL) == Counts()


async def test_counts_are_forgotten_in_the_end(trials: Trials, store: Store, raw: Redis) -> None:
    await trials.record("one/1", {TRIAL: SEEN})
    assert KEEP_S - 60 < await raw.ttl(store.connection.keys.trial("acme", "home", "a" * 64)) <= KEEP_S


async def test_a_foreign_value_under_the_name_is_replaced(trials: Trials, store: Store, raw: Redis) -> None:
    await raw.set(store.connection.keys.trial("acme", "home", "a" * 64), "mine")
    await trials.record("one/1", {TRIAL: SEEN})
    assert await trials.counts(TRIAL) == SEEN


async def test_one_leads_at_a_time_until_it_hands_over_or_is_heard_of_no_more(trials: Trials) -> None:
    assert await trials.lead("watch", "one", 30.0)
    assert await trials.lead("watch", "one", 30.0)
    assert not await trials.lead("watch", "two", 30.0)
    assert await trials.lead("another duty", "two", 30.0)
    await trials.hand_over("watch", "two")  # whose it is not
    assert not await trials.lead("watch", "two", 30.0)
    await trials.hand_over("watch", "one")
    assert await trials.lead("watch", "two", 0.001)
    async with asyncio.timeout(30):
        while not await trials.lead("watch", "one", 30.0):  # noqa: ASYNC110 - its lease runs out
            await asyncio.sleep(0.001)


async def test_redis_being_away_is_said() -> None:
    store = Store.connect("unix:///nonexistent/redis")
    with pytest.raises(StoreUnavailable):
        await Trials(store.connection).lead("watch", "one", 1.0)
    await store.close()
