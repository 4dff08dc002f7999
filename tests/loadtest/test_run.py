"""The sender and the preflight against a real server: what is sent, recorded, refused, and settled at Ctrl-C."""

import asyncio
import json
import socket
from collections import Counter

import msgspec
import pytest

from loadtest.connection import Reply
from loadtest.report import Sla, reduce_run
from loadtest.run import Plan, PreflightError, run_load
from loadtest.schedule import Step, arrivals
from loadtest.send import Outcome, Timings, read_reply
from loadtest.workload import Request, Target, Workload
from tests.loadtest.stub import TICKET, Answer, Seen, Stub, classify, response, until

TARGETS = [
    Target(tenant="acme", key="tk_good", domain="banking", tier="fast", weight=2),
    Target(tenant="acme", key="tk_good", domain="travel"),
]
STEP = Step(rate_per_s=200, duration_s=0.3, warmup_s=0.1)


def a_plan(url: str, *steps: Step, timeout_s: float = 30.0, preflight_s: float = 0.0) -> Plan:
    return Plan(url=url, steps=list(steps) or [STEP], timeout_s=timeout_s, preflight_s=preflight_s)


async def test_every_due_request_is_sent_and_recorded_once() -> None:
    """As many records as the schedule has times, at those times; none before it was due."""
    async with Stub() as stub:
        run, records = await run_load(a_plan(stub.url), Workload(TARGETS))
    due = list(arrivals(STEP, "poisson", "0/0"))
    assert sorted(record.intended_s for record in records) == due
    assert len(stub.seen) == len(due) + len(TARGETS), "and one preflight per target"
    for record in records:
        assert record.sent_s is not None
        assert record.intended_s <= record.fired_s <= record.sent_s <= record.done_s
        assert record.warmup == (record.intended_s < 0.1)
        assert (record.status, record.code, record.ticket) == (200, "", TICKET)
        assert (record.queue_ms, record.run_ms, record.total_ms) == (0.5, 1.5, 2.5)
    assert {(r.domain, r.tier) for r in records} == {("banking", "fast"), ("travel", "(default)")}
    assert not run.interrupted


async def test_the_same_seed_sends_the_same_requests() -> None:
    bodies = []
    for seed in (3, 3, 4):
        async with Stub() as stub:
            plan = msgspec.structs.replace(a_plan(stub.url), seed=seed)
            await run_load(plan, Workload(TARGETS))
            bodies.append(sorted(seen.body for seen in stub.seen))
    assert bodies[0] == bodies[1] != bodies[2]


async def test_the_load_is_open_loop() -> None:
    """A server that answers nothing receives every request of the schedule all the same."""
    opened = asyncio.Event()
    arrived: list[Seen] = []

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        arrived.append(seen)
        if len(arrived) > len(TARGETS):
            await opened.wait()
        await classify(seen, writer)

    async with Stub(answer) as stub:
        load = asyncio.ensure_future(run_load(a_plan(stub.url), Workload(TARGETS)))
        expected = len(TARGETS) + len(list(arrivals(STEP, "poisson", "0/0")))
        await until(lambda: len(arrived) == expected)
        assert not load.done()
        opened.set()
        _, records = await load
    assert all(not record.code for record in records)


