"""The shares of limits: what all gateways together let in, by the real script on a clock that the test owns."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from routing.account import Limits
from routing.embedded import EmbeddedRedis
from routing.limits import DAY_S, HORIZON_S, Grant, Report, burst_of, credit_of, day_credit_of
from routing.redis.keys import Keys
from routing.redis.shares import Shares
from routing.store import Store
from tests.routing.share_world import Clock, World, shares_at, worst_excess

pytestmark = pytest.mark.redis

T = TypeVar("T")
MIDNIGHT = 1_000_000.0 - 1_000_000.0 % DAY_S


def on_redis(server: EmbeddedRedis, what: Callable[[Redis], Awaitable[T]]) -> T:
    """Run ``what`` on an empty database of the shared Redis, in a loop of its own."""

    async def run() -> T:
        async with Redis.from_url(server.url, db=9) as client:
            await client.flushdb()
            return await what(client)

    return asyncio.run(run())


def rate_bound(limits: Limits, gateways: int) -> float:
    """What docs/limits.md states, less the rate's own part."""
    return burst_of(limits) + (limits.rate_per_s or 0.0) * HORIZON_S + gateways * credit_of(limits) + 1


seeds = st.integers(0, 1 << 30)
rates = st.sampled_from([0.5, 3.0, 20.0, 150.0, 600.0])
losses = st.sampled_from([0.0, 0.0, 0.1, 0.4])


@settings(max_examples=40)
@given(
    seed=seeds, rate=rates, burst=st.sampled_from([None, 1, 7, 60]), gateways=st.integers(1, 4),
    times=st.sampled_from([0.5, 1.5, 8.0]), loss=losses,
)  # fmt: skip
def test_no_window_admits_more_than_the_bound_whatever_is_lost_or_late(
    redis_server: EmbeddedRedis, seed: int, rate: float, burst: int | None, gateways: int, times: float, loss: float
) -> None:
    limits = Limits(rate_per_s=rate, burst=burst)

    async def run(redis: Redis) -> World:
        world = World(redis, limits, gateways=gateways, seed=seed, loss=loss)
        length = min(3.0, 200 / (rate * times))
        for _ in range(2):  # in between, buckets are full and shares given back
            for index in range(gateways):
                world.hammer(index, rate * times / gateways, world.clock.now + length)
            await world.run_until(world.clock.now + length + 3.0 * burst_of(limits) / rate)
        return world

    world = on_redis(redis_server, run)
    assert worst_excess(world.admitted, rate) <= rate_bound(limits, gateways)


@settings(max_examples=15)
@given(seed=seeds, rate=st.sampled_from([5.0, 40.0, 120.0]), burst=st.sampled_from([None, 1, 10]))
def test_a_flood_gets_its_rate(redis_server: EmbeddedRedis, seed: int, rate: float, burst: int | None) -> None:
    """Nothing of the rate is lost between gateways: what is refused too early is what lies unspent elsewhere."""
    limits = Limits(rate_per_s=rate, burst=burst)

    async def run(redis: Redis) -> World:
        world = World(redis, limits, seed=seed)
        for index in range(3):
            world.hammer(index, max(5 * rate, 100.0), world.clock.now + 4.0)
        await world.run_until(world.clock.now + 4.0)
        return world

    world = on_redis(redis_server, run)
    assert len(world.admitted) >= rate * 4.0 * 0.95 - rate * HORIZON_S - 3


@settings(max_examples=20)
@given(seed=seeds, gap=st.floats(0.3, 5.0))
def test_credits_of_a_tenant_that_comes_and_goes_are_worked_off(
    redis_server: EmbeddedRedis, seed: int, gap: float
) -> None:
    """A slow rate, and one request at every gateway whenever all shares have been given back."""
    limits = Limits(rate_per_s=0.2, burst=1)

    async def run(redis: Redis) -> World:
        world = World(redis, limits, seed=seed)
        for _ in range(30):
            for index in range(3):
                world.ask(index)
            await world.run_until(world.clock.now + gap)
        return world

    world = on_redis(redis_server, run)
    assert worst_excess(world.admitted, 0.2) <= rate_bound(limits, 3)


@settings(max_examples=20)
@given(seed=seeds, restarts=st.integers(1, 5))
def test_a_killed_gateway_costs_at_most_one_credit(redis_server: EmbeddedRedis, seed: int, restarts: int) -> None:
    limits = Limits(rate_per_s=50.0, burst=20)

    async def run(redis: Redis) -> World:
        world = World(redis, limits, seed=seed)
        for index in range(3):
            world.hammer(index, 60.0, world.clock.now + 3.0)
        for number in range(restarts):
            world.at(world.clock.now + 0.4 * (number + 1), lambda: world.restart(world.random.randrange(3)))
        await world.run_until(world.clock.now + 3.0)
        return world

    world = on_redis(redis_server, run)
    assert worst_excess(world.admitted, 50.0) <= rate_bound(limits, 3) + restarts * credit_of(limits)


