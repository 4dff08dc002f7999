"""The rolling restart: one process after another is replaced by a fresh one, and no request is lost.

Owns the order of things. A new worker comes up beside the old one, loads what the old one holds
and is linked by every gateway before the old one is asked to end; a new gateway listens on the
same socket and knows the workers before the old one stops accepting. Starting, ending and
watching are `server.supervisor`'s and `server.watch`'s; how an old process finishes its work is
its own affair (`server.worker`, `server.http_server`).
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from server.parts import GATEWAY, WORKER
from server.probe import ProbeConnection
from server.supervisor import Part

POLL_S = 0.1
SETTLED_S = 3.0
"""A new worker whose tickets have not changed for so long holds what it is going to hold."""


class RollError(Exception):
    """The restart has been given up; what ran before still runs. The message says why."""


class Keeper(Protocol):
    """What keeps processes alive: `server.supervisor.Supervisor`."""

    def start(self, part: Part) -> None:
        """Start a part and keep it alive."""

    async def retire(self, name: str, grace_s: float) -> None:
        """End one part for good."""


class Watcher(Protocol):
    """Who knows what the processes say of themselves: `server.watch.Watch`."""

    def begin(self, name: str) -> None:
        """Watch a part."""

    def connection(self, name: str) -> ProbeConnection | None:
        """What a part says of itself; None while it has said nothing."""


class Roll:
    """Replaces parts. ``names`` maps each place to the part that holds it now; it is kept up to date.

    ``make(place, name)`` describes the process for a place under a fresh name; ``forget`` hears of
    every part that has ended for good.
    """

    def __init__(
        self,
        keeper: Keeper,
        watcher: Watcher,
        names: dict[str, str],
        make: Callable[[str, str], Part],
        *,
        ready_within_s: float,
        grace_s: float,
        forget: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._keeper = keeper
        self._watcher = watcher
        self._names = names
        self._make = make
        self._ready_within_s = ready_within_s
        self._grace_s = grace_s
        self._forget = forget
        self._is_busy = False

    async def run(self, say: Callable[[str], None]) -> None:
        """Replace every worker, then every gateway. ``say`` hears of each step. Raises RollError."""
        if self._is_busy:
            raise RollError("a restart is under way already")
        self._is_busy = True
        try:
            kinds = {place: self._make(place, name).kind for place, name in self._names.items()}
            for kind in (WORKER, GATEWAY):
                for place in [place for place, its in kinds.items() if its == kind]:
                    await self._replace(place, kind, say)
        finally:
            self._is_busy = False

    async def _replace(self, place: str, kind: str, say: Callable[[str], None]) -> None:
        old = self._names[place]
        new = next_name(place, old)
        began = time.monotonic()
        self._keeper.start(self._make(place, new))
        self._watcher.begin(new)
        try:
            async with asyncio.timeout(self._ready_within_s):
                await (self._worker_is_ready(new, old) if kind == WORKER else self._gateway_is_ready(new))
        except TimeoutError:
            await self._retire(new, self._grace_s)
            raise RollError(f"{new} was not ready within {self._ready_within_s:g} s; {old} goes on") from None
        except BaseException:
            await self._retire(new, 0.0)
            raise
        ready_s = time.monotonic() - began
        self._names[place] = new
        await self._retire(old, self._grace_s)
        say(f"{new} has replaced {old}: ready after {ready_s:.1f} s, all after {time.monotonic() - began:.1f} s")

    async def _retire(self, name: str, grace_s: float) -> None:
        await self._keeper.retire(name, grace_s)
        self._forget(name)

    async def _worker_is_ready(self, new: str, old: str) -> None:
        """It holds what the old one does, or what it is going to, and every gateway may send to it."""
        before = self._watcher.connection(old)
        wanted = frozenset(before.holds or ()) if before is not None else frozenset[str]()
        held, since = frozenset[str](), time.monotonic()
        while True:
            now = self._watcher.connection(new)
            if now is not None and now.holds is not None:
                if now.holds != held:
                    held, since = frozenset(now.holds), time.monotonic()
                is_warm = wanted <= held or time.monotonic() - since > SETTLED_S
                if is_warm and all(new in workers for workers in self._known(GATEWAY)):
                    return
            await asyncio.sleep(POLL_S)

    async def _gateway_is_ready(self, new: str) -> None:
        """It answers, which it does once it listens, and knows a worker if any other gateway does."""
        while True:
            now = self._watcher.connection(new)
            if now is not None and now.last is not None:
                missing = {name for workers in self._known(GATEWAY) for name in workers} - set(now.last.workers)
                if not missing:
                    return
            await asyncio.sleep(POLL_S)

    def _known(self, kind: str) -> Iterable[list[str]]:
        """The workers that each part of a kind that answers may send to."""
        for place, name in self._names.items():
            connection = self._watcher.connection(name) if self._make(place, name).kind == kind else None
            if connection is not None and connection.last is not None:
                yield connection.last.workers


def next_name(place: str, name: str) -> str:
    """The name after ``name`` for a place: ``worker-0``, ``worker-0.1``, ``worker-0.2``."""
    _, _, count = name.removeprefix(place).rpartition(".")
    return f"{place}.{int(count or 0) + 1}"
