"""The commit: everything that one act of the control plane changes, in one atomic step and one round trip.

Owns the script that checks every version a change was made from and, only if all of them still stand, writes the
table, its history, the accounts, the reports and the event. Redis-py sends a call again when its reply is lost; the
script then finds the outcome of the first run and gives it again.
"""

import uuid

import msgspec

from routing.account import Account
from routing.change import Change, Committed
from routing.document import DocumentError, check, dump_json, load_json
from routing.redis.connection import Connection
from routing.redis.errors import StoreTooNew, VersionConflict, bounded
from routing.redis.schema import LAYOUT

HISTORY_VERSIONS = 20
"""How many versions of the table stay readable, the current one included."""
EVENTS_KEPT = 10_000
"""How many events stay readable, about: Redis drops whole blocks of the oldest."""
_DONE_S = 60  # a call that is sent again comes within seconds

COMMIT = """
-- KEYS schema, table, history, accounts, changed, gone, accounts version, events, done, then the reports' hashes
-- ARGV layout, channel, seconds to remember, events kept, event, its tenant,
--   has table, base version, new version, document, version to forget,
--   number of accounts, {name, base version, document or '' to delete it}...,
--   number of reports, {key, ticket, report}...
--   (report '': forget it; ticket '' too: forget all of this tenant)
-- gives {1, event id, seconds, microseconds} when all is done, {0, index of what has changed, the version that stands}
-- (0: the table, i: the i-th account), or {-1, layout} where Redis holds another layout
local a = 0
local function take() a = a + 1; return ARGV[a] end
local layout, channel, remember_s, kept = take(), take(), take(), take()
local event, tenant = take(), take()
local kinds = {'string', 'hash', 'hash', 'hash', 'zset', 'zset', 'string', 'stream', 'string'}
local function is_foreign(i)
  local kind = redis.call('TYPE', KEYS[i]).ok
  return kind ~= 'none' and kind ~= (kinds[i] or 'hash')
end
local schema = not is_foreign(1) and redis.call('GET', KEYS[1])
if schema and schema ~= layout then return {-1, schema} end
for i = 1, #KEYS do
  if is_foreign(i) then redis.call('DEL', KEYS[i]) end
end
local done = redis.call('GET', KEYS[9])
if done then return cjson.decode(done) end  -- this very call, sent again because its reply was lost

local has_table, base, version, document, forget = take() == '1', take(), take(), take(), take()
if has_table then
  local standing = tonumber(redis.call('HGET', KEYS[2], 'version') or '0') or 0
  if standing ~= tonumber(base) then return {0, 0, standing} end
end
local accounts = {}
for i = 1, tonumber(take()) do
  local name, from, new = take(), take(), take()
  local old = redis.call('HGET', KEYS[4], name)
  local standing = 0
  if old then
    local reads, value = pcall(cjson.decode, old)
    standing = reads and type(value) == 'table' and tonumber(value.version) or 0
  end
  if standing ~= tonumber(from) then return {0, i, standing} end
  accounts[i] = {name, new}
end

local now = redis.call('TIME')
local id = redis.call('XADD', KEYS[8], 'MAXLEN', '~', kept, '*',
  'event', event, 'tenant', tenant, 'at', string.format('%d.%06d', now[1], now[2]))
redis.call('SET', KEYS[1], layout)
if has_table then
  redis.call('HSET', KEYS[2], 'version', version, 'publication', id, 'document', document)
  redis.call('HSET', KEYS[3], version, document)
  redis.call('HDEL', KEYS[3], forget)
  redis.call('PUBLISH', channel, 'table')
end
if #accounts > 0 then
  local ms, n = string.match(id, '(%d+)-(%d+)')
  local score = string.format('%.0f', tonumber(ms) * 1000 + math.min(tonumber(n), 999))
  for _, account in ipairs(accounts) do
    local name, new = account[1], account[2]
    if new == '' then
      redis.call('HDEL', KEYS[4], name)
      redis.call('ZREM', KEYS[5], name)
      redis.call('ZADD', KEYS[6], score, name)
    else
      redis.call('HSET', KEYS[4], name, new)
      redis.call('ZADD', KEYS[5], score, name)
      redis.call('ZREM', KEYS[6], name)
    end
  end
  -- nobody asks for what was deleted before the oldest event: who has seen nothing since then reads all accounts
  local oldest = redis.call('XRANGE', KEYS[8], '-', '+', 'COUNT', 1)[1][1]
  redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', '(' .. string.match(oldest, '%d+') .. '000')
  redis.call('SET', KEYS[7], id)
  redis.call('PUBLISH', channel, 'accounts')
end
for _ = 1, tonumber(take()) do
  local key, ticket, report = KEYS[9 + tonumber(take())], take(), take()
  if report ~= '' then redis.call('HSET', key, ticket, report)
  elseif ticket ~= '' then redis.call('HDEL', key, ticket)
  else redis.call('DEL', key) end
end
local outcome = {1, id, now[1], now[2]}
redis.call('SET', KEYS[9], cjson.encode(outcome), 'EX', remember_s)
return outcome
"""

