"""The watch of `tombola up`: probes every worker and gateway, and has those killed that do not answer.

Owns when to ask and how long silence may last. A process that has not started yet gets longer, one
that is asked late or was itself not looked at (because `up` was starved, or suspended with the
machine) is not blamed for that time. The killing and restarting are `server.supervisor`'s, the
conversation `server.probe`'s.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from server.blame import STOPPED, STUCK
from server.probe import ProbeConnection, connect
from server.supervisor import Supervisor

EVERY_S = 1.0
TICK_S = 0.25
FIRST_ANSWER_S = 60.0
"""What a process gets to start: imports, and on a busy machine a long wait for its share of it."""

log = structlog.get_logger()


@dataclass(slots=True)
class Silence:
    """How long a process has owed an answer, by somebody who looks every TICK_S, or tries to. Pure."""

    patience_s: float
    silent_s: float = 0.0
    has_started: bool = False

    def started(self) -> None:
        """It has come so far that it ought to answer."""
        if not self.has_started:
            self.silent_s = 0.0
            self.has_started = True

    def heard(self) -> None:
        """It has answered."""
        self.silent_s = 0.0
        self.has_started = True

    def ticked(self, elapsed_s: float) -> bool:
        """``elapsed_s`` after the last look there was no answer; whether that is too long by now.

        What goes beyond two ticks is the lateness of whoever looks, and does not count.
        """
        self.silent_s += min(elapsed_s, 2 * TICK_S)
        return self.silent_s > (self.patience_s if self.has_started else max(self.patience_s, FIRST_ANSWER_S))


class Watch:
    """Probes parts until closed. ``patience_s`` is how long one may owe an answer."""

    def __init__(self, supervisor: Supervisor, run_dir: Path, *, patience_s: float) -> None:
        self._supervisor = supervisor
        self._run_dir = run_dir
        self._patience_s = patience_s
        self._connections: dict[str, ProbeConnection] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, int] = {}  # the process of each part that has been seen working

    def begin(self, name: str) -> None:
        """Watch a part from now on, through all its restarts, until it is retired."""
        self._tasks[name] = asyncio.create_task(self._follow(name), name=f"watch {name}")

    def connection(self, name: str) -> ProbeConnection | None:
        """The probe's connection to a part whose process has answered; None before that."""
        found = self._connections.get(name)
        return found if found is not None and found.last is not None and not found.lost.is_set() else None

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _follow(self, name: str) -> None:
        while self._supervisor.is_kept(name):
            pid = self._supervisor.pids().get(name)
            try:
                if pid is not None:
                    await self._watch_life(name, pid)
            except Exception:  # a fault of ours must not end the watch
                log.exception("watch_failed", part=name)
            await asyncio.sleep(TICK_S)

    async def _watch_life(self, name: str, pid: int) -> None:
        """Probe one process until it is gone."""
        loop = asyncio.get_running_loop()
        silence, connection, asked_at, looked_at = Silence(self._patience_s), None, 0.0, loop.time()
        try:
            while self._supervisor.is_kept(name) and self._supervisor.pids().get(name) == pid:
                if connection is None or connection.lost.is_set():
                    connection = await self._connect(name)
                elif connection.last is None or (loop.time() - asked_at >= EVERY_S and not connection.is_owed):
                    connection.ask()
                    asked_at = loop.time()
                await asyncio.sleep(TICK_S)
                elapsed_s, looked_at = loop.time() - looked_at, loop.time()
                if connection is not None and connection.last is not None and not connection.is_owed:
                    silence.heard()
                    self._works(name, pid)
                    continue
                if connection is not None and connection.holds is not None:
                    silence.started()  # a worker has introduced itself
                if silence.ticked(elapsed_s):
                    self._give_up(name, pid, silence.silent_s)
                    return
        finally:
            self._connections.pop(name, None)
            if connection is not None:
                connection.close()

    async def _connect(self, name: str) -> ProbeConnection | None:
        with contextlib.suppress(OSError):
            connection = await connect(self._run_dir, name, timeout_s=TICK_S)
            self._connections[name] = connection
            connection.ask()
            return connection
        return None

    def _works(self, name: str, pid: int) -> None:
        if self._seen.get(name) != pid:
            self._seen[name] = pid
            log.info("process_works", part=name, pid=pid)
            self._supervisor.works(name)

    def _give_up(self, name: str, pid: int, silent_s: float) -> None:
        reason = STUCK
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
                reason = STOPPED
        log.error("process_stuck", part=name, pid=pid, silent_s=round(silent_s, 1), reason=reason)
        self._supervisor.kill(name, reason)
