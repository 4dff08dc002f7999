"""Killing parts of a running installation under load: everybody gets a reply, and the part comes back."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import psutil
import pytest

from routing.store import StoreUnavailable
from routing.table import FamilyTicket, Table
from tests.e2e.installation import PATIENT_MS, WAIT_S, Installation, Start, patient, until, with_tiers

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.timeout(180)]


@pytest.fixture
async def up(start: Start) -> Installation:
    """One gateway and two workers, with deadlines that a busy machine can keep."""
    up = start("--workers", "2").wait_until_up()
    await up.uses(await up.publish(patient))
    return up


async def test_a_killed_worker_costs_no_request_its_reply(up: Installation) -> None:
    """Every request is answered or refused with a code inside its deadline; the worker comes back."""
    async with up.load(concurrency=8) as load:
        await load.more(50)
        old = await up.kill("worker-0")
        await load.more(50)
        await up.is_replaced("worker-0", old)
        await load.more(50)
    assert all(reply.is_settled for reply in load.replies), [r for r in load.replies if not r.is_settled]
    assert max(reply.took_s for reply in load.replies) < PATIENT_MS / 1000
    assert load.failed == []  # another worker was there: the one retry succeeds
    assert '"signal 9 (SIGKILL)"' in up.log.read_text()


async def test_with_its_only_worker_killed_requests_are_refused_in_time_and_then_served_again(start: Start) -> None:
    up = start("--workers", "1").wait_until_up()
    await up.uses(await up.publish(lambda table: with_tiers(table, deadline_ms=2_000.0)))
    async with up.load() as load:
        await load.more(20)
        old = await up.kill("worker-0")
        await up.is_replaced("worker-0", old)
        await load.more(20, lambda reply: reply.status == 200)
    assert all(reply.is_settled for reply in load.replies)
    assert {reply.body["code"] for reply in load.failed} <= {
        "worker_lost",
        "no_worker",
        "overloaded",
        "deadline_exceeded",
    }


async def test_a_worker_that_hangs_keeps_nobody_waiting_and_works_again_when_it_goes_on(start: Start) -> None:
    """Stopped, not dead: its connections stand, and only its silence tells. (`up` does not replace it here.)"""
    up = start("--workers", "2", "--probe-patience-s", "0").wait_until_up()
    await up.uses(await up.publish(patient))
    hung = up.pid("worker-0")
    assert hung is not None
    async with up.load(concurrency=8) as load:
        await load.more(50)
        psutil.Process(hung).suspend()
        try:
            await until(lambda: '"event":"worker_lost"' in up.log.read_text())
            await load.more(50)
        finally:
            psutil.Process(hung).resume()
        await up.shows('tombola_workers{process="gateway-0"} 2.0')
        await load.more(50)
    assert load.failed == []
    assert max(reply.took_s for reply in load.replies) < PATIENT_MS / 1000
    assert up.pid("worker-0") == hung


async def test_a_table_that_names_a_missing_ticket_is_served_with_the_next_one(up: Installation) -> None:
    def with_missing(table: Table) -> Table:
        best = FamilyTicket(id="f" * 64, tier="accurate", quality=0.99, service_ms=3.0)
        return msgspec.structs.replace(table, families={"home": [best, *table.families["home"]]})

    await up.uses(await up.publish(with_missing))
    async with up.client() as client:
        reply = await up.ask(client)
    assert reply.status == 200, reply
    assert "could not be loaded" in reply.body["because"]


async def test_workers_whose_sockets_are_removed_are_found_by_a_gateway_that_starts_later(up: Installation) -> None:
    for name in ("worker-0", "worker-1"):
        (up.state / "run" / f"{name}.sock").unlink()
    old = await up.kill("gateway-0")
    await up.is_replaced("gateway-0", old)
    await up.shows('tombola_workers{process="gateway-0"} 2.0')


async def test_a_killed_gateway_loses_only_the_connections_it_held(start: Start) -> None:
    """New connections wait in the socket that `up` holds, or go to the other gateway."""
    up = start("--gateways", "2", "--workers", "1").wait_until_up()
    await up.publish(patient)
    async with up.load(concurrency=8) as load:
        await load.more(50)
        old = await up.kill("gateway-0")
        await up.is_replaced("gateway-0", old)
        await load.more(100, lambda reply: reply.status == 200)
    lost = [reply for reply in load.replies if reply.status is None]
    assert len(lost) <= 8  # one for each connection at most
    assert not any("Connect" in reply.body["exception"] for reply in lost)
    assert all(reply.is_settled for reply in load.replies if reply.status is not None)


async def test_requests_to_a_gateway_that_restarts_wait_for_it(start: Start) -> None:
    """With a single gateway, no connection is refused while it is away."""
    up = start("--workers", "1").wait_until_up()
    await up.publish(patient)
    old = await up.kill("gateway-0")
    async with up.client() as client:
        reply = await up.ask(client)
        while reply.status == 503:  # it is back, and looks for its worker
            await asyncio.sleep(0.05)
            reply = await up.ask(client)
    assert reply.status == 200, reply
    assert up.pid("gateway-0") not in (None, old)


async def test_requests_are_answered_while_redis_is_away_and_it_comes_back_with_its_data(up: Installation) -> None:
    async with up.load() as load:
        await load.more(20)
        old = await up.kill("redis")
        await load.more(100)
        await up.is_replaced("redis", old)
        table = await retry(lambda: up.publish(lambda table: table))
        await up.uses(table)
        await load.more(20)
    assert load.failed == []
    assert table.version == 3  # the default, the patient one, and this: nothing was lost


async def test_a_gateway_that_starts_while_redis_is_away_serves_its_last_table(start: Start) -> None:
    up = start("--workers", "1").wait_until_up()
    await up.uses(await up.publish(patient))
    redis = up.pid("redis")
    assert redis is not None
    psutil.Process(redis).suspend()  # it holds its connections and answers nobody
    try:
        old = await up.kill("gateway-0")
        await up.is_replaced("gateway-0", old)
        async with up.client() as client:
            reply = await up.ask(client)
            # It knows the table from its file; the worker it must hear of from Redis.
            assert reply.status in (200, 503)
            assert reply.body.get("code") in (None, "no_worker", "overloaded", "not_ready")
    finally:
        psutil.Process(redis).resume()
    async with up.load(concurrency=1) as load:
        await load.more(5, lambda reply: reply.status == 200)


async def test_a_published_table_is_used_at_once_and_no_request_fails(
    up: Installation, record_property: Callable[[str, object], None]
) -> None:
    """Publishing under load: the gateway goes over to the new table without dropping anything."""
    async with up.load(concurrency=8) as load:
        await load.more(50)
        assert {reply.body["tier"] for reply in load.replies} == {"accurate"}
        before = load.replies[-1].body["ticket"]
        began = time.monotonic()
        await up.publish(only_fast_tickets)
        await until(lambda: load.replies[-1].body.get("ticket") not in (None, before))
        took_s = time.monotonic() - began
        await load.more(50)
    record_property("publish_to_use_s", round(took_s, 3))
    assert load.failed == []
    assert took_s < 5.0  # the promise is one second; a busy machine gets five


def only_fast_tickets(table: Table) -> Table:
    """The same tenants, served by the cheapest ticket of each family only."""
    families = {name: tickets[-1:] for name, tickets in table.families.items()}
    return with_tiers(msgspec.structs.replace(table, families=families), quality_floor=0.0)


async def retry(action: Callable[[], Awaitable[Table]]) -> Table:
    """Try again while Redis is away."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await action()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
