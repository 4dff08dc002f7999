"""Which requests are recorded, and what a recorded request's trace says of the attempts that were made."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from routing.table import Route, Table
from server import wire
from server.errors import ApiError
from server.link import QUIET_S, SILENCE_S
from server.spans import Ending, Span, spans_of, trial_and_cascade
from server.trace_context import Parent
from server.tracing import Attempt, Sampler, Trace, current, enter
from tests.server.fake_worker import Behaviour, answer, fail, hang, until
from tests.server.gateways import tiny_table
from tests.server.house import ACCURATE, FAST, House, two_workers
from tickets.bundle import TicketId

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    async with two_workers() as house:
        yield house


@pytest.fixture
def trace() -> Trace:
    """The trace of what the test asks, once it has entered it."""
    return Trace(None)


def ending(table: Table | None = None, **changes: object) -> Ending:
    canary, large = trial_and_cascade(table, "acme", "home", None)
    known = Ending(
        name="POST /v1/classify", ended=time.perf_counter(), admitted=None, answered=time.perf_counter(), attributes={},
        error="", canary=canary, large=large,
    )  # fmt: skip
    return msgspec.structs.replace(known, **changes)


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def ways(spans: list[Span]) -> list[tuple[object, str]]:
    return [(span.attributes["tombola.way"], span.error) for span in named(spans, "ask")]


def begin(sampler: Sampler, traceparent: bytes | None, now: float = 0.0) -> Trace | None:
    return sampler.begin(traceparent, now)[1]


def test_without_a_caller_who_decides_a_ratio_is_recorded() -> None:
    draws = iter([0.009, 0.01, 0.5])
    sampler = Sampler(0.01, draw=lambda: next(draws))
    assert [begin(sampler, None) is not None for _ in range(3)] == [True, False, False]


def test_a_caller_who_sends_a_span_decides() -> None:
    assert begin(Sampler(1.0), PARENT + b"00") is None
    recorded = begin(Sampler(0.0), PARENT + b"01")
    assert recorded is not None
    assert (recorded.trace_id, recorded.parent_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert recorded.span_id != recorded.parent_id


def test_an_unrecorded_caller_is_still_known_to_the_log() -> None:
    parent, trace = Sampler(1.0).begin(PARENT + b"00", 0.0)
    assert trace is None
    assert parent == Parent("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", False)


def test_callers_cannot_have_more_recorded_than_the_bound() -> None:
    sampler = Sampler(0.0, max_per_s=2)
    now = [10.0, 10.1, 10.9, 11.0]
    assert [begin(sampler, PARENT + b"01", at) is not None for at in now] == [True, True, False, True]


async def test_an_answered_ask_shows_where_its_time_went(house: House, trace: Trace) -> None:
    for worker in house.workers:
        worker.behave = lambda ask: msgspec.structs.replace(answer(ask), queue_ms=1.0, run_ms=0.5, tokenize_ms=0.2)
    enter(trace)
    reply = await house.ask()
    spans = spans_of(trace, ending())
    (server,), (ask,) = named(spans, "POST /v1/classify"), named(spans, "ask")
    assert ask.parent_id == server.span_id
    assert ask.attributes["tombola.ticket"] == reply.ticket
    assert ask.attributes["tombola.worker"] in ("w1", "w2")
    parts = {name: named(spans, name)[0] for name in ("queue", "tokenize", "run")}
    lengths = {name: (part.end_ns - part.begin_ns) / 1e6 for name, part in parts.items()}
    assert lengths == pytest.approx({"queue": 1.0, "tokenize": 0.2, "run": 0.3}, abs=1e-4)
    assert all(part.parent_id == ask.span_id for part in parts.values())
    took_ms = (ask.end_ns - ask.begin_ns) / 1e6
    assert ask.attributes["tombola.hop_ms"] == pytest.approx(max(0.0, took_ms - 1.5), abs=1e-3)
    decided = named(spans, "admission")[0].attributes
    assert decided["tombola.because"] == reply.because
    assert {span.trace_id for span in spans} == {trace.trace_id}
    assert len({span.span_id for span in spans}) == len(spans)


async def test_parts_follow_one_another_within_their_ask(trace: Trace) -> None:
    """The worker's clock is never looked at: its durations are put in the middle of what the ask took here."""
    enter(trace)

    async def take() -> wire.Answer:
        await asyncio.sleep(0.02)
        return wire.Answer(1, [], 4.0, 6.0, 1, 0.0, [], 2.0)

    await trace.watch(a_route("w1", FAST), take())
    spans = spans_of(trace, ending())
    (ask,), (queue,), (tokenize,), (run,) = (named(spans, name) for name in ("ask", "queue", "tokenize", "run"))
    assert ask.begin_ns < queue.begin_ns < queue.end_ns == tokenize.begin_ns < tokenize.end_ns == run.begin_ns
    assert run.end_ns < ask.end_ns
    assert queue.begin_ns - ask.begin_ns == pytest.approx(ask.end_ns - run.end_ns, abs=2000)


