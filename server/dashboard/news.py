"""The last events for all who watch: one look at the audit log every two seconds, however many they are.

Owns what was read last. Operators get the newest events of all, a tenant its own, which may be far back: they
are looked for once, and kept up to date from what is new. While Redis is away, what was read last stays.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from routing.event import Event
from routing.store import Store, StoreCorrupt, StoreUnavailable

KEPT = 50
FRESH_S = 2.0
_MAX_TENANTS = 1000

log = structlog.get_logger()


class News:
    """Reads the audit log of one store."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.are_fresh = True
        """Whether the last look succeeded."""
        self._store = store
        self._clock = clock
        self._looked_at: float | None = None
        self._newest: list[Event] = []
        self._own: dict[str, list[Event]] = {}
        self._looking = asyncio.Lock()

    async def of(self, tenant: str | None, *, may_look: bool = True) -> list[Event]:
        """The newest events, newest first: of all, or of one ``tenant``.

        ``may_look``: False where Redis is known to be away, so that nobody waits for it.
        """
        async with self._looking:
            if not may_look:
                self.are_fresh = False
            elif self._looked_at is None or self._clock() - self._looked_at >= FRESH_S:
                await self._look()
                self._looked_at = self._clock()
            if tenant is None:
                return self._newest
            if tenant not in self._own and self.are_fresh:
                await self._find(tenant)
            return self._own.get(tenant, [])

    async def _look(self) -> None:
        try:
            found = await self._store.events(count=KEPT)
        except (StoreUnavailable, StoreCorrupt) as error:
            log.debug("events_unavailable", error=str(error))
            self.are_fresh = False
            return
        self.are_fresh = True
        known = {event.id for event in self._newest}
        new = [event for event in found if event.id not in known]
        if known and len(new) == len(found):  # there may be others between: every tenant's are looked for again
            self._own.clear()
        for tenant, events in self._own.items():
            self._own[tenant] = [*(event for event in new if event.tenant == tenant), *events][:KEPT]
        self._newest = found

    async def _find(self, tenant: str) -> None:
        """Look for a tenant's events, as far back as they go."""
        if len(self._own) >= _MAX_TENANTS:
            self._own.clear()
        try:
            found = await self._store.events(tenant, count=KEPT)
        except (StoreUnavailable, StoreCorrupt) as error:
            log.debug("events_unavailable", error=str(error))
            self.are_fresh = False
            return
        seen = {event.id for event in self._newest}
        newest = self._newest[0].id if self._newest else ""
        # What came since the last look is found again by the next one: left out here, it is not there twice.
        while found and found[0].id not in seen and _order(found[0].id) > _order(newest):
            found.pop(0)
        self._own[tenant] = found


def _order(event_id: str) -> tuple[int, int]:
    at_ms, _, number = event_id.partition("-")
    return (int(at_ms), int(number or 0)) if at_ms else (0, 0)
