"""Processes that live and do not work are found by the probe and replaced; tickets that do harm end in quarantine."""

import asyncio
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e.bad_tickets import TRIGGER, bad_starter, crashing_bundle, stuck_bundle
from tests.e2e.installation import ROOT, WAIT_S, Installation, Reply, Start, patient, until, with_tiers

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.timeout(180)]
PATIENCE = ("--probe-patience-s", "2")
CRASHES = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the crash is made of an instruction that only x86 traps"
)


def tombola(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command line of ours, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S
    )


async def test_a_stopped_worker_is_found_and_replaced_and_nobody_waits_for_it(start: Start) -> None:
    up = start("--workers", "2", *PATIENCE).wait_until_up()
    await up.uses(await up.publish(patient))
    async with up.load(concurrency=8) as load:
        await load.more(50)
        old = up.pid("worker-0")
        psutil.Process(old).suspend()
        assert old is not None
        await up.is_replaced("worker-0", old)
        await up.shows('tombola_workers{process="gateway-0"} 2.0')
        await load.more(50)
    assert load.failed == []
    log = up.log.read_text()
    assert '"killed_for":"no answer to the probe, and a signal has stopped it"' in log
    assert "ticket_crashed_worker" not in log, "what it ran when it was stopped is innocent"


async def test_a_stopped_gateway_is_found_and_replaced(start: Start) -> None:
    up = start("--gateways", "2", "--workers", "1", *PATIENCE).wait_until_up()
    await until(lambda: re.search('"part":"gateway-0".*"event":"process_works"', up.log.read_text()))
    old = up.pid("gateway-0")
    psutil.Process(old).suspend()
    assert old is not None
    await up.is_replaced("gateway-0", old)
    async with up.load(concurrency=4) as load:
        await load.more(50, lambda reply: reply.status == 200)


async def test_a_worker_whose_runtime_is_stuck_is_found_though_its_loop_lives(start: Start, folder: Path) -> None:
    """The graph of a ticket does not end: heartbeats go on, pings would be answered. In the end the ticket is
    quarantined, and its family answers with another one."""
    up = start("--workers", "1", *PATIENCE, "--starter", str(bad_starter(folder / "bad", stuck_bundle())))
    up.wait_until_up()
    await up.uses(await up.publish(lambda table: with_tiers(table, deadline_ms=1_000.0, quality_floor=0.0)))
    async with up.client() as client:
        for crash in range(2):
            await works_again(up)
            old = up.pid("worker-0")
            assert old is not None
            reply = await up.ask(client, TRIGGER)
            assert reply.status in (503, 504), reply
            assert reply.is_settled
            await up.is_replaced("worker-0", old)
            assert blamed(up) == crash + 1
        assert '"killed_for":"no answer to the probe"' in up.log.read_text()
        reply = await answered(up, lambda: up.ask(client, TRIGGER))
    assert reply.body["ticket"] == good_ticket(up)