async def test_a_retry_is_a_second_ask(house: House, trace: Trace) -> None:
    first_ask(house, fail("overloaded"))
    enter(trace)
    await house.ask()
    assert ways(spans_of(trace, ending())) == [("first", "overloaded"), ("retry", "")]


async def test_an_error_ends_its_ask_and_the_request(house: House, trace: Trace) -> None:
    for worker in house.workers:
        worker.behave = fail("inference_failed")
    enter(trace)
    with pytest.raises(ApiError):
        await house.ask()
    spans = spans_of(trace, ending(error="inference_failed", answered=None))
    assert ways(spans)[0] == ("first", "inference_failed")
    assert not named(spans, "render")
    assert spans[0].error == "inference_failed"


async def test_a_hedge_leaves_the_silent_ask_open_until_it_is_called_off(house: House, trace: Trace) -> None:
    first_ask(house, hang)
    enter(trace)
    asking = asyncio.create_task(house.ask())
    await fall_silent(house)
    await asking
    spans = spans_of(trace, ending())
    assert ways(spans) == [("first", "cancelled"), ("hedge", "")]
    first, hedge = named(spans, "ask")
    assert first.attributes["tombola.worker_fell_silent"] is True
    assert first.end_ns >= hedge.begin_ns


async def test_a_cascades_second_ask_is_named_so(house: House, trace: Trace) -> None:
    table = tiny_table(ACCURATE, FAST, deadline_ms=10_000.0, policy="cascade", threshold=1.1)
    house.use(table)
    enter(trace)
    await house.ask(tier="accurate")
    spans = spans_of(trace, ending(table))
    assert ways(spans) == [("first", ""), ("cascade", "")]
    assert [span.attributes["tombola.ticket"] for span in named(spans, "ask")] == [FAST, ACCURATE]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["canary!"], ["canary"]),
        (["canary", "current!"], ["canary", "stand_by"]),
        (["canary!", "current!"], ["canary", "compare"]),
        (["current!", "canary!"], ["first", "shadow"]),
    ],
)
async def test_a_trials_asks_say_what_they_are_for(trace: Trace, order: list[str], expected: list[str]) -> None:
    """``!``: this one answers."""
    for name in order:
        attempt = trace.watch(a_route("w1", name.rstrip("!")), an_answer() if "!" in name else no_answer())
        await asyncio.gather(attempt, return_exceptions=True)
    assert [way for way, _ in ways(spans_of(trace, ending(canary="canary")))] == expected


async def test_an_ask_that_outlives_its_request_is_handed_over_when_it_ends(trace: Trace) -> None:
    go = asyncio.Event()
    late: list[Attempt] = []

    async def compare() -> wire.Answer:
        await go.wait()
        return await an_answer()

    asking = asyncio.create_task(trace.watch(a_route("w1", FAST), compare()))
    await asyncio.sleep(0)
    trace.left, trace.is_over = late.append, True
    assert not named(spans_of(trace, ending()), "ask")
    go.set()
    await asking
    assert late == trace.attempts


async def test_what_is_not_recorded_leaves_nothing(house: House) -> None:
    enter(None)
    await house.ask()
    assert current() is None


async def test_a_trace_does_not_reach_the_connections_next_request() -> None:
    """Uvicorn starts a request that was sent early from within the one before it."""
    enter(Trace(None))
    seen = []

    async def next_request() -> None:
        enter(None)
        seen.append(current())

    await asyncio.create_task(next_request())
    assert seen == [None]


def a_route(worker: str, ticket: str) -> Route:
    return Route(ticket=TicketId(ticket), worker=worker, tier="fast", deadline_ms=100.0, because="b", predicted_ms=1.0)


async def an_answer() -> wire.Answer:
    return wire.Answer(1, [], 0.0, 0.0, 1, 0.0)


async def no_answer() -> wire.Answer:
    raise ApiError("no")


def first_ask(house: House, behave: Behaviour) -> None:
    """The first ask, whichever worker gets it, is treated so; the others are answered."""
    behaviours = iter([behave])
    for worker in house.workers:
        worker.behave = lambda ask: next(behaviours, answer)(ask)


async def fall_silent(house: House) -> None:
    """Have the link that owes an answer find that nothing has been heard of its worker for too long."""
    links = [link for worker in house.workers if (link := house.fleet.link(worker.name)) is not None]
    await until(lambda: sum(link.owed for link in links) > 0)
    for link in links:
        if link.owed:
            link.check(time.monotonic() + (QUIET_S + SILENCE_S) / 2)