@settings(max_examples=30)
@given(
    seed=seeds, cap=st.sampled_from([1, 2, 5, 24]), gateways=st.integers(1, 4), loss=losses,
    lasts_s=st.sampled_from([0.01, 0.1, 0.6]),
)  # fmt: skip
def test_requests_in_flight_stay_within_the_cap_and_one_more_per_gateway(
    redis_server: EmbeddedRedis, seed: int, cap: int, gateways: int, loss: float, lasts_s: float
) -> None:
    limits = Limits(concurrency=cap)

    async def run(redis: Redis) -> World:
        world = World(redis, limits, gateways=gateways, seed=seed, loss=loss, lasts_s=lasts_s)
        for index in range(gateways):
            world.hammer(index, min(200.0, 3.0 * cap / lasts_s / gateways), world.clock.now + 1.5)
        await world.run_until(world.clock.now + 1.5)
        return world

    assert on_redis(redis_server, run).most_in_flight <= cap + gateways


@settings(max_examples=10)
@given(seed=seeds)
def test_a_flood_at_one_gateway_leaves_the_others_their_part_of_the_places(
    redis_server: EmbeddedRedis, seed: int
) -> None:
    async def run(redis: Redis) -> tuple[World, list[int]]:
        world = World(redis, Limits(concurrency=12), seed=seed, lasts_s=0.1)
        world.hammer(0, 400.0, world.clock.now + 4.0)
        await world.run_until(world.clock.now + 1.0)
        before = list(world.let_in)
        world.hammer(1, 400.0, world.clock.now + 3.0)
        await world.run_until(world.clock.now + 3.0)
        return world, [now - then for now, then in zip(world.let_in, before, strict=True)]

    world, let_in = on_redis(redis_server, run)
    assert let_in[1] >= 0.2 * sum(let_in)
    assert world.most_in_flight <= 12 + 3


@settings(max_examples=10)
@given(seed=seeds)
def test_one_place_goes_round_among_gateways(redis_server: EmbeddedRedis, seed: int) -> None:
    async def run(redis: Redis) -> list[int]:
        world = World(redis, Limits(concurrency=1), seed=seed, lasts_s=0.02)
        let_in = [0, 0, 0]
        for _ in range(600):
            index = world.random.randrange(3)
            let_in[index] += world.ask(index)
            await world.run_until(world.clock.now + 0.01)
        return let_in

    assert min(on_redis(redis_server, run)) >= 3


@settings(max_examples=25)
@given(seed=seeds, daily=st.sampled_from([1, 10, 300]), gateways=st.integers(1, 4), loss=losses)
def test_a_day_admits_its_quota_and_at_most_a_credit_per_gateway(
    redis_server: EmbeddedRedis, seed: int, daily: int, gateways: int, loss: float
) -> None:
    limits = Limits(daily_requests=daily)

    async def run(redis: Redis) -> World:
        world = World(redis, limits, gateways=gateways, seed=seed, loss=loss, start=MIDNIGHT + DAY_S - 3.0)
        for index in range(gateways):
            world.hammer(index, 60.0, world.clock.now + 7.0)
        await world.run_until(world.clock.now + 7.0)
        return world

    world = on_redis(redis_server, run)
    over = gateways * day_credit_of(limits)
    today = [at for at in world.admitted if at < MIDNIGHT + DAY_S]
    tomorrow = [at for at in world.admitted if at >= MIDNIGHT + DAY_S]
    assert len(today) <= daily + over
    assert len(tomorrow) <= daily + over + (over if loss else 0)
    if not loss:
        assert len(today) >= min(daily, 100)
        assert len(tomorrow) >= min(daily, 100)


def report(serial: int, **told: int) -> Report:
    """A report on a tenant with all limits."""
    fields: dict[str, Any] = dict.fromkeys(Report.__struct_fields__, 0)
    limits = {"rate_per_s": 10.0, "burst": 50, "concurrency": 9, "daily": 400, "day": -1}
    return Report(**(fields | limits | {"tenant": "t", "serial": serial} | told))


