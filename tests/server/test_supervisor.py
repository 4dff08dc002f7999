"""server.supervisor: the restart policy as a table, the rest with real processes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from server.supervisor import Death, Part, Supervisor, backoff_s, describe_exit, failures_after

WAIT_S = 30.0
FOREVER = "import signal; signal.pause()"
STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); signal.pause()"


class Deaths:
    """Collects what the supervisor reports, and lets a test wait for it."""

    def __init__(self) -> None:
        self.seen: list[Death] = []
        self._more = asyncio.Event()

    def __call__(self, death: Death) -> None:
        self.seen.append(death)
        self._more.set()

    async def wait(self, count: int) -> list[Death]:
        async with asyncio.timeout(WAIT_S):
            while len(self.seen) < count:
                self._more.clear()
                await self._more.wait()
        return self.seen


def python(name: str, code: str, kind: str = "test", **environ: str) -> Part:
    return Part(name, kind, (sys.executable, "-S", "-c", code), environ=environ)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition()`` holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("failures", "expected_s"),
    [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.6), (6, 3.2), (7, 5.0), (8, 5.0), (10_000, 5.0)],
)
def test_backoff_doubles_up_to_five_seconds(failures: int, expected_s: float) -> None:
    assert backoff_s(failures) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("failures", "lived_s", "expected"),
    [
        (0, 0.0, 1),  # the first death
        (3, 0.5, 4),  # again, soon: one more in a row
        (3, 9.9, 4),
        (3, 10.0, 1),  # it had been stable: the row begins anew
        (0, 86_400.0, 1),
    ],
)
def test_failures_in_a_row_are_forgotten_after_a_stable_life(failures: int, lived_s: float, expected: int) -> None:
    assert failures_after(failures, lived_s) == expected


@pytest.mark.parametrize(
    ("returncode", "expected"),
    [(0, "status 0"), (3, "status 3"), (-9, "signal 9 (SIGKILL)"), (-11, "signal 11 (SIGSEGV)"), (-200, "signal 200")],
)
def test_the_end_of_a_process_is_told_in_words(returncode: int, expected: str) -> None:
    assert describe_exit(returncode) == expected


async def test_a_killed_process_is_reported_and_comes_back() -> None:
    deaths = Deaths()
    async with Supervisor(deaths) as supervisor:
        supervisor.start(python("a", FOREVER))
        first = supervisor.pids()["a"]
        os.kill(first, signal.SIGKILL)
        (death,) = await deaths.wait(1)
        assert (death.part, death.pid, death.how, death.failures) == ("a", first, "signal 9 (SIGKILL)", 1)
        await until(lambda: supervisor.pids().get("a", first) != first)


async def test_deaths_in_a_row_are_counted_and_wait_longer() -> None:
    deaths = Deaths()
    async with Supervisor(deaths) as supervisor:
        supervisor.start(python("a", "raise SystemExit(3)"))
        seen = await deaths.wait(3)
    assert [(d.how, d.failures, round(d.restart_in_s, 3)) for d in seen[:3]] == [
        ("status 3", 1, 0.1),
        ("status 3", 2, 0.2),
        ("status 3", 3, 0.4),
    ]


async def test_a_program_that_does_not_exist_is_a_death_with_no_pid(tmp_path: Path) -> None:
    deaths = Deaths()
    async with Supervisor(deaths) as supervisor:
        supervisor.start(Part("a", "test", (str(tmp_path / "missing"),)))
        (death,) = await deaths.wait(1)
    assert (death.pid, death.how) == (None, "could not be started")


async def test_one_death_leaves_the_others_alone() -> None:
    deaths = Deaths()
    async with Supervisor(deaths) as supervisor:
        for name in ("a", "b"):
            supervisor.start(python(name, FOREVER))
        before = supervisor.pids()
        os.kill(before["a"], signal.SIGKILL)
        await until(lambda: supervisor.pids().get("a", before["a"]) != before["a"])
        assert supervisor.pids()["b"] == before["b"]
        assert [death.part for death in deaths.seen] == ["a"]


async def test_stop_ends_one_kind_and_reports_no_death() -> None:
    deaths = Deaths()
    async with Supervisor(deaths) as supervisor:
        supervisor.start(python("a", FOREVER, kind="gateway"))
        supervisor.start(python("b", FOREVER, kind="worker"))
        await supervisor.stop("gateway", WAIT_S)
        assert list(supervisor.pids()) == ["b"]
        await supervisor.stop("worker", WAIT_S)
        assert supervisor.pids() == {}
    assert deaths.seen == []


async def test_stop_lets_a_process_finish_what_it_does(tmp_path: Path) -> None:
    """SIGTERM first: a process that drains gets the time to do so."""
    done, on = tmp_path / "done", tmp_path / "on"
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "def drain(*_):\n    Path(os.environ['DONE']).touch()\n    raise SystemExit(0)\n"
        "signal.signal(signal.SIGTERM, drain)\n"
        "Path(os.environ['ON']).touch()\n"
        "while True:\n    signal.pause()\n"
    )
    async with Supervisor(Deaths()) as supervisor:
        supervisor.start(python("a", code, DONE=str(done), ON=str(on)))
        await until(on.exists)
        await supervisor.stop("test", WAIT_S)
    assert done.exists()


async def test_stop_kills_what_ignores_it() -> None:
    async with Supervisor(Deaths()) as supervisor:
        supervisor.start(python("a", STUBBORN.replace("print('on', flush=True)", "pass")))
        (pid,) = supervisor.pids().values()
        await until(lambda: _ignores_sigterm(pid))
        await supervisor.stop("test", grace_s=0.05)
        assert supervisor.pids() == {}
        assert not psutil.pid_exists(pid)


async def test_stop_during_a_back_off_does_not_wait_for_it() -> None:
    deaths = Deaths()
    async with Supervisor(deaths) as supervisor:
        supervisor.start(python("a", "raise SystemExit(1)"))
        await deaths.wait(2)
        async with asyncio.timeout(WAIT_S):
            await supervisor.stop("test", WAIT_S)
        count = len(deaths.seen)
        await asyncio.sleep(0.5)  # longer than the back-off that was pending
        assert len(deaths.seen) == count


async def test_leaving_the_supervisor_leaves_no_process() -> None:
    async with Supervisor(Deaths()) as supervisor:
        supervisor.start(python("a", STUBBORN))
        (pid,) = supervisor.pids().values()
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_children_die_when_the_supervisor_is_killed() -> None:
    """Kill -9 of the supervisor leaves nobody behind, not even who ignores SIGTERM."""
    code = (
        "import asyncio, sys\n"
        "from server.supervisor import Part, Supervisor\n"
        "async def main():\n"
        "    async with Supervisor(print) as supervisor:\n"
        f"        supervisor.start(Part('a', 'test', (sys.executable, '-S', '-c', {STUBBORN!r})))\n"
        "        print(supervisor.pids()['a'], flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        (pid,) = (int(word) for word in said - {"on"})
        child = psutil.Process(pid)
        parent.kill()
        parent.wait(WAIT_S)
        psutil.wait_procs([child], timeout=WAIT_S)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def _ignores_sigterm(pid: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigIgn:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False
