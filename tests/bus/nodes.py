"""The bus of several nodes over one real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.bus.bus_redis import RedisBus
from services.bus.log_keys import channel
from services.errors import StoreUnavailable
from services.redis.store_redis import RedisStore
from tests.bus.ears import Ear
from tests.support.redis import RealRedis, until

ROOM = "channel:herons"


class Node:
    """A bus of one node with its store."""

    def __init__(self, redis: RealRedis, url: str | None = None, timeout: float = 1.0) -> None:
        self.redis = redis
        self.store = RedisStore(redis.url, timeout=timeout)
        self.bus = RedisBus(url or redis.url, self.store, 10_000, 3600.0)
        self.ear = Ear()
        self.bus.listen(self.ear)

    async def say(self, body: bytes, room: str = ROOM) -> str:
        """Say it until Redis takes it."""
        while True:
            try:
                return await self.bus.keep(room, body)
            except StoreUnavailable:
                await asyncio.sleep(0.01)

    async def is_heard(self, room: str = ROOM) -> None:
        """Wait until Redis has a subscriber of the room."""
        await until(lambda: listeners(self.redis, room) > 0)


@asynccontextmanager
async def node(redis: RealRedis, url: str | None = None) -> AsyncIterator[Node]:
    made = Node(redis, url)
    await made.store.connect()
    await made.bus.open()
    try:
        yield made
    finally:
        await made.bus.close()
        await made.store.close()


def listeners(redis: RealRedis, room: str) -> int:
    _, count = redis.ask("PUBSUB", "NUMSUB", channel(room))
    return int(count)


def hang_up(redis: RealRedis, kind: str = "pubsub") -> int:
    """Redis closes connections of a kind. Returns how many."""
    return int(redis.ask("CLIENT", "KILL", "TYPE", kind))


def stat(redis: RealRedis, section: str, name: str) -> int:
    lines = redis.ask("INFO", section).decode().splitlines()
    return int(next(line.partition(":")[2] for line in lines if line.startswith(f"{name}:")))


def calls(redis: RealRedis, command: str) -> int:
    lines = redis.ask("INFO", "commandstats").decode().splitlines()
    found = [line for line in lines if line.startswith(f"cmdstat_{command}:")]
    return int(found[0].partition("calls=")[2].partition(",")[0]) if found else 0
