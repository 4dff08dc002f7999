"""The supervisor: keeps a set of processes alive, and ends them in order.

Owns the restart policy (pure: `failures_after`, `backoff_s`) and the children it started:
spawning, noticing deaths, restarting after a back-off, SIGTERM with a grace, then SIGKILL.
What the parts are, and in which order they stop, is `server.up`'s business; whether a living
one still works is found out by `server.watch`. Children live in sessions of their own, so a
Ctrl-C in the terminal reaches only the supervisor, and on Linux the kernel kills them when
the supervisor dies.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
STABLE_S = 10.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Part:
    """One process to keep alive. ``kind`` groups parts that stop together."""

    name: str
    kind: str
    argv: tuple[str, ...]
    pass_fds: tuple[int, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    """Variables added to the supervisor's own environment."""


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a process that nobody had asked to end."""

    part: str
    pid: int | None
    """None: it could not even be started."""
    how: str
    lived_s: float
    failures: int
    """Deaths in a row without a stable life between them, this one included."""
    restart_in_s: float
    returncode: int | None = None
    killed_for: str = ""
    """Why the supervisor itself has killed it; empty: it has not."""


def failures_after(failures: int, lived_s: float, *, has_worked: bool = False) -> int:
    """Deaths in a row, given how many there had been, how long the process lived this time, and whether it
    came as far as doing its work: one that did is wanted back at once, however soon it was killed."""
    return 1 if lived_s >= STABLE_S or has_worked else failures + 1


def backoff_s(failures: int) -> float:
    """Seconds to wait before the restart that follows the given number of deaths in a row (>= 1)."""
    return float(min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures - 1, 32)))


def describe_exit(returncode: int) -> str:
    """How a process ended, for people: ``status 3`` or ``signal 9 (SIGKILL)``."""
    if returncode >= 0:
        return f"status {returncode}"
    with contextlib.suppress(ValueError):
        return f"signal {-returncode} ({signal.Signals(-returncode).name})"
    return f"signal {-returncode}"


class _Keeper:
    """One part: its current process, the task that keeps it alive, and the wish to end."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = asyncio.Event()
        self.stopping = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.spawned_at = 0.0
        self.has_worked = False
        self.killed_for = ""

    def reap(self) -> None:
        """Notice the end of the process, if it has ended."""
        if self.process is not None and self.process.poll() is not None:
            self.ended.set()

    def signal(self, number: int) -> None:
        """Send a signal to the process, if there is one that has not been reaped."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


class Supervisor:
    """Children by name. Use it as an async context manager in the main thread; leaving it kills
    whatever has not been stopped. ``on_death`` hears of every unexpected end."""

    def __init__(self, on_death: Callable[[Death], None]) -> None:
        self._on_death = on_death
        self._keepers: dict[str, _Keeper] = {}
        self._before_exec = _die_with_parent(os.getpid())

    async def __aenter__(self) -> "Supervisor":
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap_all)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill_all()
        await asyncio.gather(*(self._finish(keeper) for keeper in self._keepers.values()))
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    def start(self, part: Part) -> None:
        """Start a part and keep it alive until `stop`."""
        keeper = _Keeper(part)
        self._keepers[part.name] = keeper
        self._spawn(keeper)
        keeper.task = asyncio.create_task(self._keep(keeper), name=f"keep {part.name}")

    def pids(self) -> dict[str, int]:
        """The processes that run now, by part."""
        return {
            name: keeper.process.pid
            for name, keeper in self._keepers.items()
            if keeper.process is not None and keeper.process.poll() is None
        }

    def works(self, name: str) -> None:
        """Somebody has seen the process of a part do its work."""
        if name in self._keepers:
            self._keepers[name].has_worked = True

    def kill(self, name: str, reason: str) -> None:
        """SIGKILL the process of a part; it is restarted, and its death names the reason."""
        keeper = self._keepers.get(name)
        if keeper is not None and not keeper.stopping.is_set():
            keeper.killed_for = reason
            keeper.signal(signal.SIGKILL)

    def is_kept(self, name: str) -> bool:
        """Whether a part of this name is kept alive; no longer once it has been asked to end."""
        return name in self._keepers and not self._keepers[name].stopping.is_set()

    async def stop(self, kind: str, grace_s: float) -> None:
        """End all parts of a kind: SIGTERM, and SIGKILL to what is left after ``grace_s``."""
        await self._end([keeper for keeper in self._keepers.values() if keeper.part.kind == kind], grace_s)

    async def retire(self, name: str, grace_s: float) -> None:
        """End one part for good, as `stop` does, and forget it."""
        keeper = self._keepers[name]
        await self._end([keeper], grace_s)
        del self._keepers[name]

    async def _end(self, keepers: Sequence[_Keeper], grace_s: float) -> None:
        for keeper in keepers:
            keeper.stopping.set()
            keeper.signal(signal.SIGTERM)
        tasks = [keeper.task for keeper in keepers if keeper.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for keeper in keepers:
            keeper.signal(signal.SIGKILL)
        await asyncio.gather(*(self._finish(keeper) for keeper in keepers))

    def kill_all(self) -> None:
        """SIGKILL every child now; none is restarted."""
        for keeper in self._keepers.values():
            keeper.stopping.set()
            keeper.signal(signal.SIGKILL)

    def _reap_all(self) -> None:
        # One SIGCHLD may stand for several deaths, so every child is asked.
        for keeper in self._keepers.values():
            keeper.reap()

    async def _finish(self, keeper: _Keeper) -> None:
        if keeper.task is not None:
            await keeper.task

    async def _keep(self, keeper: _Keeper) -> None:
        failures = 0
        while True:
            await keeper.ended.wait()
            if keeper.stopping.is_set():
                return
            lived_s = time.monotonic() - keeper.spawned_at
            failures = failures_after(failures, lived_s, has_worked=keeper.has_worked)
            self._on_death(_death(keeper, lived_s, failures))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(keeper.stopping.wait(), backoff_s(failures))
                return
            self._spawn(keeper)

    def _spawn(self, keeper: _Keeper) -> None:
        """Start the process; where the system refuses, the keeper treats it as a death."""
        keeper.ended.clear()
        keeper.spawned_at, keeper.has_worked, keeper.killed_for = time.monotonic(), False, ""
        part = keeper.part
        # preexec_fn is safe here: the supervisor forks from its main thread and runs no other code in threads.
        try:
            keeper.process = subprocess.Popen(
                part.argv,
                stdin=subprocess.DEVNULL,
                pass_fds=part.pass_fds,
                env={**os.environ, **part.environ},
                start_new_session=True,
                preexec_fn=self._before_exec,
            )
        except OSError:
            keeper.process = None
            keeper.ended.set()
        keeper.reap()  # its SIGCHLD may have come before the keeper knew the process


def _death(keeper: _Keeper, lived_s: float, failures: int) -> Death:
    process = keeper.process
    if process is None:
        return Death(keeper.part.name, None, "could not be started", lived_s, failures, backoff_s(failures))
    return Death(
        keeper.part.name, process.pid, describe_exit(process.returncode), lived_s, failures, backoff_s(failures),
        process.returncode, keeper.killed_for,
    )  # fmt: skip


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """What a child does before exec so that it never outlives a killed supervisor.

    Linux only (None elsewhere: there, an orphan must be ended by hand). The library is loaded
    here, before the fork; the child makes two system calls.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return before_exec
