"""A call to a Redis Cluster, split by the nodes of its slots."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from hiredis import ReplyError

from services.redis.link import Group, failed
from services.redis.store import Command
from services.redis.store_redis import RedisStore


class Reply:
    """Assembles the replies of one call from its parts."""

    __slots__ = ("_future", "_missing", "_replies")

    def __init__(self, future: asyncio.Future[list[Any]], count: int) -> None:
        self._future = future
        self._missing = count
        self._replies: list[Any] = []

    def put_all(self, places: Sequence[int], replies: list[Any]) -> None:
        """Put the replies of one node in their places."""
        if len(replies) < self._missing or self._replies:
            for number, reply in zip(places, replies, strict=True):
                self.put(number, reply)
        elif not self._future.done():  # one node had it all, the usual case
            self._future.set_result(replies)

    def put(self, number: int, reply: Any) -> None:
        """Put one reply in its place."""
        if not self._replies:
            self._replies = [None] * self._missing
        self._replies[number] = reply
        self._missing -= 1
        if not self._missing and not self._future.done():
            self._future.set_result(self._replies)

    def fail(self, reason: str) -> None:
        """Fail the call, once."""
        if not self._future.done():
            failed(self._future, reason)


class Sorter(Protocol):
    """The cluster's store, as a part uses it."""

    def sort_out(self, part: Part, commands: Iterable[Command], replies: Iterable[Any]) -> None:
        """Take replies of a part with refusals among them."""


class Part(Group):
    """The commands of one call that go to one node.

    `places` are the positions of their replies among the replies of the call.
    """

    __slots__ = ("_asking", "_cluster", "node", "places", "reply", "tries")

    def __init__(
        self,
        cluster: Sorter,
        node: RedisStore | None,
        reply: Reply,
        commands: tuple[Command, ...],
        places: Sequence[int],
        tries: int = 1,
        asking: bool = False,
    ) -> None:
        super().__init__(commands)
        self._cluster, self.node, self.reply = cluster, node, reply
        self.places, self.tries, self._asking = places, tries, asking

    def take(self, replies: list[Any]) -> None:
        commands: Sequence[Command] = self.commands
        if self._asking:
            commands, replies = commands[1::2], replies[1::2]
        if ReplyError in map(type, replies):
            self._cluster.sort_out(self, commands, replies)
        else:
            self.reply.put_all(self.places, replies)

    def fail(self, reason: str) -> None:
        self.reply.fail(reason)
