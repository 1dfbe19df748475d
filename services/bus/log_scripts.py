"""The scripts that append a message to a room's log in Redis and publish it.

One script does both, so messages are published in the order of the log.
"""

from __future__ import annotations

# The counter `n` shows whether the log still begins with the room's first message, and where one
# is missing. KEYS[4] lists the ids of one sender's messages, up to the sender's share of the log;
# some of them may have been trimmed. KEYS[5] is there for a large message: a stream of the sender's
# large messages, each with the sum of the bytes before it and with it, so that the bytes of all of
# them are a difference. Beyond ARGV[5] bytes the oldest are removed, because the number of messages
# alone does not limit the memory that one sender takes. All keys share the room's hash tag, so that
# a cluster stores them on one node. Redis does not roll back a script that fails: if PUBLISH is
# refused (ACL), the script removes the message from the log itself.
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
if KEYS[5] then
  local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
  local before = last and tonumber(last[2][6]) or 0
  local sum, number = before + #ARGV[3], '%.0f'
  redis.call('XADD', KEYS[5], '*', 'm', id, 'b', number:format(before), 's', number:format(sum))
  redis.call('PEXPIRE', KEYS[5], ARGV[2])
  while true do
    local first = redis.call('XRANGE', KEYS[5], '-', '+', 'COUNT', 1)[1]
    if first[2][2] == id or sum - tonumber(first[2][4]) <= tonumber(ARGV[5]) then break end
    redis.call('XDEL', KEYS[5], first[1])
    redis.call('XDEL', KEYS[1], first[2][2])
    redis.call('LREM', KEYS[4], 1, first[2][2])  -- else the list would grow without end
  end
end
return id
"""
# The same for a Redis whose clock may be behind: ARGV[6] is the earliest time that it may be
# (log_clock.py). Redis 6.2 does not accept a partial id, so the script builds the whole id.
KEEP_LATE = """
local own_id, floor, t = '*', tonumber(ARGV[6]), redis.call('TIME')
if floor - (t[1] * 1000 + math.floor(t[2] / 1000)) > tonumber(ARGV[7]) then
  local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  local ms, number = string.match(top and top[1] or '0-0', '(%d+)-(%d+)')
  own_id = string.format('%.0f-0', floor)
  if tonumber(ms) >= floor then own_id = string.format('%s-%.0f', ms, number + 1) end
end
""" + KEEP.replace("'*'", "own_id")
# The same for a Redis that is nearly full, where logs must not grow. A message takes the bytes of
# its sender's oldest ones, a large one those of large ones (KEYS[6]); KEYS[5] has what is left of
# them for the next. If they are too few, only an entry without the text is added, which shows that
# a message is missing. The next entry takes its place, whose number shows the same. So nobody's
# messages are displaced by others. The last two arguments are the bytes that are counted around
# each text, and whether it is kept: 0 while memory is so short that texts are only removed.
_MAKE_ROOM = """
local freed, around = tonumber(redis.call('GET', KEYS[5]) or '0'), tonumber(ARGV[#ARGV - 1])
local may, need = ARGV[#ARGV] == '1', #ARGV[3] + around
for _ = 1, 1000 do  -- many may have been trimmed
  if freed >= need then break end
  local oldest, first
  if KEYS[6] then
    first = redis.call('XRANGE', KEYS[6], '-', '+', 'COUNT', 1)[1]
    if first then
      oldest = first[2][2]
      redis.call('XDEL', KEYS[6], first[1])
      redis.call('LREM', KEYS[4], 1, oldest)
    end
  else
    oldest = redis.call('LPOP', KEYS[4])
  end
  if not oldest then break end
  local entry = redis.call('XRANGE', KEYS[1], oldest, oldest)[1]
  if entry and #entry[2] > 2 then
    freed = freed + #entry[2][4] + around
    redis.call('XDEL', KEYS[1], oldest)
  end
end
local keeps = may and freed >= need
if keeps or not may then freed = math.max(0, freed - need) end
if freed > 0 then
  redis.call('SET', KEYS[5], string.format('%.0f', freed), 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[5])
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest and #newest[2] == 2 then redis.call('XDEL', KEYS[1], newest[1]) end
local id
if keeps then
  id = ADD_TEXT
else
  id = ADD_NOTHING
end
"""


def _in_place(script: str) -> str:
    line = next(line for line in script.splitlines() if line.startswith("local id = "))
    add = line.removeprefix("local id = ")
    make_room = _MAKE_ROOM.replace("ADD_TEXT", add)
    make_room = make_room.replace("ADD_NOTHING", add.replace(", 'm', ARGV[3])", ")"))
    script = script.replace("KEYS[5]", "KEYS[6]").replace("if KEYS[", "if keeps and KEYS[")
    return script.replace(line, make_room)


KEEP_IN_PLACE, KEEP_IN_PLACE_LATE = _in_place(KEEP), _in_place(KEEP_LATE)
