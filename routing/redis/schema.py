"""The layout of what stands in Redis: its version, and the way there from the one before.

Owns the version and the migration. Version 1 wrote its names without braces (``tombola:table``), so that no cluster
could hold them; version 2 keeps all names of a namespace in one slot. A commit writes the version too, so a store that
was emptied has one again with the first change.
"""

import structlog
from redis.exceptions import NoPermissionError

from routing.redis.connection import Connection
from routing.redis.errors import StoreTooNew, bounded

LAYOUT = 2

MIGRATE = """
-- KEYS schema, table, history, events, then version 1's table, history, names of workers, names of gateways
-- ARGV layout, event; gives {layout, version of the table that was taken over or 0}
local standing = redis.call('GET', KEYS[1])
if standing then return {tonumber(standing), 0} end
redis.call('SET', KEYS[1], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('TYPE', KEYS[5]).ok ~= 'hash' then return {tonumber(ARGV[1]), 0} end
local now = redis.call('TIME')
local id = redis.call('XADD', KEYS[4], '*',
  'event', ARGV[2], 'tenant', '', 'at', string.format('%d.%06d', now[1], now[2]))
redis.call('RENAME', KEYS[5], KEYS[2])
redis.call('HSET', KEYS[2], 'publication', id)
if redis.call('TYPE', KEYS[6]).ok == 'hash' then redis.call('RENAME', KEYS[6], KEYS[3]) end
redis.call('DEL', KEYS[7], KEYS[8])  -- the leases themselves run out, and who lives announces itself again
return {tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[2], 'version')) or 0}
"""

_MARK = """
-- KEYS schema; ARGV layout; gives the layout that stands
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return tonumber(redis.call('GET', KEYS[1]))
"""

_EVENT = b'{"action":"store.migrate","actor":"tombola","before":{"layout":1},"after":{"layout":2}}'

log = structlog.get_logger(__name__)


class Schema:
    """The layout of one store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def prepare(self) -> None:
        """Bring what stands in Redis to this release's layout. Any number of processes may, at any time.

        Raises StoreTooNew where a later release has been here, StoreUnavailable.
        """
        standing, taken_over = await self._standing(), 0
        if standing is None:
            standing, taken_over = await self._begin()
        if standing != LAYOUT:
            raise StoreTooNew(f"Redis holds layout {standing} of our data, this program knows {LAYOUT}: upgrade it")
        if taken_over:
            log.info("store_migrated", layout=LAYOUT, table_version=taken_over)

    async def _standing(self) -> int | None:
        async with bounded():
            value = await self._connection.client.get(self._connection.keys.schema)
        return int(value) if value is not None and value.isdigit() else None

    async def _begin(self) -> tuple[int, int]:
        """The layout that stands now, and the version of the table that was taken over (0: there was none)."""
        keys, client = self._connection.keys, self._connection.client
        old = keys.namespace
        first = (f"{old}:table", f"{old}:table:history", f"{old}:leases:worker", f"{old}:leases:gateway")
        names = (keys.schema, keys.table, keys.history, keys.events, *first)
        async with bounded():
            if not self._connection.is_cluster:  # version 1 could not live in one
                try:
                    layout, taken_over = await client.eval(MIGRATE, len(names), *names, LAYOUT, _EVENT)
                    return int(layout), int(taken_over)
                except NoPermissionError:
                    pass  # a user that may not touch version 1's names has never written them
            return int(await client.eval(_MARK, 1, keys.schema, LAYOUT)), 0
