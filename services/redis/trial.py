"""The commands that are tried before a Redis server is used."""

from __future__ import annotations

from services.redis.store import Command

TRIAL_MS = 60_000


def trial(tag: str) -> tuple[Command, ...]:
    """Every command that Usher needs, once, on keys with this hash tag, which expire soon.

    They are tried before a server is used. If the server refuses one, it is not used, and the
    log names the command, which shows which right is missing in the ACL.
    """
    key = f"usher:{{{tag}}}:"
    text, number, sorted_set, table, ids, log, channel = (
        key + name for name in ("text", "number", "zset", "hash", "list", "log", "said")
    )
    script = "return redis.call('PEXPIRE', KEYS[1], ARGV[1])"
    return (
        ("SET", text, b"1", "PX", TRIAL_MS, "GET"),
        ("GET", text),
        ("MGET", text),
        ("EXISTS", text),
        ("PTTL", text),
        ("GETDEL", text),
        ("INCR", number),
        ("EXPIRE", number, TRIAL_MS // 1000),
        ("TTL", number),
        ("DECR", number),
        ("ZADD", sorted_set, 1, b"a"),
        ("PEXPIRE", sorted_set, TRIAL_MS),
        ("ZRANGEBYSCORE", sorted_set, "-inf", "+inf"),
        ("ZCARD", sorted_set),
        ("ZREM", sorted_set, b"a"),
        ("ZREMRANGEBYSCORE", sorted_set, "-inf", "+inf"),
        ("HSET", table, b"f", b"1"),
        ("HGET", table, b"f"),
        ("HGETALL", table),
        ("HDEL", table, b"f"),
        ("RPUSH", ids, b"a"),
        ("LREM", ids, 1, b"a"),
        ("LPOP", ids),
        ("XADD", log, "MAXLEN", "~", 1, "*", "n", 1),
        ("XRANGE", log, "-", "+", "COUNT", 1),
        ("XREVRANGE", log, "+", "-", "COUNT", 1),
        ("XDEL", log, "0-1"),
        ("XLEN", log),
        ("EVAL", script, 1, log, TRIAL_MS),
        ("PUBLISH", channel, b""),
        ("SUBSCRIBE", channel),
        ("UNSUBSCRIBE", channel),
        ("DEL", log),
        ("TIME",),
    )


def write_probe(tag: str) -> Command:
    """A command that writes a key that expires soon."""
    return ("SET", f"usher:{{{tag}}}:text", b"1", "PX", TRIAL_MS)
