"""Limits with three real gateways on one Redis: what all of them together let in, over real HTTP."""

import asyncio
import time

import msgspec
import pytest

from routing.account import Account, Limits
from routing.change import Change
from routing.event import Event
from routing.limits import HORIZON_S, burst_of, credit_of
from routing.store import Store
from tests.e2e.installation import WAIT_S, Installation, Start, patient, until

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.timeout(180)]

GATEWAYS = 3


async def limit(up: Installation, limits: Limits) -> None:
    """Give the demo tenant these limits."""
    store = Store.connect(up.redis_url)
    try:
        standing = (await store.load_accounts()).get("demo", Account(name="demo"))
        account = msgspec.structs.replace(standing, limits=limits)
        event = Event(action="tenant.limits", actor="operator/test", tenant="demo", subject="demo")
        await store.commit(Change(event=event, accounts=(account,)))
    finally:
        await store.close()


async def show_limits(up: Installation) -> None:
    """Wait until every gateway tells of limits: often enough in a row, each on a connection of its own."""
    in_a_row = 0
    async with asyncio.timeout(WAIT_S):
        while in_a_row < 40:
            async with up.client() as client:
                response = await client.post("/v1/classify", content=b"{")
            in_a_row = in_a_row + 1 if "ratelimit-limit" in response.headers else 0


async def test_three_gateways_let_in_no_more_than_the_bound_under_several_times_the_rate(start: Start) -> None:
    up = start("--gateways", str(GATEWAYS), "--workers", "1").wait_until_up()
    await up.uses(await up.publish(patient))
    limits = Limits(rate_per_s=60.0, burst=20)
    await limit(up, limits)
    await show_limits(up)
    counts = {200: 0, 429: 0}
    stop = asyncio.Event()

    async def ask() -> None:
        async with up.client() as client:
            while not stop.is_set():
                response = await client.post("/v1/classify", json={"domain": "home", "text": "rain sun"})
                counts[response.status_code] += 1
                if response.status_code == 429:
                    assert response.json()["code"] == "rate_limited"
                    assert int(response.headers["retry-after"]) >= 1

    asked = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(ask())
        await until(lambda: counts[429] >= 200 and time.monotonic() > asked + 3.0)
        stop.set()
    took_s = time.monotonic() - asked
    credit = GATEWAYS * credit_of(limits)
    assert counts[200] <= burst_of(limits) + 60.0 * (took_s + HORIZON_S) + credit + 1
    assert counts[200] >= 60  # the rate comes in: far more than the bucket held


async def test_a_changed_limit_holds_at_once_everywhere_and_goes_away_again(start: Start) -> None:
    up = start("--gateways", "2", "--workers", "1").wait_until_up()
    await up.uses(await up.publish(patient))
    await limit(up, Limits(daily_requests=30))
    await show_limits(up)  # costs more than there is
    async with up.client() as client:
        response = await client.post("/v1/classify", json={"domain": "home", "text": "rain sun"})
    assert response.status_code == 429
    await limit(up, Limits())
    in_a_row = 0
    async with asyncio.timeout(WAIT_S):
        while in_a_row < 20:
            async with up.client() as client:
                response = await client.post("/v1/classify", json={"domain": "home", "text": "rain sun"})
            in_a_row = in_a_row + 1 if response.status_code == 200 else 0
