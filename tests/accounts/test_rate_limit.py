"""Wrong passwords are counted for all nodes, and by each node alone while Redis is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.accounts.rate_limit import GUESSES_FROM_ONE_ADDRESS, GuessLimit, StoreStorage
from services.errors import RateLimited
from services.metrics import Metrics
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from tests.support.redis import RealRedis, redis_server, run, until

__all__ = ["redis_server"]

ACCOUNT, HERE, THERE = "ada@example.org", "192.0.2.1", "192.0.2.2"
ALLOWED = GUESSES_FROM_ONE_ADDRESS.amount


@asynccontextmanager
async def connected(server: RealRedis) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url, timeout=10)
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


async def guess(limit: GuessLimit, times: int, address: str = HERE) -> None:
    for _ in range(times):
        await limit.check(ACCOUNT, address)
        await limit.count(ACCOUNT, address)


def without_redis(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("usher_rate_limits_without_redis_total") or 0.0


def test_guesses_on_all_nodes_count_together(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server) as store, connected(redis_server) as other:
            metrics = Metrics()
            one, two = GuessLimit(store, metrics), GuessLimit(other, metrics)
            await guess(one, ALLOWED // 2)
            await guess(two, ALLOWED - ALLOWED // 2)
            for node in (one, two):
                with pytest.raises(RateLimited):
                    await node.check(ACCOUNT, HERE)
            await one.check(ACCOUNT, THERE)  # the owner is elsewhere
            assert without_redis(metrics) == 0

    run(work())
    keys = redis_server.ask("KEYS", "usher:limits:*")
    assert keys
    assert all(0 < redis_server.ask("TTL", key) <= 3600 for key in keys)
    assert not any(b"ada" in key for key in keys)


def test_each_node_counts_alone_while_redis_is_away(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server) as store:
            metrics = Metrics()
            limit = GuessLimit(store, metrics)
            redis_server.kill()
            await until(lambda: not store.available)
            await guess(limit, ALLOWED)
            with pytest.raises(RateLimited):
                await limit.check(ACCOUNT, HERE)
            assert without_redis(metrics) > 0

    run(work())


def test_a_window_begins_with_its_first_hit_and_ends() -> None:
    async def work() -> None:
        now = 1000.0
        store = MemoryStore(clock=lambda: now)
        counters = StoreStorage(store)
        assert [await counters.incr("k", 10), await counters.incr("k", 10, 3)] == [1, 4]
        now += 9
        assert [await counters.incr("k", 10), await counters.get("k")] == [5, 5]
        now += 1
        assert [await counters.get("k"), await counters.incr("k", 10)] == [0, 1]
        # Without an end, as after a crash between two commands, it would lock for ever.
        await store.call(("SET", "usher:limits:k", 7))
        assert await counters.incr("k", 10) == 8
        assert await store.call(("TTL", "usher:limits:k")) == [10]

    run(work())
