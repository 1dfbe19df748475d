"""A bus in memory or over a real Redis, and a listener that records what it hears."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from services.bus.bus import SENDER_BYTES, Bus, LoggedMessage, Window, id_order
from services.bus.bus_memory import MemoryBus
from services.bus.bus_redis import RedisBus
from services.redis.store_redis import RedisStore
from tests.support.parts import Clock
from tests.support.redis import PATIENCE, RealRedis, until, within

ROOM = "channel:herons"


@dataclass
class Ear:
    """A listener that records its calls."""

    kept_messages: list[tuple[str, LoggedMessage]] = field(default_factory=list)
    said: list[tuple[str, bytes]] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def logged(self, room: str, message: LoggedMessage) -> None:
        self.kept_messages.append((room, message))

    def ephemeral(self, room: str, body: bytes) -> None:
        self.said.append((room, body))

    def gap(self, room: str) -> None:
        self.gaps.append(room)

    def bodies(self, room: str = ROOM) -> list[bytes]:
        return [message.body for where, message in self.kept_messages if where == room]

    def ids(self, room: str = ROOM) -> list[str]:
        return [message.id for where, message in self.kept_messages if where == room]

    async def hears(self, count: int) -> None:
        """Wait until so many messages of either kind came, and no more."""
        await until(lambda: len(self.kept_messages) + len(self.said) >= count)
        await asyncio.sleep(0.01)
        assert len(self.kept_messages) + len(self.said) == count


@dataclass
class Installation:
    """A bus with a listener."""

    bus: Bus
    ear: Ear
    clock: Clock | None

    async def later(self, seconds: float) -> None:
        """Let time pass. Redis has a clock of its own, which no test can turn."""
        if self.clock is not None:
            self.clock.forward(seconds)
        else:
            await asyncio.sleep(seconds)

    def now(self) -> float:
        return self.clock() if self.clock is not None else time.time()

    async def hear(self, *rooms: str) -> None:
        await received(self.bus, *rooms)

    async def say(self, *bodies: bytes, room: str = ROOM) -> list[str]:
        return [await self.bus.keep(room, body) for body in bodies]

    async def read(self, after: str | None = None, limit: int = 100, since: float = 0.0) -> Window:
        window = await self.bus.read(ROOM, after, limit, since)
        ids = [message.id for message in window.messages]
        assert ids == sorted(set(ids), key=id_order), "oldest first, each once"
        return window


async def received(bus: Bus, *rooms: str) -> None:
    """Subscribe, and wait until it is certain."""
    for future in [bus.subscribe(room) for room in rooms]:
        if future is not None:
            await within(future)


def said(window: Window) -> list[bytes]:
    return [message.body for message in window.messages]


@asynccontextmanager
async def installation(
    redis: RealRedis | None,
    messages: int = 1000,
    seconds: float = 3600.0,
    sender_bytes: int = SENDER_BYTES,
) -> AsyncIterator[Installation]:
    clock = Clock() if redis is None else None
    store = None
    if redis is None:
        assert clock is not None
        bus: Bus = MemoryBus(messages, seconds, clock, sender_bytes)
    else:
        store = RedisStore(redis.url, timeout=PATIENCE)
        await store.connect()
        over_redis = RedisBus(redis.url, store, messages, seconds, sender_bytes=sender_bytes)
        await over_redis.open()
        bus = over_redis
    ear = Ear()
    bus.listen(ear)
    try:
        yield Installation(bus, ear, clock)
    finally:
        await bus.close()
        if store is not None:
            await store.close()


@pytest.fixture(params=["memory", "redis"])
def redis(request: pytest.FixtureRequest) -> Iterator[RealRedis | None]:
    """A real Redis whose streams are trimmed to the message; None: all in memory."""
    if request.param == "memory":
        yield None
        return
    server = RealRedis("--stream-node-max-entries", "1")
    yield server
    server.close()
