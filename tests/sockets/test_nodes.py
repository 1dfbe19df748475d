"""The active nodes, by leases in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from services.errors import StoreUnavailable
from services.redis.store import Store
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.sockets.nodes import NODES_KEY, Nodes
from services.sockets.session_pool import LEASE_SECONDS, RENEW_SECONDS
from tests.support.parts import Clock
from tests.support.redis import PATIENCE, RealRedis, redis_server, until

__all__ = ["redis_server"]


@pytest.fixture(params=["redis", "memory"])
def redis(request: pytest.FixtureRequest) -> Iterator[RealRedis | None]:
    server = RealRedis() if request.param == "redis" else None
    yield server
    if server is not None:
        server.close()


@asynccontextmanager
async def nodes(redis: RealRedis | None, *names: str) -> AsyncIterator[tuple[Clock, list[Nodes]]]:
    clock = Clock()
    store: Store = MemoryStore(clock=clock)
    if redis is not None:
        store = RedisStore(redis.url, timeout=PATIENCE)
        await store.connect()
    try:
        yield clock, [Nodes(store, name, clock) for name in names]
    finally:
        await store.close()


@pytest.mark.gen_test
async def test_a_node_that_renews_its_lease_is_active_for_all(redis: RealRedis | None) -> None:
    async with nodes(redis, "a", "b") as (_, (a, b)):
        assert await a.active() == {"a"}, "oneself one knows to live"
        await asyncio.gather(a.renew(), b.renew())
        assert await a.active() == await b.active() == {"a", "b"}


@pytest.mark.gen_test
async def test_a_dead_node_is_gone_with_its_lease_and_not_before(redis: RealRedis | None) -> None:
    assert LEASE_SECONDS == 30.0, "the contract"
    async with nodes(redis, "a", "dead") as (clock, (a, dead)):
        await dead.renew()
        for _ in range(2):
            clock.forward(RENEW_SECONDS)
            await a.renew()
            assert await a.active() == {"a", "dead"}
        clock.forward(RENEW_SECONDS + 0.001)
        assert await a.active() == {"a"}
        await a.renew()
        assert await dead.active() == {"a", "dead"}
        await dead.renew()
        assert await a.active() == {"a", "dead"}, "it was only away"


@pytest.mark.gen_test
async def test_a_node_that_stops_is_gone_at_once(redis: RealRedis | None) -> None:
    async with nodes(redis, "a", "b") as (_, (a, b)):
        await asyncio.gather(a.renew(), b.renew())
        await b.leave()
        await b.leave()
        assert await a.active() == {"a"}


@pytest.mark.gen_test
async def test_the_dead_are_removed_by_a_renewal(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", *(f"dead{n}" for n in range(20))) as (clock, made):
        for each in made:
            await each.renew()
        clock.forward(LEASE_SECONDS + 1)
        await made[0].renew()
        assert redis_server.ask("ZRANGE", NODES_KEY, 0, -1) == [b"a"]


@pytest.mark.gen_test
async def test_without_redis_no_node_counts_as_dead(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        redis_server.kill()
        await until(lambda: not a._store.available)
        for question in (a.renew(), a.leave(), a.active()):
            with pytest.raises(StoreUnavailable):
                await question
