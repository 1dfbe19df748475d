"""The port to the shared key-value store: Redis, or the memory of this process.

Every implementation takes Redis commands and returns Redis replies, so the rules that use the store
are written once. The commands that all of them support:

    GET MGET SET [EX|PX] [NX|GET] GETDEL DEL EXISTS INCR PING
    EXPIRE PEXPIRE TTL PTTL
    ZADD ZREM ZRANGEBYSCORE [WITHSCORES] [LIMIT] ZREMRANGEBYSCORE ZCARD
    HSET HGET HGETALL HDEL

Replies are RESP2 values: strings are `bytes`, integers are `int`, and a null reply is `None`.
`SET` returns `b"OK"`, or with GET the previous value. `HGETALL` returns one flat list of fields
and values in no fixed order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeAlias

Command: TypeAlias = tuple[str | bytes | int | float, ...]
"""One command, for example `("SET", key, value, "EX", 30)`; `str` travels as UTF-8."""


Then: TypeAlias = "Callable[[list[Any] | None], object]"
"""What becomes of the replies to a group; None: it failed."""


class Store(Protocol):
    """A store of short-lived keys that the nodes of one installation share."""

    @property
    def kind(self) -> str:
        """`"redis"` or `"memory"`."""

    @property
    def available(self) -> bool:
        """False while the backend does not answer; in memory always true."""

    @property
    def nearly_full(self) -> bool:
        """Whether little is left of the memory that the backend may use, when it last said so."""

    @property
    def memory_share(self) -> float:
        """The part of that memory that is used, from 0 up; 0.0 if it has no limit."""

    def look_at_memory(self) -> None:
        """Ask the backend how much memory it uses. Does not wait. Call it every second or so."""

    def epoch(self, key: str) -> str | None:
        """The epoch (redis/epoch.py) of the server that holds a key; None if it is not known."""

    def call(self, *commands: Command) -> Awaitable[list[Any]]:
        """Issue a group of commands. They are issued when this is called, not when it is awaited.

        The commands of a group run in order, and groups run in the order of the calls. A group
        is not a transaction: commands of other nodes may run in between, and an error in one
        command does not stop the commands after it. Cancelling or never awaiting the result
        does not withdraw the commands.

        Commands that block or do not return exactly one reply (BLPOP, XREAD BLOCK, SUBSCRIBE,
        MONITOR, CLIENT REPLY) must not be sent, because all callers share the connection.

        Returns:
            An awaitable of the replies, one for each command, in order.

        Raises:
            StoreUnavailable: when awaited: the backend is unavailable, did not reply in time, has
                too many pending groups, or replied to one of the commands with an error. Commands
                of a failed group may have been executed. A failure that is never awaited is not
                logged.
            TypeError, ValueError: when called: an argument is not text, bytes or a number, a text
                is not valid Unicode, or a command is empty. Nothing is issued then.
        """

    def tell(self, *commands: Command, then: Then | None = None) -> None:
        """Issue a group like `call`, for which nobody waits: it takes no future.

        Args:
            then: called once with the replies, or with None where `call` would raise
                StoreUnavailable. It must not wait.

        Raises:
            TypeError, ValueError: as `call`.
        """

    async def close(self) -> None:
        """Close the connection. Pending groups fail with StoreUnavailable."""


def pass_on(answer: asyncio.Future[list[Any]], then: Then | None) -> None:
    """`Store.tell` by way of the future of a `call`."""
    if then is not None:
        answer.add_done_callback(partial(_pass, then))


def _pass(then: Then, answer: asyncio.Future[list[Any]]) -> None:
    then(None if answer.cancelled() or answer.exception() is not None else answer.result())