def test_a_report_that_is_overtaken_changes_nothing(redis_server: EmbeddedRedis) -> None:
    async def run(redis: Redis) -> tuple[object, object]:
        shares = shares_at(redis, Clock())
        key = Keys("world").limits("t")
        early = report(1, rate_used=3, rate_fresh=3, rate_want=20, places_held=1, places_want=4, day_want=10)
        await shares.lease("g", [early])
        await shares.lease("g", [report(2, rate_used=9, rate_fresh=9, rate_held=11, rate_want=11, places_held=4)])
        before = await redis.hgetall(key)
        await shares.lease("g", [early])
        return before, await redis.hgetall(key)

    before, after = on_redis(redis_server, run)
    assert before == after


def test_a_report_that_is_run_twice_gives_the_same_once(redis_server: EmbeddedRedis) -> None:
    async def run(redis: Redis) -> tuple[list[Grant], list[Grant]]:
        shares = shares_at(redis, Clock())
        await shares.lease("other", [report(1, rate_want=5, places_want=2, day_want=3)])
        sent = report(1, rate_used=3, rate_fresh=3, rate_want=20, places_want=4, day_used=3, day_fresh=3, day_want=10)
        return (await shares.lease("g", [sent]))[1], (await shares.lease("g", [sent]))[1]

    first, again = on_redis(redis_server, run)
    assert first == again
    assert (first[0].rate, first[0].rate_left, first[0].places) == (20, 50.0 - 5 - 3 - 20, 4)


def test_what_was_let_in_without_redis_empties_the_bucket_at_most(redis_server: EmbeddedRedis) -> None:
    async def run(redis: Redis) -> list[float]:
        shares = shares_at(redis, Clock())
        return [(await shares.lease("g", [report(n, rate_alone=30)]))[1][0].rate_left for n in (1, 2, 3)]

    assert on_redis(redis_server, run) == [20.0, 0.0, 0.0]


def test_something_else_under_the_name_is_replaced(redis_server: EmbeddedRedis) -> None:
    async def run(redis: Redis) -> int:
        await redis.set(Keys("world").limits("t"), "not ours")
        await redis.set(Keys("world").limits("@gateways"), "not ours")
        state, (grant,) = await shares_at(redis, Clock()).lease("g", [report(1, rate_want=7)])
        assert state.gateways == 1
        return grant.rate

    assert on_redis(redis_server, run) == 7


def test_the_last_requests_of_a_day_are_not_hoarded(redis_server: EmbeddedRedis) -> None:
    """One gateway asks fast, the other seldom: the quota is used up to the last request."""

    async def run(redis: Redis) -> World:
        world = World(redis, Limits(daily_requests=500), gateways=2, seed=1, start=MIDNIGHT + 100.0)
        world.hammer(0, 300.0, world.clock.now + 4.0)
        world.hammer(1, 5.0, world.clock.now + 4.0)
        await world.run_until(world.clock.now + 4.0)
        return world

    assert 500 <= len(on_redis(redis_server, run).admitted) <= 502


def test_what_is_not_used_goes_back(redis_server: EmbeddedRedis) -> None:
    """After a quiet second another gateway can use the whole burst."""

    async def run(redis: Redis) -> int:
        world = World(redis, Limits(rate_per_s=0.001, burst=40), gateways=2, seed=3)
        for _ in range(5):
            world.ask(0)
        await world.run_until(world.clock.now + 1.5)
        assert world.gateways[0].share.is_quiet
        before = len(world.admitted)
        for _ in range(60):
            world.ask(1)
            await world.run_until(world.clock.now + 0.02)
        return before + len(world.admitted[before:])

    assert on_redis(redis_server, run) == 40


def test_places_of_a_killed_gateway_come_back(redis_server: EmbeddedRedis) -> None:
    async def run(redis: Redis) -> tuple[int, int]:
        world = World(redis, Limits(concurrency=6), gateways=2, seed=3, lasts_s=1e6)
        world.hammer(0, 200.0, world.clock.now + 1.0)
        await world.run_until(world.clock.now + 1.5)
        world.restart(0)
        world.hammer(1, 200.0, world.clock.now + 5.0)
        await world.run_until(world.clock.now + 0.5)
        at_once = world.gateways[1].share.in_flight
        await world.run_until(world.clock.now + 4.0)
        return at_once, world.gateways[1].share.in_flight

    at_once, later = on_redis(redis_server, run)
    assert at_once <= 3
    assert later == 6


async def test_reporting_ends_when_it_is_cancelled_whatever_it_is_doing(store: Store) -> None:
    """At every step of a round trip: redis-py loses a cancellation that comes while it sends (Python < 3.12)."""
    shares = Shares(store.connection)
    await shares.lease("g", [])

    async def keep_reporting() -> None:
        while True:
            await shares.lease("g", [])

    for steps in range(40):
        task = asyncio.create_task(keep_reporting())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(30):
            await asyncio.wait({task})
        assert task.cancelled()
