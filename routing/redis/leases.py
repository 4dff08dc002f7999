"""The leases in Redis: one string with a time to live for each live process, and a set of their names by kind.

Owns writing, taking back and listing them. What a lease says is `routing.lease`'s.
"""

import msgspec
import structlog

from routing.lease import Lease, LeaseKind
from routing.redis.connection import Connection
from routing.redis.errors import bounded

ANNOUNCE = """
-- KEYS lease, names; ARGV lease, its name, milliseconds to live
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[2])
return 1
"""

LIVE_LEASES = """
-- KEYS names of one kind; ARGV prefix of the lease keys; forgets the names whose lease has run out
-- (the leases' names are made here: they have the hash tag of KEYS[1], so they are in its slot)
local live = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local lease = redis.call('GET', ARGV[1] .. name)
  if lease then live[#live + 1] = lease else redis.call('SREM', KEYS[1], name) end
end
return live
"""

WITHDRAW = """
-- KEYS lease, names; ARGV the lease as announced, its name
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[2])
end
return 1
"""

log = structlog.get_logger(__name__)


class Leases:
    """The leases of one store."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection.client
        self._keys = connection.keys

    async def announce(self, lease: Lease, ttl_s: float) -> None:
        """Say that this process lives for another ``ttl_s`` seconds. Raises StoreUnavailable."""
        key, names = self._keys.lease(lease.kind, lease.name), self._keys.names(lease.kind)
        ttl_ms = max(1, round(ttl_s * 1000))
        async with bounded():
            await self._redis.eval(ANNOUNCE, 2, key, names, msgspec.json.encode(lease), lease.name, ttl_ms)

    async def withdraw(self, lease: Lease) -> None:
        """Take back this very lease; a successor's of the same name stays. Raises StoreUnavailable."""
        key, names = self._keys.lease(lease.kind, lease.name), self._keys.names(lease.kind)
        async with bounded():
            await self._redis.eval(WITHDRAW, 2, key, names, msgspec.json.encode(lease), lease.name)

    async def live(self, kind: LeaseKind) -> list[Lease]:
        """The live leases, by name. Raises StoreUnavailable."""
        async with bounded():
            found = await self._redis.eval(LIVE_LEASES, 1, self._keys.names(kind), self._keys.lease(kind, ""))
        leases = []
        for document in found:
            try:
                leases.append(msgspec.json.decode(document, type=Lease))
            except msgspec.DecodeError as error:
                log.warning("lease_unreadable", kind=kind, error=str(error))
        return sorted(leases, key=lambda lease: lease.name)
