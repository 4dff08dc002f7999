"""The trials in Redis: what each gateway has counted of each canary, and which gateway does a duty for all.

Owns both. A gateway writes its own counts, absolute ones, under a name that no other run of it ever has: writing them
again changes nothing, nobody's counts are lost with him, and a sum counts every ask once. What the counts mean is
`routing.verdict`'s.
"""

from collections.abc import Mapping

import msgspec

from routing.canary import Counts, Trial
from routing.redis.connection import Connection
from routing.redis.errors import bounded

KEEP_S = 7 * 86_400
"""How long counts stay after the last of them was written, for people who ask what became of a canary."""

RECORD = """
-- KEYS hashes of trials; ARGV field, seconds to keep, one document per hash
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', key) end
  redis.call('HSET', key, ARGV[1], ARGV[2 + i])
  redis.call('EXPIRE', key, ARGV[2])
end
return #KEYS
"""

LEAD = """
-- KEYS leader; ARGV name, milliseconds; gives 1 where the name leads now, for so long
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

YIELD = """
-- KEYS leader; ARGV name
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class _Recorded(msgspec.Struct, frozen=True, kw_only=True):
    started_at: float
    counts: Counts


_recorded = msgspec.json.Decoder(_Recorded)


class Trials:
    """Reads and writes the trials of one store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def record(self, counter: str, counts: Mapping[Trial, Counts]) -> None:
        """All that ``counter``, one run of one gateway, has counted of these trials. One round trip.

        Raises StoreUnavailable.
        """
        if not counts:
            return
        keys = [self._key(trial) for trial in counts]
        documents = [
            msgspec.json.encode(_Recorded(started_at=trial.started_at, counts=counted))
            for trial, counted in counts.items()
        ]
        async with bounded():
            await self._connection.client.eval(RECORD, len(keys), *keys, counter, KEEP_S, *documents)

    async def counts(self, trial: Trial) -> Counts:
        """What all gateways together have counted of a trial. Raises StoreUnavailable, StoreCorrupt."""
        async with bounded():
            documents = await self._connection.client.hvals(self._key(trial))
        total = Counts()
        for document in documents:
            try:
                recorded = _recorded.decode(document)
            except msgspec.DecodeError:  # of another version of Tombola: it is judged without
                continue
            if recorded.started_at == trial.started_at:
                total = total.plus(recorded.counts)
        return total

    async def lead(self, duty: str, name: str, ttl_s: float) -> bool:
        """Whether ``name`` does this duty for the next ``ttl_s`` seconds, alone. Raises StoreUnavailable."""
        key, milliseconds = self._connection.keys.leader(duty), max(1, round(ttl_s * 1000))
        async with bounded():
            return bool(await self._connection.client.eval(LEAD, 1, key, name, milliseconds))

    async def hand_over(self, duty: str, name: str) -> None:
        """``name`` does it no more: the next one who asks does. Raises StoreUnavailable."""
        async with bounded():
            await self._connection.client.eval(YIELD, 1, self._connection.keys.leader(duty), name)

    def _key(self, trial: Trial) -> str:
        return self._connection.keys.trial(trial.tenant, trial.domain, trial.ticket)