async def test_a_sweep_drains_between_its_steps() -> None:
    """No request of the second rate is sent before the first rate's last answer is there."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        await classify(seen, writer)

    steps = [Step(rate_per_s=rate, duration_s=0.2) for rate in (100, 50)]
    async with Stub(answer) as stub:
        run, records = await run_load(a_plan(stub.url, *steps), Workload(TARGETS[:1]))
    report = reduce_run(run, records, Sla())
    assert [step.total.requests for step in report.steps] == [
        len(list(arrivals(step, "poisson", f"0/{index}"))) for index, step in enumerate(steps)
    ]
    assert [record.step for record in records] == sorted(record.step for record in records)


async def test_stop_ends_the_load_and_settles_every_request() -> None:
    """After Ctrl-C the records so far come back; what nobody answered is marked, not lost."""
    stop = asyncio.Event()
    arrived: list[Seen] = []

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        arrived.append(seen)
        if len(arrived) <= 10:
            await classify(seen, writer)
        else:
            stop.set()

    plan = a_plan("", Step(rate_per_s=200, duration_s=3600), Step(rate_per_s=1, duration_s=3600))
    async with Stub(answer) as stub:
        run, records = await run_load(msgspec.structs.replace(plan, url=stub.url), Workload(TARGETS[:1]), stop=stop)
    codes = [record.code for record in records]
    assert run.interrupted
    assert codes.count("") == 9, "ten answers, one of them to the preflight"
    assert set(codes) == {"", "interrupted"}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (Target(tenant="a", key="tk_bad", domain="banking"), "does not know this key"),
        (Target(tenant="a", key="tk_good", domain="cooking"), "domain cooking.*no domain of that name"),
    ],
)
async def test_the_preflight_explains_a_refusal(target: Target, says: str) -> None:
    async with Stub() as stub:
        with pytest.raises(PreflightError, match=says):
            await run_load(a_plan(stub.url), Workload([TARGETS[0], target]))
        assert len(stub.seen) == 2, "nothing was sent after the refusal"


async def _close(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _hello(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(response(200, {"hello": "world"}))


async def _overloaded(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(response(503, {"error": "queues are full", "code": "overloaded"}))


@pytest.mark.parametrize(
    ("answer", "says"), [(_close, "connection_closed"), (_hello, "not as POST /v1/classify"), (_overloaded, "queues")]
)
async def test_the_preflight_refuses_what_is_not_a_working_gateway(answer: Answer, says: str) -> None:
    async with Stub(answer) as stub:
        with pytest.raises(PreflightError, match=says):
            await run_load(a_plan(stub.url), Workload(TARGETS))


async def test_the_preflight_says_that_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(PreflightError, match=r"no connection .*tombola up"):
            await run_load(a_plan(url), Workload(TARGETS))


async def test_the_preflight_waits_for_a_ticket_that_still_loads() -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(stub.seen) <= 2:
            await _overloaded(seen, writer)
        else:
            await classify(seen, writer)

    async with Stub(answer) as stub:
        _, records = await run_load(a_plan(stub.url, preflight_s=60), Workload(TARGETS[:1]))
    assert records


async def test_the_preflight_waits_until_an_earlier_load_is_worked_off() -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(stub.seen) > 2:  # the first two are never answered
            await classify(seen, writer)

    async with Stub(answer) as stub:
        plan = a_plan(stub.url, preflight_s=60, timeout_s=0.2)
        _, records = await run_load(plan, Workload(TARGETS[:1]))
    assert records


def a_reply(status: int, body: bytes = b"", failure: str = "") -> Reply:
    return Reply(status, body, failure, 0.0, 0.0)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (a_reply(200, b'{"results": [1]}'), ""),
        (a_reply(200, b'{"results": [], "ticket": 3}'), "bad_body"),
        (a_reply(200, b'{"results": 3}'), "bad_body"),
        (a_reply(200, b"{}"), "bad_body"),
        (a_reply(200, b"\xff"), "bad_body"),
        (a_reply(503, b'{"error": "full", "code": "overloaded"}'), "overloaded"),
        (a_reply(502, b"<html>bad gateway</html>"), "http_502"),
        (a_reply(500, b'{"code": 3}'), "http_500"),
        (a_reply(204), "http_204"),
        (a_reply(0, b"", "timeout"), "timeout"),
    ],
)
def test_replies_become_codes(reply: Reply, code: str) -> None:
    """Only a 200 that reads as an answer is good."""
    assert read_reply(reply)[0] == code


async def test_errors_under_load_are_counted_by_code() -> None:
    """Refusals and cut connections are recorded as what they are, and spoil no other request."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await {"ok": classify, "full": _overloaded, "cut": _close}[json.loads(seen.body)["text"]](seen, writer)

    async with Stub(answer) as stub:
        _, records = await run_load(a_plan(stub.url), Workload(TARGETS[:1], ["ok", "full", "cut"]))
        sent = Counter(json.loads(seen.body)["text"] for seen in stub.seen[1:])
    assert Counter(record.code for record in records) == Counter(
        {"": sent["ok"], "overloaded": sent["full"], "connection_closed": sent["cut"]}
    )
    assert min(sent.values()) > 0


async def test_another_reader_decides_what_a_good_answer_is() -> None:
    """A reader sees the request too, and so can tell a wrong answer from a right one."""

    def read(request: Request, reply: Reply) -> Outcome:
        return ("" if b"banking" in request.payload else "wrong_answer"), "mine", Timings()

    async with Stub() as stub:
        with pytest.raises(PreflightError, match="wrong_answer"):
            await run_load(a_plan(stub.url), Workload(TARGETS), read=read)
        banking = [target for target in TARGETS if target.domain == "banking"]
        _, records = await run_load(a_plan(stub.url), Workload(banking), read=read)
    assert {(record.code, record.ticket) for record in records} == {("", "mine")}
