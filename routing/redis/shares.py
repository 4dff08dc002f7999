"""The shares of tenants' limits, as Redis gives them out: one atomic step for all tenants that a gateway reports on.

Owns the script and what it keeps: per tenant a bucket of tokens, the day's count, and what every gateway holds. Time
is Redis's alone. A report is absolute and numbered: one that is lost, late or run twice gives nothing away. What a
gateway held is taken as spent when it has not been heard of for `TTL_S`. Types and their meaning: `routing.limits`.
"""

import hashlib
from collections.abc import Sequence

from redis.exceptions import NoScriptError, ResponseError

from routing.limits import HORIZON_S, Grant, Now, Report
from routing.redis.connection import Connection
from routing.redis.errors import StoreCorrupt, StoreUnavailable, bounded

ANSWER_S = 0.5
"""Redis is out of reach when it has not answered for this long."""
TTL_S = 3.0
"""A gateway that has not reported for this long has lost its places to the others."""

LEASE = """
-- KEYS gateways, then one per tenant; ARGV holder, TTL ms, horizon ms, then 17 per tenant, in the order of `Report`
-- gives gateways, day, ms that are left of it, then per tenant what stands in `Grant`
local function all_numbers(text)
  local found = {}
  for word in string.gmatch(text, '%S+') do found[#found + 1] = tonumber(word) end
  return found
end
local function is_kept(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local today = math.floor(now / 86400000)
local holder, ttl, horizon = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
is_kept(KEYS[1], 'zset')
redis.call('ZADD', KEYS[1], now + ttl, holder)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], 2 * ttl)
local gateways = redis.call('ZCARD', KEYS[1])
local reply = {gateways, today, (today + 1) * 86400000 - now}

local function one(key, rate, burst, cap, daily, serial, used, fresh, held, want, alone, places,
                   places_want, day, day_used, day_fresh, day_held, day_want)
  is_kept(key, 'hash')
  -- mine and others': expires, serial, used, held, places, places wanted, day, day's used, day's held
  local state, mine, others = {}, nil, {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local field = all[i]
    if string.sub(field, 1, 2) ~= 'h:' then
      state[field] = tonumber(all[i + 1])
    elseif string.sub(field, 3) == holder then
      mine = all_numbers(all[i + 1])
    else
      local record = all_numbers(all[i + 1])
      if record[1] <= now then redis.call('HDEL', key, field) else others[#others + 1] = record end
    end
  end
  if mine and mine[2] > serial then return {0, '0', 0, 0, 0, 0, 0} end  -- overtaken by a later report

  local tokens, grant = 0, 0
  if rate > 0 then
    local lent = held
    for _, record in ipairs(others) do lent = lent + record[4] end
    local room = math.max(0, math.min(burst, burst + rate * horizon / 1000 - lent))
    local regained = math.max(0, now - (state.at or now)) * rate / 1000
    -- what it held comes back, less what it has spent of it and what it keeps; a credit takes it below 0
    local back = (mine and mine[4] or 0) - (mine and used - mine[3] or fresh) - held
    tokens = math.min((state.tokens or burst) + regained + back, room)
    tokens = math.max(tokens - alone, math.min(tokens, 0))
    grant = math.max(0, math.min(want - held, math.floor(tokens + 1e-9)))
    tokens, held = tokens - grant, held + grant
  end

  local aim, free = 0, 0
  if cap > 0 then
    local claims, taken, owed = 1, 0, 0
    for _, record in ipairs(others) do if record[6] > 0 then claims = claims + 1 end end
    local part = math.floor(cap / claims)
    for _, record in ipairs(others) do
      taken = taken + record[5]
      owed = owed + math.max(0, math.min(record[6], math.max(1, part)) - record[5])
    end
    -- who holds more than its part makes room for others; a free place is anybody's who did not have its part
    aim = math.min(places_want, math.max(part, cap - taken - owed))
    local has_had = mine and mine[5] > part and owed > 0
    local most = math.min(places_want, math.max(aim, has_had and 0 or 1), cap - taken)
    if most > places then places, aim = most, math.max(aim, most) end
    free = math.max(0, cap - taken - places)
  end

  local spent, day_grant, left = 0, 0, 0
  if daily > 0 then
    if day < 0 then day = today end
    spent = state.day == today and state.spent or 0
    if day <= today then spent = spent + (mine and mine[7] == day and day_used - mine[8] or day_fresh) end
    if day ~= today then day_held = 0 end
    left = daily - spent - day_held
    for _, record in ipairs(others) do if record[7] == today then left = left - record[9] end end
    local most = math.max(1, math.ceil(left / (2 * gateways)))  -- small towards the end, so that nobody hoards it
    day_grant = math.max(0, math.min(day_want - day_held, left, most))
    left, day_held = left - day_grant, day_held + day_grant
  end

  local record = string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f',
    now + ttl, serial, used, held, places, places_want, today, day_used, day_held)
  redis.call('HSET', key, 'h:' .. holder, record, 'tokens', string.format('%.6f', tokens),
    'at', string.format('%.0f', now), 'day', string.format('%.0f', today), 'spent', string.format('%.0f', spent))
  local useful = 2 * ttl
  if rate > 0 then useful = math.max(useful, (burst - math.min(0, tokens)) / rate * 1000) end
  if daily > 0 then useful = math.max(useful, reply[3]) end
  redis.call('PEXPIRE', key, string.format('%.0f', useful + 1000))
  return {grant, string.format('%.6f', tokens), places, aim, free, day_grant, left}
end

for i = 2, #KEYS do
  local a = {}
  for j = 1, 17 do a[j] = tonumber(ARGV[3 + (i - 2) * 17 + j]) end
  reply[#reply + 1] = one(KEYS[i], unpack(a))
end
return reply
"""

