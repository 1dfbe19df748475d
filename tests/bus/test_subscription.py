"""The subscription over a real Redis, disconnected at exact points."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.bus.log_keys import channel
from services.bus.subscription import Subscription
from services.event_loop.loop_watch import never_stalled
from services.redis.address import RedisAddress
from services.redis.store_redis import RedisStore
from tests.bus.ears import Ear
from tests.support.redis import RealRedis, redis_server, until, within

__all__ = ["redis_server"]

ROOM = "channel:herons"


class CutWhileItIsMade(RedisAddress):
    """Connections that Redis closes before whoever asked for one knows that it is there.

    Attributes:
        cuts: how many more.
        made: how many were asked for.
    """

    def __init__(self, redis: RealRedis, cuts: int) -> None:
        super().__init__(redis.url)
        self._redis, self.cuts, self.made = redis, cuts, 0

    async def connect(self, protocol: asyncio.Protocol) -> None:
        self.made += 1
        await super().connect(protocol)
        if self.cuts:
            self.cuts -= 1
            lost = asyncio.Event()
            reported = protocol.connection_lost

            def connection_lost(exc: Exception | None) -> None:
                reported(exc)
                lost.set()

            protocol.connection_lost = connection_lost  # type: ignore[method-assign]  # to know when
            self._redis.ask("CLIENT", "KILL", "TYPE", "normal")
            await lost.wait()


@asynccontextmanager
async def subscription(
    redis: RealRedis, address: RedisAddress
) -> AsyncIterator[tuple[Subscription, Ear]]:
    ear, store = Ear(), RedisStore(redis.url)
    made = Subscription(address, store, never_stalled, lambda: None)
    made.listener = ear
    try:
        yield made, ear
    finally:
        await made.close()
        await store.close()


async def is_heard(redis: RealRedis, ear: Ear) -> None:
    await until(lambda: redis.ask("PUBSUB", "NUMSUB", channel(ROOM))[1] == 1)
    redis.ask("PUBLISH", channel(ROOM), b"p" + b"hello")
    await until(lambda: ear.said == [(ROOM, b"hello")])


@pytest.mark.gen_test
async def test_a_line_that_is_cut_while_it_is_made_is_made_anew(redis_server: RealRedis) -> None:
    address = CutWhileItIsMade(redis_server, 1)
    async with subscription(redis_server, address) as (made, ear):
        await made.open()
        waiting = made.subscribe(ROOM)
        if waiting is not None:
            await within(waiting)  # a line that is gone keeps no join waiting
        await is_heard(redis_server, ear)
        assert ear.gaps == [ROOM], "what was said meanwhile is read from the log"


@pytest.mark.gen_test
async def test_one_that_is_cut_again_while_it_is_made_anew_is_too(redis_server: RealRedis) -> None:
    address = CutWhileItIsMade(redis_server, 0)
    async with subscription(redis_server, address) as (made, ear):
        await made.open()
        waiting = made.subscribe(ROOM)
        assert waiting is not None
        await within(waiting)
        address.cuts = 2
        redis_server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: address.made == 4)
        await is_heard(redis_server, ear)
        assert ear.gaps == [ROOM]


@pytest.mark.gen_test
async def test_any_failure_of_a_connection_leads_to_the_next_one(
    redis_server: RealRedis, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(RedisAddress):
        faults = 1

        async def connect(self, protocol: asyncio.Protocol) -> None:
            if self.faults:
                self.faults -= 1
                raise KeyError("of a kind that nobody foresaw")
            await super().connect(protocol)

    async with subscription(redis_server, Faulty(redis_server.url)) as (made, ear):
        await made.open()
        assert made.subscribe(ROOM) is None
        await is_heard(redis_server, ear)
    assert "nobody foresaw" in caplog.text
