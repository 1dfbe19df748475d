"""The scripts that append a message to a room's log in Redis and publish it.

One script does both, so messages are published in the order of the log.
"""

from __future__ import annotations

# The counter `n` shows whether the log still begins with the room's first message, and where one
# is missing. KEYS[4] lists the ids of one sender's messages, up to the sender's share of the log;
# some of them may have been trimmed. All keys share the room's hash tag, so that a cluster stores
# them on one node. Redis does not roll back a script that fails: if PUBLISH is refused (ACL), the
# script removes the message from the log itself.
KEEP = """
local n = redis.call('INCR', KEYS[2])
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'n', n, 'm', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local published = redis.pcall('PUBLISH', KEYS[3], 'k' .. id .. ' ' .. ARGV[3])
if type(published) ~= 'number' then
  redis.call('XDEL', KEYS[1], id)
  redis.call('DECR', KEYS[2])
  return redis.error_reply('NOPERM ' .. published.err)
end
if KEYS[4] then
  local kept = redis.call('RPUSH', KEYS[4], id)
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
  local share = tonumber(ARGV[4])
  if kept > share and redis.call('XLEN', KEYS[1]) > tonumber(ARGV[1]) then
    while kept > share do
      kept = kept - 1
      if redis.call('XDEL', KEYS[1], redis.call('LPOP', KEYS[4])) == 1 then break end
    end
  end
end
return id
"""
# The same for a Redis whose clock may be behind: ARGV[5] is the earliest time that it may be
# (log_clock.py). Redis 6.2 does not accept a partial id, so the script builds the whole id.
KEEP_LATE = """
local own_id, floor, t = '*', tonumber(ARGV[5]), redis.call('TIME')
if floor - (t[1] * 1000 + math.floor(t[2] / 1000)) > tonumber(ARGV[6]) then
  local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  local ms, number = string.match(top and top[1] or '0-0', '(%d+)-(%d+)')
  own_id = string.format('%.0f-0', floor)
  if tonumber(ms) >= floor then own_id = string.format('%s-%.0f', ms, number + 1) end
end
""" + KEEP.replace("'*'", "own_id")
