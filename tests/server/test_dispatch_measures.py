"""What a dispatcher accounts for, over real links: where the time went, who answered and why, whose limit refused."""

import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from routing.account import Limits
from server import wire
from server.errors import TicketUnavailable
from server.meter import Meter
from server.telemetry import PARTS
from tests.server.fake_worker import answer, fail
from tests.server.house import ACCURATE, FAST, House, two_workers

WHO = {"tenant": "acme", "domain": "home", "tier": "fast"}


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    async with two_workers() as house:
        yield house


def slow_to_tokenize(ask: wire.Ask) -> wire.Answer:
    """Answers as if it had waited 3 ms and run for 8, of which 5 in the tokenizer, though it took no time at all."""
    return msgspec.structs.replace(answer(ask), queue_ms=3.0, run_ms=8.0, tokenize_ms=5.0)


def parts(house: House) -> dict[str, float]:
    return {part: house.value("tombola_request_part_seconds_total", **WHO, part=part) for part in PARTS}


async def test_the_parts_of_the_time_are_what_the_worker_said_and_what_the_gateway_saw(house: House) -> None:
    for worker in house.workers:
        worker.behave = slow_to_tokenize
    reply = await house.ask()
    assert (reply.queue_ms, reply.run_ms, reply.tokenize_ms) == (3.0, 8.0, 5.0)
    assert 0 < reply.admission_ms < reply.total_ms
    found = parts(house)
    assert found["queue"] == pytest.approx(0.003)
    assert found["tokenize"] == pytest.approx(0.005)
    assert found["run"] == pytest.approx(0.003)
    assert found["admission"] == pytest.approx(reply.admission_ms / 1000)


def at_once(ask: wire.Ask) -> wire.Answer:
    """Answers, and claims no time for it: what it takes to arrive is the hop's."""
    return msgspec.structs.replace(answer(ask), queue_ms=0.0, run_ms=0.0)


async def test_the_parts_add_up_to_the_request(house: House) -> None:
    for worker in house.workers:
        worker.behave = at_once
    await house.ask()
    assert sum(parts(house).values()) == pytest.approx(house.value("tombola_request_seconds_sum", **WHO))


async def test_a_request_without_an_answer_has_no_parts_and_no_ticket(house: House) -> None:
    for worker in house.workers:
        worker.behave = fail("ticket_unavailable")
    with pytest.raises(TicketUnavailable):
        await house.ask(version=FAST)
    assert sum(parts(house).values()) == 0
    assert house.value("tombola_answers_total", **WHO, ticket=FAST[:12]) == 0


async def test_answers_are_counted_by_ticket_step_and_reason(house: House) -> None:
    await house.ask()
    await house.ask(version=ACCURATE)
    assert house.value("tombola_answers_total", **WHO, ticket=FAST[:12]) == 1
    assert house.value("tombola_answers_total", **WHO, ticket=ACCURATE[:12]) == 1
    assert house.value("tombola_route_steps_total", **WHO, step="0", reason="best") == 1
    assert house.value("tombola_route_steps_total", **WHO, step="0", reason="pinned") == 1


async def test_a_refusal_by_a_limit_is_counted_by_its_limit(house: House) -> None:
    meter = Meter("acme", Limits(rate_per_s=5.0, concurrency=2), 0.0)
    for limit in ("rate", "concurrency", "rate"):
        error = meter.refusal(limit, 0.0)
        house.dispatcher.reject(error, tenant="acme", arrived=time.perf_counter())
    assert house.value("tombola_limit_refusals_total", tenant="acme", limit="rate") == 2
    assert house.value("tombola_limit_refusals_total", tenant="acme", limit="concurrency") == 1


async def test_the_table_in_use_the_limit_of_requests_and_the_promise_are_shown(house: House) -> None:
    await house.ask()
    assert house.value("tombola_requests_in_flight_limit") == 1024
    assert house.value("tombola_sla_deadline_seconds", **WHO) == 10.0
    assert time.time() - 3600 < house.value("tombola_table_used_timestamp_seconds") <= time.time()