_DIGEST = hashlib.sha1(LEASE.encode(), usedforsecurity=False).hexdigest()


class LeasingRefused(StoreUnavailable):
    """Redis is there and will not run the script (an ACL, a proxy, a replica): waiting does not mend this."""


class Shares:
    """The shares of one installation, for gateways that report on them."""

    def __init__(self, connection: Connection) -> None:
        self._keys = connection.keys
        self._client = connection.client

    async def lease(self, holder: str, reports: Sequence[Report]) -> tuple[Now, list[Grant]]:
        """Report as ``holder``, a name that no other process ever uses; one grant for each report, in order.

        Without any report it only says that this gateway is there. Raises StoreUnavailable, LeasingRefused.
        """
        keys = [self._keys.limits("@gateways"), *(self._keys.limits(report.tenant) for report in reports)]
        arguments: list[str | int | float] = [holder, round(TTL_S * 1000), round(HORIZON_S * 1000)]
        for report in reports:
            arguments += [
                report.rate_per_s, report.burst, report.concurrency, report.daily, report.serial,
                report.rate_used, report.rate_fresh, report.rate_held, report.rate_want, report.rate_alone,
                report.places_held, report.places_want,
                report.day, report.day_used, report.day_fresh, report.day_held, report.day_want,
            ]  # fmt: skip
        try:
            async with bounded(ANSWER_S):
                try:
                    answer = await self._client.evalsha(_DIGEST, len(keys), *keys, *arguments)
                except NoScriptError:
                    answer = await self._client.eval(LEASE, len(keys), *keys, *arguments)
        except (StoreUnavailable, StoreCorrupt) as error:
            if isinstance(error.__cause__, ResponseError):
                raise LeasingRefused(f"Redis does not give out shares of limits: {error.__cause__}") from error
            raise
        gateways, day, left_ms = answer[:3]
        return Now(gateways=gateways, day=day, day_left_s=left_ms / 1000), [_grant(row) for row in answer[3:]]


def _grant(row: Sequence[bytes | int]) -> Grant:
    rate, left, places, aim, free, day, day_left = row
    return Grant(
        rate=int(rate), rate_left=float(left), places=int(places), places_aim=int(aim), places_free=int(free),
        day=int(day), day_left=int(day_left),
    )  # fmt: skip
