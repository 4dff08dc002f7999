"""Limiters on a real Redis: several of them stand for several gateways of one installation."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from routing.account import Account, Limits
from routing.embedded import EmbeddedRedis
from routing.limits import HORIZON_S, UNKNOWN_GATEWAYS, burst_of, credit_of
from routing.redis.keys import Keys
from routing.redis.shares import Shares
from routing.store import Store
from server.errors import RateLimited
from server.limits import Limiter
from server.meter import FREE, Permit

pytestmark = pytest.mark.redis


class Accounts:
    """Accounts that a test may replace at any moment."""

    def __init__(self, **limits: Limits) -> None:
        self.now: Mapping[str, Account] = {}
        self.use(**limits)

    def use(self, **limits: Limits) -> None:
        self.now = {name: Account(name=name, limits=one) for name, one in limits.items()}

    def __call__(self) -> Mapping[str, Account]:
        return self.now


@asynccontextmanager
async def limiters(url: str, namespace: str, accounts: Accounts, count: int = 3) -> AsyncIterator[list[Limiter]]:
    """Running limiters, each with a connection of its own."""
    stores = [Store.connect(url, namespace) for _ in range(count)]
    made = [Limiter(Shares(store.connection), f"g{i}", accounts) for i, store in enumerate(stores)]
    tasks = [asyncio.create_task(limiter.run()) for limiter in made]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for store in stores:
            await store.close()
    for task in tasks:
        assert task.cancelled(), task.exception()


async def ask(limiter: Limiter, tenant: str = "acme") -> Permit:
    """As a request does."""
    return limiter.admit(tenant, time.perf_counter()) or await limiter.admit_soon(tenant)


async def tally(limiter: Limiter, count: int) -> int:
    """How many of ``count`` requests that come at once are let in; each ends at once."""

    async def one() -> bool:
        try:
            permit = await ask(limiter)
        except RateLimited:
            return False
        permit.release()
        return True

    return sum(await asyncio.gather(*(one() for _ in range(count))))


async def until(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)


async def is_known(made: list[Limiter]) -> None:
    """Wait until every gateway knows of all of them."""
    await until(lambda: all(limiter.gateways == len(made) for limiter in made))


async def test_without_limits_nothing_is_asked_or_counted() -> None:
    limiter = Limiter.unlimited()
    assert limiter.admit("acme", time.perf_counter()) is FREE
    assert FREE.headers() == []
    FREE.release()
    await limiter.run()


async def test_a_burst_at_one_gateway_is_let_in_whole_and_not_one_more(redis_url: str, namespace: str) -> None:
    accounts = Accounts(acme=Limits(rate_per_s=0.001, burst=40))
    async with limiters(redis_url, namespace, accounts) as made:
        assert await tally(made[0], 100) == 40
        assert await tally(made[0], 10) == 0
        over = sum([await tally(limiter, 20) for limiter in made])
        assert over <= 2 * credit_of(accounts.now["acme"].limits)


async def test_three_gateways_under_several_times_the_rate_stay_within_the_bound(
    redis_url: str, namespace: str
) -> None:
    limits = Limits(rate_per_s=200.0, burst=30)
    async with limiters(redis_url, namespace, Accounts(acme=limits)) as made:
        began, ends = time.perf_counter(), time.perf_counter() + 2.0

        async def hammer(limiter: Limiter) -> int:
            let_in = 0
            while time.perf_counter() < ends:
                let_in += await tally(limiter, 5)
                await asyncio.sleep(0.005)
            return let_in

        let_in = await asyncio.gather(*(hammer(limiter) for limiter in made))
        took_s, admitted = time.perf_counter() - began, sum(let_in)
    assert admitted <= burst_of(limits) + 200.0 * (took_s + HORIZON_S) + 3 * credit_of(limits) + 1
    assert min(let_in) >= 30  # none is left out
    assert admitted >= 100  # more than the bucket held: the rate comes in (how exactly: tests/routing/redis)


async def test_requests_in_flight_are_held_within_the_cap_and_places_come_back(redis_url: str, namespace: str) -> None:
    async with limiters(redis_url, namespace, Accounts(acme=Limits(concurrency=8)), count=2) as made:
        permits = []
        for _ in range(30):
            for limiter in made:
                with contextlib.suppress(RateLimited):
                    permits.append(await ask(limiter))
            await asyncio.sleep(0.01)
        assert 8 <= len(permits) <= 8 + 2
        with pytest.raises(RateLimited, match="limit: concurrency") as refused:
            await ask(made[0])
        assert (b"ratelimit-limit", b"8") in refused.value.headers
        for permit in permits:
            permit.release()

        async def all_again() -> bool:
            again = []
            for _ in range(8):
                with contextlib.suppress(RateLimited):
                    again.append(await ask(made[0]))
            for permit in again:
                permit.release()
            return len(again) == 8

        await until(all_again)


async def test_the_days_quota_holds_and_says_when_the_next_day_begins(redis_url: str, namespace: str) -> None:
    async with limiters(redis_url, namespace, Accounts(acme=Limits(daily_requests=12)), count=2) as made:
        let_in = 0
        for _ in range(30):
            let_in += sum([await tally(limiter, 2) for limiter in made])
            await asyncio.sleep(0.01)
        assert 12 <= let_in <= 12 + 2
        with pytest.raises(RateLimited, match="limit: day") as refused:
            await ask(made[0])
        assert 0 < (refused.value.retry_after_s or 0) <= 86_400


async def test_changed_limits_hold_without_a_restart(redis_url: str, namespace: str) -> None:
    accounts = Accounts()
    async with limiters(redis_url, namespace, accounts, count=1) as (limiter,):
        assert await tally(limiter, 50) == 50
        accounts.use(acme=Limits(rate_per_s=0.001, burst=3))

        async def holds() -> bool:
            return await tally(limiter, 10) < 10

        await until(holds)
        assert await tally(limiter, 10) == 0
        accounts.use(acme=Limits(rate_per_s=1e6))

        async def is_free() -> bool:
            return await tally(limiter, 10) == 10

        await until(is_free)
        accounts.use()
        await until(lambda: limiter.admit("acme", time.perf_counter()) is FREE)


async def test_a_tenant_that_is_gone_or_suspended_is_forgotten(redis_url: str, namespace: str) -> None:
    accounts = Accounts(acme=Limits(concurrency=2))
    async with limiters(redis_url, namespace, accounts, count=1) as (limiter,):
        permit = await ask(limiter)
        accounts.now = {"acme": Account(name="acme", limits=Limits(concurrency=2), is_suspended=True)}
        await until(lambda: limiter.tracked == 0)
        permit.release()  # a request in flight ends as any other


async def test_idle_tenants_cost_no_commands_beyond_the_heartbeat(redis_url: str, namespace: str, raw: Redis) -> None:
    accounts = Accounts(acme=Limits(rate_per_s=100.0))
    async with limiters(redis_url, namespace, accounts, count=1) as (limiter,):
        await tally(limiter, 5)
        await until(lambda: limiter.active == 0)
        key = Keys(namespace).limits("acme")
        before = await raw.hgetall(key)
        reports = limiter.reports
        await until(lambda: limiter.reports > reports)  # a heartbeat
        assert await raw.hgetall(key) == before
        assert await raw.pttl(key) > 0


async def test_with_redis_gone_each_gateway_goes_on_with_its_part_and_comes_back(
    own_redis: EmbeddedRedis, namespace: str
) -> None:
    limits = Limits(rate_per_s=0.001, burst=30, concurrency=9)
    async with limiters(own_redis.url, namespace, Accounts(acme=limits)) as made:
        await tally(made[0], 1)
        await is_known(made)
        own_redis.stop()
        for limiter in made:
            with contextlib.suppress(RateLimited):
                (await ask(limiter)).release()
        await until(lambda: all(limiter.state == "cut off" for limiter in made))
        let_in = [await tally(limiter, 30) for limiter in made]
        assert max(let_in) <= 30 / 3
        assert sum(let_in) <= 30
        own_redis.start()
        await until(lambda: all(limiter.state == "connected" for limiter in made))


async def test_a_redis_that_hangs_is_given_up_and_its_late_answers_confuse_nobody(
    own_redis: EmbeddedRedis, namespace: str
) -> None:
    limits = Limits(rate_per_s=0.001, burst=30)
    async with limiters(own_redis.url, namespace, Accounts(acme=limits)) as made:
        await tally(made[0], 1)
        await is_known(made)
        assert own_redis.pid is not None
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            let_in = 1
            for limiter in made:
                let_in += await tally(limiter, 5)
            await until(lambda: all(limiter.state == "cut off" for limiter in made))
            let_in += sum([await tally(limiter, 30) for limiter in made])
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        await until(lambda: all(limiter.state == "connected" for limiter in made))
        let_in += sum([await tally(limiter, 50) for limiter in made])
        assert 25 <= let_in <= 30 + 3 * credit_of(limits) + 3 * 10


async def test_places_without_redis_are_the_gateways_part(own_redis: EmbeddedRedis, namespace: str) -> None:
    async with limiters(own_redis.url, namespace, Accounts(acme=Limits(concurrency=9))) as made:
        await tally(made[0], 1)
        await is_known(made)
        own_redis.stop()
        await until(lambda: all(limiter.state == "cut off" for limiter in made))
        permits = []
        for limiter in made:
            for _ in range(9):
                with contextlib.suppress(RateLimited):
                    permits.append(await ask(limiter))
        assert len(permits) == 9


async def test_a_gateway_that_never_reached_redis_lets_in_a_stated_part(namespace: str) -> None:
    accounts = Accounts(acme=Limits(concurrency=8, rate_per_s=0.001, burst=100))
    async with limiters("unix:///nowhere/redis.sock", namespace, accounts, count=1) as (limiter,):
        await until(lambda: limiter.state == "cut off")
        permits = []
        for _ in range(8):
            with contextlib.suppress(RateLimited):
                permits.append(await ask(limiter))
        assert len(permits) <= 8 / UNKNOWN_GATEWAYS


async def test_a_redis_that_refuses_the_script_is_an_error_and_multiplies_nothing(
    own_redis: EmbeddedRedis, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    admin: Any = Redis.from_url(own_redis.url)
    await admin.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-@scripting")
    await admin.aclose()
    url = own_redis.url.replace("unix://", "unix://app:secret@")
    accounts = Accounts(acme=Limits(rate_per_s=0.001, burst=40))
    async with limiters(url, namespace, accounts, count=1) as (limiter,):
        await until(lambda: limiter.state == "refused")
        assert await tally(limiter, 100) <= 40 / UNKNOWN_GATEWAYS
    assert "limits_refused" in capsys.readouterr().out


async def test_after_a_flush_buckets_begin_full_and_no_fuller(own_redis: EmbeddedRedis, namespace: str) -> None:
    limits = Limits(rate_per_s=0.001, burst=20)
    async with limiters(own_redis.url, namespace, Accounts(acme=limits)) as made:
        assert await tally(made[0], 50) == 20
        async with Redis.from_url(own_redis.url) as admin:
            await admin.flushall()

        let_in = 0

        async def has_more() -> bool:
            nonlocal let_in
            more = sum([await tally(limiter, 30) for limiter in made])
            let_in += more
            return let_in >= 15

        await until(has_more)
        assert let_in <= 20 + 3 * credit_of(limits)


async def test_a_gateway_that_ends_gives_its_places_back_at_once(redis_url: str, namespace: str) -> None:
    accounts = Accounts(acme=Limits(concurrency=4))
    async with limiters(redis_url, namespace, accounts, count=1) as (first,):
        for _ in range(4):
            (await ask(first)).release()
    async with limiters(redis_url, namespace, accounts, count=1) as (second,):
        permits = [await ask(second) for _ in range(4)]
        assert len(permits) == 4
