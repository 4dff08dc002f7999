"""The atomic steps of the store, as Redis runs them. Only `routing.store` uses them.

A script sees no other client's work half done, which is what makes a table change
whole and a lease's end unambiguous.
"""

PUBLISH = """
-- KEYS table, history, channel; ARGV base version, new version, publication, document, version to forget
-- gives {1, new version} when the document now stands, else {0, the version that stands instead}
for i = 1, 2 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[i]) end
end
local standing = tonumber(redis.call('HGET', KEYS[1], 'version') or '0') or 0
if standing == tonumber(ARGV[2]) and redis.call('HGET', KEYS[1], 'publication') == ARGV[3] then
  return {1, standing}  -- this very call, sent again because its reply was lost
end
if standing ~= tonumber(ARGV[1]) then return {0, standing} end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'publication', ARGV[3], 'document', ARGV[4])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('HDEL', KEYS[2], ARGV[5])
redis.call('PUBLISH', KEYS[3], ARGV[3])
return {1, tonumber(ARGV[2])}
"""

LIVE_LEASES = """
-- KEYS names of one kind; ARGV prefix of the lease keys; forgets the names whose lease has run out
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
