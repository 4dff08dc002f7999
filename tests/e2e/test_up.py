"""`tombola up` from a user's chair: it starts, answers what it printed, refuses clearly, and stops cleanly."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.installation import ROOT, WAIT_S, Start, command, make_starter, patient, until

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.timeout(180)]


def run_up(state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to end by itself."""
    return subprocess.run(command(state, *options), cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)


def test_the_printed_curl_line_works_as_printed(start: Start) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    up = start().wait_until_up()
    done = subprocess.run(up.curl, shell=True, capture_output=True, text=True, timeout=WAIT_S)
    answer = json.loads(done.stdout)
    assert answer["results"][0]["label"] == "weather", answer
    assert answer["results"][0]["in_scope"] is True
    assert len(answer["ticket"]) == 64


def test_what_is_printed_is_there(start: Start) -> None:
    up = start("--workers", "2").wait_until_up()
    assert httpx.get(f"{up.api}/docs", timeout=WAIT_S).status_code == 200
    assert httpx.get(f"{up.api}/v2/health/ready", timeout=WAIT_S).status_code == 200
    assert httpx.get(f"{up.ops}/v2/health/live", timeout=WAIT_S).status_code == 200
    assert stat.S_IMODE((up.state / "demo.key").stat().st_mode) == 0o600
    assert f"kill {up.process.pid}" in up.output


async def test_metrics_of_all_processes_are_in_one_place(start: Start) -> None:
    """Several gateways share one port, and any of them shows everybody's metrics on the operations port."""
    up = start("--gateways", "2", "--workers", "2").wait_until_up()
    await up.publish(patient)
    async with up.load(concurrency=8) as load:
        await load.more(50, lambda reply: reply.status == 200)
    names = ("gateway-0", "gateway-1", "worker-0", "worker-1")
    await up.shows(*(f'process="{name}"' for name in names))


def test_a_second_start_serves_what_is_there_with_the_same_key(start: Start, folder: Path) -> None:
    first = start().wait_until_up()
    key, tickets = first.key, sorted((first.state / "registry").iterdir())
    assert first.stop() == 0
    second = start().wait_until_up()
    assert second.key == key
    assert sorted((second.state / "registry").iterdir()) == tickets
    assert "table version 1" in second.output
    reply = httpx.post(
        f"{second.api}/v1/classify", json={"domain": "home", "text": "lamp"}, headers=second.headers, timeout=WAIT_S
    )
    assert reply.json()["results"][0]["label"] == "lights"


def test_empty_begins_with_no_tenant(start: Start) -> None:
    up = start("--empty").wait_until_up()
    assert "tombola route publish" in up.output
    assert not (up.state / "demo.key").exists()
    assert list((up.state / "registry").iterdir()) == []


def test_a_second_up_on_the_same_state_is_refused(start: Start) -> None:
    up = start().wait_until_up()
    done = run_up(up.state)
    assert done.returncode == 2
    assert f"another `tombola up` (pid {up.process.pid})" in done.stderr
    assert "Traceback" not in done.stderr
    assert httpx.get(f"{up.api}/v2/health/ready", timeout=WAIT_S).status_code == 200


