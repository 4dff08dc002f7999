"""The accounts in Redis: reading all of them, or what has changed since a stamp.

Owns both readings. A change is read in one round trip however many accounts there are; who has seen a state that the
log of events does not tell of (another Redis, a log trimmed since) is given all accounts.
"""

from collections.abc import Mapping

import msgspec
import structlog

from routing.account import Account
from routing.redis.connection import Connection
from routing.redis.errors import StoreCorrupt, bounded

SINCE = """
-- KEYS accounts, changed, gone, accounts version, events; ARGV stamp that was seen or ''
-- gives the stamp that stands, 1 if these are all accounts, {name, document...}, {name of a deleted account...}
local stamp = redis.call('GET', KEYS[4]) or ''
local ms, n = string.match(ARGV[1], '^(%d+)-(%d+)$')
if not ms or #redis.call('XRANGE', KEYS[5], ARGV[1], ARGV[1]) == 0 then
  return {stamp, 1, redis.call('HGETALL', KEYS[1]), {}}
end
local from = string.format('%.0f', tonumber(ms) * 1000 + math.min(tonumber(n), 999))
local documents = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], from, '+inf')) do
  documents[#documents + 1] = name
  documents[#documents + 1] = redis.call('HGET', KEYS[1], name) or ''
end
return {stamp, 0, documents, redis.call('ZRANGEBYSCORE', KEYS[3], from, '+inf')}
"""

_account = msgspec.json.Decoder(Account)

log = structlog.get_logger(__name__)


class AccountsState(msgspec.Struct, frozen=True, kw_only=True):
    """All accounts by name, as they stood at ``stamp`` (None: there have never been any)."""

    stamp: bytes | None = None
    accounts: Mapping[str, Account] = {}


class Accounts:
    """Reads the accounts of one store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def stamp(self) -> bytes | None:
        """When an account was last changed; None where none ever was. Raises StoreUnavailable, StoreCorrupt."""
        async with bounded():
            value = await self._connection.client.get(self._connection.keys.accounts_version)
        return value.encode() if isinstance(value, str) else value

    async def load(self) -> AccountsState:
        """All accounts. One that does not read is an error here: nobody may be let in by half an answer.

        Raises StoreUnavailable, StoreCorrupt.
        """
        stamp, _, documents, _ = await self._since(b"")
        accounts = {}
        for name, document in _pairs(documents):
            try:
                accounts[name] = _account.decode(document)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise StoreCorrupt(f"account {name!r} in Redis does not read ({error}): write it again") from error
        return AccountsState(stamp=stamp, accounts=accounts)

    async def follow(self, known: AccountsState) -> AccountsState:
        """The accounts as they stand, from those ``known``, whose stamp must have been theirs.

        One that does not read stays as it was known, and is logged. Raises StoreUnavailable, StoreCorrupt.
        """
        stamp, is_whole, documents, gone = await self._since(known.stamp or b"")
        accounts = {} if is_whole else {name: known.accounts[name] for name in known.accounts.keys() - set(gone)}
        for name, document in _pairs(documents):
            try:
                accounts[name] = _account.decode(document)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                log.error("account_unreadable", account=name, error=str(error))
                if name in known.accounts:
                    accounts[name] = known.accounts[name]
        return AccountsState(stamp=stamp, accounts=accounts)

    async def _since(self, stamp: bytes) -> tuple[bytes | None, bool, list[bytes], list[str]]:
        keys = self._connection.keys
        names = (keys.accounts, keys.accounts_changed, keys.accounts_gone, keys.accounts_version, keys.events)
        async with bounded():
            reply = await self._connection.client.eval(SINCE, len(names), *names, stamp)
        standing, is_whole, documents, gone = reply
        return standing or None, bool(is_whole), documents, [name.decode() for name in gone]


def _pairs(flat: list[bytes]) -> list[tuple[str, bytes]]:
    return [(name.decode("utf-8", "replace"), document) for name, document in zip(flat[::2], flat[1::2], strict=True)]
