"""server.watch and server.probe: silence as a table, and processes that hang, over real sockets."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from server import address, probe
from server.blame import STOPPED, STUCK
from server.ops import MetricsListener
from server.supervisor import Death, Part, Supervisor
from server.watch import FIRST_ANSWER_S, TICK_S, Silence, Watch

WAIT_S = 30.0
ROOT = Path(__file__).resolve().parents[2]
ANSWERING = """
import asyncio, os, sys, threading, time
from pathlib import Path
from prometheus_client import CollectorRegistry
from server import address
from server.ops import MetricsListener
async def main():
    name, run_dir = sys.argv[1], Path(sys.argv[2])
    where = address.of_process(run_dir, name)
    await address.serve(where, lambda: MetricsListener(name, CollectorRegistry(), lambda: ["worker-7"]))
    while not (run_dir / "hang").exists():
        await asyncio.sleep(0.01)
    (run_dir / "hang").unlink()
    time.sleep(600)  # the loop stands still, the process lives
asyncio.run(main())
"""


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="watch-") as name:  # short, for sockets
        yield Path(name)


class Deaths:
    """What the supervisor reports."""

    def __init__(self) -> None:
        self.seen: list[Death] = []

    def __call__(self, death: Death) -> None:
        self.seen.append(death)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def watched(run_dir: Path, patience_s: float) -> AsyncIterator[tuple[Supervisor, Watch, Deaths]]:
    """One process called ``a`` that answers probes, kept alive and watched."""
    deaths = Deaths()
    async with Supervisor(deaths) as supervisor:
        argv = (sys.executable, "-c", ANSWERING, "a", str(run_dir))
        supervisor.start(Part("a", "test", argv, environ={"PYTHONPATH": str(ROOT)}))
        watch = Watch(supervisor, run_dir, patience_s=patience_s)
        watch.begin("a")
        try:
            await until(lambda: watch.connection("a"))
            yield supervisor, watch, deaths
        finally:
            await watch.close()


@pytest.mark.parametrize(
    ("looks", "too_long"),
    [
        ([TICK_S] * 12, False),  # three seconds are not more than three seconds
        ([TICK_S] * 13, True),
        ([600.0], False),  # whoever looked was away (starved, suspended): that says nothing
        ([600.0] * 6, False),
        ([600.0] * 7, True),  # but somebody who is always late finds it out in the end
    ],
)
def test_silence_of_a_process_that_has_answered_before(looks: list[float], too_long: bool) -> None:
    silence = Silence(3.0)
    silence.heard()
    assert [silence.ticked(elapsed_s) for elapsed_s in looks][-1] is too_long


def test_an_answer_ends_the_silence() -> None:
    silence = Silence(1.0)
    silence.heard()
    for _ in range(100):
        assert not silence.ticked(0.5)
        silence.heard()


def test_a_process_that_starts_gets_longer() -> None:
    silence = Silence(3.0)
    ticks = int(FIRST_ANSWER_S / TICK_S)
    assert not any(silence.ticked(TICK_S) for _ in range(ticks))
    assert silence.ticked(TICK_S)


def test_a_process_that_ought_to_answer_gets_no_longer_than_others() -> None:
    silence = Silence(1.0)
    assert not any(silence.ticked(TICK_S) for _ in range(20))
    silence.started()
    assert [silence.ticked(TICK_S) for _ in range(5)] == [False] * 4 + [True]


async def test_a_process_whose_loop_stands_still_is_killed_and_replaced(run_dir: Path) -> None:
    async with watched(run_dir, patience_s=0.5) as (supervisor, watch, deaths):
        old = supervisor.pids()["a"]
        (run_dir / "hang").touch()
        await until(lambda: supervisor.pids().get("a", old) != old)
        (death,) = deaths.seen
        assert (death.pid, death.returncode, death.killed_for) == (old, -signal.SIGKILL, STUCK)
        await until(lambda: watch.connection("a"))


async def test_a_process_that_a_signal_has_stopped_is_replaced_and_the_reason_says_so(run_dir: Path) -> None:
    async with watched(run_dir, patience_s=0.5) as (supervisor, _, deaths):
        old = supervisor.pids()["a"]
        psutil.Process(old).suspend()
        await until(lambda: supervisor.pids().get("a", old) != old)
        assert deaths.seen[0].killed_for == STOPPED


async def test_a_process_that_has_done_its_work_is_wanted_back_at_once_however_often_it_is_killed(
    run_dir: Path,
) -> None:
    async with watched(run_dir, patience_s=60.0) as (supervisor, watch, deaths):
        for _ in range(3):
            await until(lambda: watch.connection("a"))
            old = supervisor.pids()["a"]
            os.kill(old, signal.SIGKILL)
            await until(lambda old=old: supervisor.pids().get("a", old) != old)  # type: ignore[misc]
        assert [death.failures for death in deaths.seen] == [1, 1, 1]


async def test_a_part_that_is_retired_is_watched_no_more(run_dir: Path) -> None:
    async with watched(run_dir, patience_s=0.5) as (supervisor, watch, deaths):
        await supervisor.retire("a", WAIT_S)
        await until(lambda: watch._tasks["a"].done())
        assert watch.connection("a") is None
        assert deaths.seen == []


async def test_what_a_gateway_says_of_its_workers_comes_with_its_answers(run_dir: Path) -> None:
    async with watched(run_dir, patience_s=60.0) as (_, watch, _):
        connection = watch.connection("a")
        assert connection is not None
        assert connection.last is not None
        assert connection.last.workers == ["worker-7"]


async def test_a_gateway_that_does_not_serve_yet_answers_when_it_does(run_dir: Path) -> None:
    serves: list[list[str] | None] = [None]
    where = address.of_process(run_dir, "g")
    server, _ = await address.serve(where, lambda: MetricsListener("g", CollectorRegistry(), lambda: serves[-1]))
    with pytest.raises(TimeoutError):
        await probe.probe(run_dir, "g", timeout_s=0.2)
    serves.append([])
    assert (await probe.probe(run_dir, "g", timeout_s=WAIT_S)).process == "g"
    server.close()


async def test_the_command_tells_who_works_by_its_exit_code(run_dir: Path) -> None:
    where = address.of_process(run_dir, "g")
    server, _ = await address.serve(where, lambda: MetricsListener("g", CollectorRegistry()))

    def run(name: str) -> tuple[int, str]:
        result = CliRunner().invoke(probe.command, [name, "--run-dir", str(run_dir), "--timeout-s", "20"])
        return result.exit_code, result.output

    code, said = await asyncio.to_thread(run, "g")
    assert (code, said.startswith("g answered")) == (0, True), said
    code, said = await asyncio.to_thread(run, "nobody")
    assert code == 1
    assert "nobody does not work" in said
    server.close()