@pytest.mark.parametrize("option", ["--port", "--ops-port"])
def test_a_port_in_use_is_one_clear_error_and_leaves_nothing_behind(folder: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_up(folder / "state", option, str(port))
    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
    assert f"(pid {os.getpid()})" in done.stderr
    assert f"choose another {option}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert _processes_that_name(folder) == []


def test_a_state_directory_that_cannot_be_made_is_one_clear_error(folder: Path) -> None:
    (folder / "file").touch()
    done = run_up(folder / "file" / "state")
    assert done.returncode == 2
    assert "cannot use the state directory" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_redis_that_does_not_answer_is_a_clear_error(folder: Path) -> None:
    starter = make_starter(folder / "starter")
    done = run_up(folder / "state", "--starter", str(starter), "--redis-url", f"unix://{folder}/nobody.sock")
    assert done.returncode == 2
    assert "Redis does not answer" in done.stderr
    assert _processes_that_name(folder) == []


def test_a_damaged_starter_ticket_is_a_clear_error(folder: Path) -> None:
    starter = make_starter(folder / "starter")
    data = bytearray((starter / "a.ticket").read_bytes())
    data[-1] ^= 1
    (starter / "a.ticket").write_bytes(data)
    done = run_up(folder / "state", "--starter", str(starter))
    assert done.returncode == 2
    assert "a.ticket is not a usable ticket (bad_digest)" in done.stderr
    assert _processes_that_name(folder) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_answers_what_is_in_flight_and_leaves_nobody(start: Start, number: int) -> None:
    up = start("--workers", "2").wait_until_up()
    await up.publish(patient)
    async with up.load(concurrency=8) as load:
        await load.more(50, lambda reply: reply.status == 200)
        children = up.children()
        answered = len(load.replies)
        up.process.send_signal(number)
        await until(lambda: up.process.poll() is not None)
        # Who comes after the end finds nobody; until then every request had its reply.
        await until(lambda: any(reply.status is None for reply in load.replies[answered:]))
    assert up.process.returncode == 0
    assert len(children) == 4
    _, alive = psutil.wait_procs(children, timeout=WAIT_S)
    assert alive == []
    cut = [reply for reply in load.replies if reply.status is None and "Connect" not in reply.body["exception"]]
    assert len(cut) <= 8, cut  # at most one kept-alive connection each that closed as it was used
    assert all(reply.is_settled for reply in load.replies if reply.status is not None)


async def test_a_stop_waits_for_the_answers_that_are_owed(start: Start) -> None:
    """Requests that a (frozen) worker holds when the stop comes are answered before anybody ends."""
    up = start("--workers", "1").wait_until_up()
    await up.uses(await up.publish(patient))
    worker, gateway = (psutil.Process(up.pid(part)) for part in ("worker-0", "gateway-0"))
    port = int(up.api.rpartition(":")[2])
    worker.suspend()
    async with up.client() as client, asyncio.TaskGroup() as group:
        asks = [group.create_task(up.ask(client)) for _ in range(8)]
        await until(lambda: sum(c.laddr.port == port and c.status == "ESTABLISHED" for c in connections(gateway)) >= 8)
        await asyncio.sleep(0.2)  # accepted; now they are read and sent on
        up.process.send_signal(signal.SIGTERM)
        await until(lambda: '"event":"draining"' in up.log.read_text())
        worker.resume()
    await until(lambda: up.process.poll() is not None)
    assert [ask.result().status for ask in asks] == [200] * 8, [ask.result() for ask in asks]
    assert up.process.returncode == 0


async def test_asking_twice_stops_without_waiting(start: Start) -> None:
    """The second signal kills: a frozen worker cannot hold up the end."""
    up = start("--workers", "1", "--drain-s", "600").wait_until_up()
    worker = psutil.Process(up.pid("worker-0"))
    worker.suspend()
    up.process.send_signal(signal.SIGINT)
    await until(lambda: up.pid("gateway-0") is None)  # it has ended; the worker would keep us waiting
    assert up.process.poll() is None
    up.process.send_signal(signal.SIGINT)
    await until(lambda: up.process.poll() is not None)
    assert up.process.returncode == 0
    assert not worker.is_running()


def test_a_part_that_cannot_start_ends_the_start_with_its_name(start: Start, folder: Path) -> None:
    up = start(environ={"TOMBOLA_QUEUE_TEXTS": "many"})
    assert up.process.wait(WAIT_S) == 2
    assert "worker-0 does not come up (status " in up.log.read_text()
    assert _processes_that_name(folder) == []


def test_a_stop_during_the_start_leaves_nobody(start: Start, folder: Path) -> None:
    up = start()
    asyncio.run(until(lambda: len(up.children()) >= 2))
    assert up.stop(signal.SIGINT) == 0
    assert _processes_that_name(folder) == []


def test_a_killed_up_leaves_nobody(start: Start) -> None:
    """Kill -9 of `up` itself: nobody is there to clean up, and still nothing stays."""
    up = start().wait_until_up()
    children = up.children()
    up.process.kill()
    up.process.wait(WAIT_S)
    _, alive = psutil.wait_procs(children, timeout=WAIT_S)
    assert alive == []
    again = start().wait_until_up()
    assert httpx.get(f"{again.api}/v2/health/ready", timeout=WAIT_S).status_code == 200


def connections(process: psutil.Process) -> list[Any]:
    """The sockets of a process (psutil has renamed the method)."""
    return list(getattr(process, "net_connections", process.connections)(kind="tcp"))


def _processes_that_name(folder: Path) -> list[list[str]]:
    """Command lines of living processes that mention the test's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in word for word in words):
            found.append(words)
    return found