@CRASHES
async def test_a_ticket_that_crashes_its_workers_is_quarantined_and_says_so(start: Start, folder: Path) -> None:
    up = start("--workers", "2", "--starter", str(bad_starter(folder / "bad", crashing_bundle()))).wait_until_up()
    await up.uses(await up.publish(lambda table: with_tiers(patient(table), quality_floor=0.0)))
    await until(lambda: {"tiny-fast", "bad-accurate"} <= tickets(up).keys())  # the log has told their ids
    async with up.client() as client:
        assert (await answered(up, lambda: up.ask(client))).body["ticket"] != good_ticket(up)
        reply = await up.ask(client, TRIGGER)  # it kills one worker, and the other at the second try
        assert reply.is_settled
        await until(lambda: blamed(up) >= 1)
        if blamed(up) < 2:  # the second worker held out: it was asked for something else meanwhile
            await works_again(up)
            await up.ask(client, TRIGGER)
        await until(lambda: '"event":"ticket_quarantined"' in up.log.read_text())
        await until(lambda: up.pid("worker-0") is not None and up.pid("worker-1") is not None)
        reply = await answered(up, lambda: up.ask(client, TRIGGER))
        assert reply.body["ticket"] == good_ticket(up)
        assert "quarantine" in reply.body["because"] or "could not be loaded" in reply.body["because"]
        bad = bad_ticket(up)
        pinned = await client.post("/v2/models/home/versions/" + bad[:12] + "/infer", json=oip("rain sun"))
        assert pinned.status_code == 503, pinned.text
        assert "in quarantine: its workers have crashed" in pinned.json()["error"]
        assert "SIGFPE" in pinned.json()["error"]
    await up.shows("tombola_tickets_quarantined{", '"} 1.0')
    listed = await asyncio.to_thread(tombola, "quarantine", "--state", str(up.state))
    assert re.fullmatch(rf"{bad}  in quarantine  crashes: \d, the last .*SIGFPE.*\n", listed.stdout), listed.stdout
    cleared = await asyncio.to_thread(tombola, "quarantine", "--state", str(up.state), "--clear", bad[:12])
    assert cleared.returncode == 0, cleared.stderr
    await until_answered_by(up, bad)


async def test_the_probe_command_tells_a_working_worker_from_a_stopped_one(start: Start) -> None:
    up = start("--workers", "1", "--probe-patience-s", "0").wait_until_up()
    await until(lambda: tickets(up))  # without one in memory there is nothing to run
    run_dir = ("--run-dir", str(up.state / "run"))
    works = await asyncio.to_thread(tombola, "probe", "worker-0", *run_dir, "--timeout-s", "30")
    assert works.returncode == 0, works.stderr
    assert works.stdout.startswith("worker-0 ran ticket ")
    gateway = await asyncio.to_thread(tombola, "probe", "gateway-0", *run_dir, "--timeout-s", "30")
    assert gateway.stdout.startswith("gateway-0 answered")
    process = psutil.Process(up.pid("worker-0"))
    process.suspend()
    try:
        stopped = await asyncio.to_thread(tombola, "probe", "worker-0", *run_dir, "--timeout-s", "0.5")
    finally:
        process.resume()
    assert stopped.returncode == 1
    assert stopped.stderr == "worker-0 does not work: no answer within 0.5 s\n"


def oip(text: str) -> dict[str, object]:
    """The body of an Open Inference Protocol request."""
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}


def blamed(up: Installation) -> int:
    """How many deaths have been held against a ticket so far."""
    log = up.log.read_text()
    return log.count('"event":"ticket_crashed_worker"') + log.count('"event":"ticket_quarantined"')


def tickets(up: Installation) -> dict[str, str]:
    """Ids by the name that the log gives them."""
    found = re.findall(r'"ticket":"([0-9a-f]{64})","name":"([a-z-]+)"', up.log.read_text())
    return {name: ticket for ticket, name in found}


def good_ticket(up: Installation) -> str:
    return tickets(up)["tiny-fast"]


def bad_ticket(up: Installation) -> str:
    return tickets(up)["bad-accurate"]


async def works_again(up: Installation) -> None:
    """Wait until a harmless text is answered."""
    async with up.client() as client:
        await answered(up, lambda: up.ask(client))


async def answered(up: Installation, ask: Callable[[], object]) -> Reply:
    """The first reply of 200; who comes while workers start is refused with a code."""
    async with asyncio.timeout(WAIT_S):
        while True:
            reply = await ask()  # type: ignore[misc]
            assert isinstance(reply, Reply)
            assert reply.is_settled, reply
            if reply.status == 200:
                return reply
            await asyncio.sleep(0.1)


async def until_answered_by(up: Installation, ticket: str) -> None:
    """Wait until a harmless text is answered by this ticket."""
    async with asyncio.timeout(WAIT_S), up.client() as asking:
        while (await answered(up, lambda: up.ask(asking))).body["ticket"] != ticket:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
