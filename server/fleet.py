"""The live workers as one gateway sees them: leases say whom to look for, links say who is there.

Owns one Link per worker and its reconnection, with back-off. When Redis is away the
known workers stay known: a live connection is the truth about a worker, a lease only a
hint. `snapshot()` is what `routing.decide.choose` looks at.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

import msgspec
import structlog

from routing.lease import Lease
from routing.store import Store, StoreUnavailable
from routing.table import Fleet, WorkerView
from server.address import AddressError
from server.last_known import LastKnown
from server.link import Link
from server.wire import Shares

POLL_S = 0.25
CHECK_S = 0.1
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 1.0

log = structlog.get_logger()


class WorkerFleet:
    """Runs until cancelled: ``await fleet.run()``. Everything else is synchronous."""

    def __init__(self, store: Store, cache: LastKnown | None = None) -> None:
        """``cache`` remembers the leases, for a gateway that starts while Redis is away."""
        self._store = store
        self._cache = cache or LastKnown(None)
        self._leases: dict[str, Lease] = {}
        self._links: dict[str, Link] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._has_looked, self._has_link = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.redis_seen_at = self._loop.time()
        """The loop's time when Redis last answered."""
        self._shares = Shares(0, {})
        self._random = random.Random()
        self.on_change: Callable[[], None] = lambda: None
        """Called after a worker was linked or lost."""

    def snapshot(self) -> Fleet:
        """The workers that can be sent something now; those that may hang only where there is no other."""
        now = time.monotonic()  # uvloop's own time has steps of a millisecond
        well: list[WorkerView] = []
        quiet: list[WorkerView] = []
        for link in self._links.values():
            view = link.view(now)
            if view is not None:
                (quiet if link.is_quiet(now) else well).append(view)
        return Fleet(workers=tuple(well or quiet))

    def link(self, name: str) -> Link | None:
        """The live connection to a worker."""
        return self._links.get(name)

    def share(self, shares: Shares) -> None:
        """Tell every worker what the tenants are due, those that are linked later too."""
        self._shares = shares
        for link in self._links.values():
            link.tell(shares)

    @property
    def linked(self) -> int:
        """How many workers are connected and may be sent work."""
        return sum(not link.is_draining for link in self._links.values())

    @property
    def workers(self) -> list[str]:
        """The names of the workers that are connected and may be sent work."""
        return [name for name, link in self._links.items() if not link.is_draining]

    @property
    def known(self) -> set[str]:
        """The names of the workers that are looked for, connected or not."""
        return set(self._leases)

    async def settle(self, within_s: float) -> None:
        """Wait until one of the workers there are is linked; at once where there are none, ``within_s`` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._has_looked.wait()
                if self._leases:
                    await self._has_link.wait()

    async def run(self) -> None:
        """Follow the leases and keep the links, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_leases(), name="fleet-leases")
                group.create_task(self._check_links(), name="fleet-check")
        finally:
            await self.close()

    def meet(self, leases: list[Lease]) -> None:
        """Take notice of the workers that have a lease now; forget those that have neither lease nor link."""
        present = {lease.name: lease for lease in leases}
        for name, lease in present.items():
            known = self._leases.get(name)
            self._leases[name] = lease
            if name not in self._keepers or self._keepers[name].done():
                self._changed[name] = asyncio.Event()
                self._keepers[name] = asyncio.create_task(self._keep(name), name=f"keep-{name}")
            elif known != lease:
                self._changed[name].set()
        for name in self._leases.keys() - present.keys():
            if name not in self._links:
                self._keepers.pop(name).cancel()
                del self._leases[name], self._changed[name]

    async def _follow_leases(self) -> None:
        is_away = False
        while True:
            try:
                leases = await self._store.leases("worker")
                self.redis_seen_at = self._loop.time()
                is_away = False
                await self._remember(leases)
                self.meet(leases)
            except StoreUnavailable as error:
                if not is_away:
                    log.warning("redis_away", error=str(error), workers=len(self._links))
                    await self._recall()
                is_away = True
            self._has_looked.set()
            await asyncio.sleep(POLL_S)

    async def _remember(self, leases: list[Lease]) -> None:
        """Keep the leases for the next start, whenever there is something new and worth keeping."""
        if leases and {lease.name: lease for lease in leases} != self._leases:
            await asyncio.to_thread(self._cache.write, msgspec.json.encode(leases))

    async def _recall(self) -> None:
        """Look for the workers that an earlier run knew, where this one knows none."""
        kept = None if self._leases else await asyncio.to_thread(self._cache.read)
        if kept is not None:
            with contextlib.suppress(msgspec.DecodeError):
                self.meet(msgspec.json.decode(kept, type=list[Lease]))

    async def _check_links(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(CHECK_S)
            now = time.monotonic()
            if now - before > 2 * CHECK_S:
                continue  # this process was stopped or starved: what it has not read yet says nothing
            for link in list(self._links.values()):
                link.check(now)

    async def _keep(self, name: str) -> None:
        """Connect to one worker, again and again, for as long as it is known."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            lease = self._leases[name]
            try:
                link = await Link.connect(name, lease.address)
            except (OSError, AddressError) as error:
                log.debug("worker_unreachable", worker=name, error=str(error))
                await self._pause(name, backoff_s * self._random.uniform(0.5, 1.0))
                backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
                continue
            backoff_s = FIRST_BACKOFF_S
            self._links[name] = link
            link.tell(self._shares)
            self._has_link.set()
            log.info("worker_linked", worker=name, address=lease.address)
            self.on_change()
            try:
                await asyncio.wait({link.lost})  # unlike a plain await, being cancelled here leaves the future alone
            finally:
                link.close("gateway stops")
                del self._links[name]
            log.warning("worker_lost", worker=name, reason=link.lost.result())
            self.on_change()

    async def _pause(self, name: str, seconds: float) -> None:
        """Wait before the next attempt, or until the worker's lease says something new."""
        changed = self._changed[name]
        changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await changed.wait()

    async def close(self) -> None:
        """Give up every connection."""
        keepers = list(self._keepers.values())
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        self._keepers.clear()
