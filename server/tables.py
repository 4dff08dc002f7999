"""How a gateway keeps its routing table: from Redis while it is there, from a file when it is not.

Owns the start (Redis first, the cache file if Redis does not answer), following new
versions, and keeping each in the cache file. Using a table is the caller's; a
table is handed over only once its manifests have been read, so that a publication under load
drops nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog

from routing.document import DocumentError, dump_json, load_json
from routing.store import Store, StoreCorrupt, StoreUnavailable
from routing.table import Table
from server.catalogue import Catalogue
from server.last_known import LastKnown

FIRST_TABLE_S = 2.0
MISSING_RETRY_S = 2.0

log = structlog.get_logger()


class TableFollower:
    """Gives the current table to ``use``, and every one that replaces it."""

    def __init__(self, store: Store, catalogue: Catalogue, use: Callable[[Table], None], cache: LastKnown) -> None:
        self._store = store
        self._catalogue = catalogue
        self._use = use
        self._cache = cache
        self._table: Table | None = None
        self._reading = asyncio.Lock()  # what is missing must be said of the table that was read last

    async def start(self) -> None:
        """Use Redis's table; where Redis does not answer, or has lost it, the last good one that was kept."""
        table: Table | None = None
        try:
            async with asyncio.timeout(FIRST_TABLE_S):
                table = await self._store.load_table()
        except (StoreUnavailable, StoreCorrupt, TimeoutError) as error:
            log.warning("table_not_loaded", error=str(error))
        if table is None:
            table = await asyncio.to_thread(self._read_cache)
            if table is not None:
                log.warning("table_from_cache", version=table.version)
        if table is not None:
            await self._take(table)

    async def run(self) -> None:
        """Follow Redis until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="table-watch")
            group.create_task(self._look_for_missing(), name="tickets-missing")

    async def _watch(self) -> None:
        tables = self._store.watch_table()
        assert isinstance(tables, AsyncGenerator)
        async with aclosing(tables):
            async for table in tables:
                if table != self._table:
                    await self._take(table)
                await asyncio.to_thread(self._cache.write, dump_json(table))

    async def _take(self, table: Table) -> None:
        async with self._reading:
            await self._catalogue.read(table)
            self._use(table)
            self._table = table
        log.info("table_in_use", version=table.version, tenants=len(table.tenants), families=len(table.families))

    async def _look_for_missing(self) -> None:
        """A ticket may reach this machine after the table that names it."""
        while True:
            await asyncio.sleep(MISSING_RETRY_S)
            async with self._reading:
                if self._table is not None and self._catalogue.missing:
                    await self._catalogue.read(self._table)

    def _read_cache(self) -> Table | None:
        kept = self._cache.read()
        if kept is None:
            return None
        try:
            return load_json(kept)
        except DocumentError as error:
            log.warning("table_cache_unreadable", path=str(self._cache.path), error=str(error))
            return None