Argument = int | str | bytes


class Commits:
    """Carries out changes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def carry_out(self, change: Change, *, least_version: int = 0) -> Committed:
        """Do the change whole, with its event, or nothing of it.

        A table's new version is the one it was made from + 1, or ``least_version`` if that is more. Raises
        VersionConflict, DocumentError for a table that does not hold together or is too large and for an account that
        could not be read again, StoreUnavailable.
        """
        event, new = change.event, None
        if change.table is not None:
            version = max(change.table.version + 1, least_version)
            new = msgspec.structs.replace(check(change.table), version=version)
            load_json(dump_json(new))  # what cannot be read again would lock everybody out of all changes
            event = msgspec.structs.replace(event, table_version=version)
        accounts = tuple(map(_next, change.accounts))
        done = Committed(event=event, table=new, accounts=accounts)
        keys, arguments = self._call(change, done, uuid.uuid4().hex)
        async with bounded():
            reply = await self._connection.client.eval(COMMIT, len(keys), *keys, *arguments)
        if reply[0] == -1:
            raise StoreTooNew(
                f"Redis holds layout {int(reply[1])} of our data, this program knows {LAYOUT}: upgrade it"
            )
        if reply[0] == 0:
            raise _conflict(change, int(reply[1]), int(reply[2]))
        at = int(reply[2]) + int(reply[3]) / 1e6
        return msgspec.structs.replace(done, event=msgspec.structs.replace(event, id=_text(reply[1]), at=at))

    def _call(self, change: Change, done: Committed, name: str) -> tuple[list[str], list[Argument]]:
        """Keys and arguments of the script. ``name`` is this change's own, for a call that is sent again."""
        keys = self._connection.keys
        reports: list[tuple[str, str, bytes | None]] = [(account.name, "", None) for account in change.gone]
        reports += [(tenant, ticket, report) for (tenant, ticket), report in change.reports.items()]
        tenants = sorted({tenant for tenant, _, _ in reports})
        names = [
            keys.schema, keys.table, keys.history, keys.accounts, keys.accounts_changed, keys.accounts_gone,
            keys.accounts_version, keys.events, keys.done(name), *map(keys.reports, tenants),
        ]  # fmt: skip
        event = msgspec.json.encode(done.event)
        arguments: list[Argument] = [LAYOUT, keys.channel, _DONE_S, EVENTS_KEPT, event, done.event.tenant or ""]
        if change.table is not None and done.table is not None:
            new = done.table
            arguments += [1, change.table.version, new.version, dump_json(new), new.version - HISTORY_VERSIONS]
        else:
            arguments += [0, 0, 0, b"", 0]
        arguments.append(len(change.accounts) + len(change.gone))
        for old, account in zip(change.accounts, done.accounts, strict=True):
            arguments += [old.name, old.version, msgspec.json.encode(account)]
        for account in change.gone:
            arguments += [account.name, account.version, b""]
        arguments.append(len(reports))
        for tenant, ticket, report in reports:
            arguments += [tenants.index(tenant) + 1, ticket, report or b""]
        return names, arguments


def _next(account: Account) -> Account:
    """The account's next version, once it has been read as it will be written. Raises DocumentError."""
    new = msgspec.structs.replace(account, version=account.version + 1)
    try:
        return msgspec.json.decode(msgspec.json.encode(new), type=Account)
    except msgspec.DecodeError as error:
        raise DocumentError([f"account {account.name}: {error}"]) from error


def _conflict(change: Change, index: int, standing: int) -> VersionConflict:
    """What the script's reply says of the ``index``-th thing: 0 is the table, then come the accounts."""
    if index == 0:
        assert change.table is not None
        return VersionConflict(change.table.version, standing)
    account = (*change.accounts, *change.gone)[index - 1]
    return VersionConflict(account.version, standing, f"account {account.name}")


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
