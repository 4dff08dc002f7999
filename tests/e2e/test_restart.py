"""`tombola restart` under load: every process is replaced, and nobody's request fails."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Sequence

import psutil
import pytest

from tests.e2e.installation import ROOT, WAIT_S, Installation, Start, patient, until

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.timeout(240)]


async def restart(up: Installation) -> subprocess.CompletedProcess[str]:
    """Run the command, as an operator would."""
    command = [sys.executable, "-m", "server", "restart", "--state", str(up.state)]
    return await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=3 * WAIT_S, check=False
    )


@pytest.mark.parametrize(("gateways", "workers"), [(1, 1), (2, 2)])
async def test_every_process_is_replaced_and_no_request_fails(start: Start, gateways: int, workers: int) -> None:
    """Clients keep their connections, never pause, and never repeat a request."""
    up = start("--gateways", str(gateways), "--workers", str(workers)).wait_until_up()
    await up.uses(await up.publish(patient))
    places = [f"worker-{i}" for i in range(workers)] + [f"gateway-{i}" for i in range(gateways)]
    before = {place: up.pid(place) for place in places}
    async with up.load(concurrency=8) as load:
        await load.more(50)
        done = await restart(up)
        await load.more(50)
    assert done.returncode == 0, done.stderr
    said = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert said == [f"{place}.1 has replaced {place}" for place in places]
    assert load.failed == []
    for place in places:
        assert not psutil.pid_exists(before[place] or -1)
        assert up.pid(f"{place}.1") is not None
    assert '"event":"process_died"' not in up.log.read_text()


async def test_the_new_processes_are_kept_alive_and_can_be_replaced_again(start: Start) -> None:
    up = start("--gateways", "1", "--workers", "1").wait_until_up()
    await up.uses(await up.publish(patient))
    assert (await restart(up)).returncode == 0
    for part in ("worker-0.1", "gateway-0.1"):
        await up.is_replaced(part, await up.kill(part))
    done = await restart(up)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout) == ["worker-0.2 has replaced worker-0.1", "gateway-0.2 has replaced gateway-0.1"]
    async with up.load(concurrency=2) as load:
        await load.more(10)
    assert load.failed == []
    assert left_behind(up) == ["worker-0.2"]


async def test_a_stop_during_a_restart_ends_everything(start: Start) -> None:
    up = start("--workers", "1").wait_until_up()
    restarting = asyncio.create_task(restart(up))
    await until(lambda: up.pid("worker-0.1"))
    children = up.children()
    assert up.stop() == 0
    assert (await restarting).returncode == 1
    _, alive = psutil.wait_procs(children, timeout=WAIT_S)
    assert alive == []


def lines(text: str) -> Sequence[str]:
    return [line.partition(":")[0] for line in text.splitlines()]


def left_behind(up: Installation) -> list[str]:
    """The workers whose markers are there: what a replaced process has written goes with it."""
    found = (re.fullmatch(r"(worker-.*)\.(marker|crash|sock)", path.name) for path in (up.state / "run").iterdir())
    return sorted({match[1] for match in found if match})
