"""The port to the shared key-value store: Redis, or the memory of this process.

Both implementations take Redis commands and return Redis replies, so every rule above is written
once. The commands that both support:

    GET MGET SET [EX|PX] [NX|GET] GETDEL DEL EXISTS INCR PING
    EXPIRE PEXPIRE TTL PTTL
    ZADD ZREM ZRANGEBYSCORE [WITHSCORES] [LIMIT] ZREMRANGEBYSCORE ZCARD
    HSET HGET HGETALL HDEL

Replies are RESP2 as Redis sends them: texts are `bytes`, counts are `int`, nothing is `None`,
`SET` gives `b"OK"`, with GET what was there before, and `HGETALL` is one flat list of fields and
values in no fixed order.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeAlias

Command: TypeAlias = tuple[str | bytes | int | float, ...]
"""One command, for example `("SET", key, value, "EX", 30)`; `str` travels as UTF-8."""


class Store(Protocol):
    """A store of short-lived facts that the nodes of one installation share."""

    @property
    def kind(self) -> str:
        """`"redis"` or `"memory"`."""

    @property
    def available(self) -> bool:
        """False while the backend does not answer; in memory always true."""

    def epoch(self, key: str) -> str | None:
        """Which memory holds a key now, as redis/epoch.py has it; None where it is not known."""

    def call(self, *commands: Command) -> Awaitable[list[Any]]:
        """Issues a group of commands at once: when called, not when awaited.

        The group's commands run in their order, and groups in the order of their calls, but a
        group is no transaction: other nodes' commands may come in between, and an error in one
        command does not stop those after it. A caller that is cancelled, or never awaits,
        withdraws nothing.

        Commands that block or do not give exactly one reply (BLPOP, XREAD BLOCK, SUBSCRIBE,
        MONITOR, CLIENT REPLY) must not be sent: the connection is shared by everybody.

        Returns:
            An awaitable of the replies, one for each command, in order.

        Raises:
            StoreUnavailable: when awaited: the backend is gone, did not answer in time, has too
                much waiting, or answered one of the commands with an error. Commands of a group
                that fails may have been carried out. A failure that nobody awaits is dropped
                without the loop's "exception was never retrieved".
            TypeError, ValueError: at once: an argument that is no text, bytes or number, a text
                that is not valid Unicode, or an empty command. Nothing was issued then.
        """

    async def close(self) -> None:
        """Close the connection. Pending groups fail with StoreUnavailable."""
