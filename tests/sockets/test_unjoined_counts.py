"""The counts of connections per address that nodes share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.errors import StoreUnavailable
from services.sockets.nodes import Nodes
from services.sockets.unjoined_counts import MAX_TOLD, UnjoinedCounts
from tests.support.parts import CountingStore, redis_pair
from tests.support.redis import RealRedis, redis_server, until

__all__ = ["redis_server"]

MOST = 100


@asynccontextmanager
async def counting(redis: RealRedis, *names: str) -> AsyncIterator[list[UnjoinedCounts]]:
    """Nodes that live."""
    store, bus = await redis_pair(redis)
    try:
        found = []
        for name in names:
            nodes = Nodes(CountingStore(store), name)
            await nodes.renew()
            found.append(UnjoinedCounts(CountingStore(store), nodes, MOST))
        yield found
    finally:
        await bus.close()
        await store.close()


@pytest.mark.gen_test
async def test_nodes_add_up_the_counts_of_all_nodes(redis_server: RealRedis) -> None:
    async with counting(redis_server, "a", "b", "c") as (a, b, c):
        a.watch({"192.0.2.1": 40, "2001:db8::/64": 7})
        b.watch({"192.0.2.1": 30})
        for _ in range(2):
            await asyncio.gather(*(each.share() for each in (a, b, c)))
        assert [each.elsewhere("192.0.2.1") for each in (a, b, c)] == [30, 40, 70]
        assert c.elsewhere("2001:db8::/64") == 7
        assert c.elsewhere("192.0.2.2") == 0
        b.watch({})
        await b.share()
        await a.share()
        assert a.elsewhere("192.0.2.1") == 0


@pytest.mark.gen_test
async def test_only_the_largest_counts_of_connections_are_shared(
    redis_server: RealRedis,
) -> None:
    async with counting(redis_server, "a", "b") as (a, b):
        least = MOST // 20
        a.watch({"few": least - 1, "some": least})
        await a.share()
        await b.share()
        assert (b.elsewhere("few"), b.elsewhere("some")) == (0, least)
        a.watch({f"n{number}": least + number for number in range(MAX_TOLD + 10)})
        await a.share()
        await b.share()
        assert (b.elsewhere("n9"), b.elsewhere("n10")) == (0, least + 10)


@pytest.mark.gen_test
async def test_redis_contains_no_address_and_reports_of_a_dead_node_expire(
    redis_server: RealRedis,
) -> None:
    async with counting(redis_server, "a", "b") as (a, b):
        a.watch({"192.0.2.1": 40})
        await a.share()
        key = "usher:{nodes}:unjoined:a"
        assert b"192.0.2" not in redis_server.ask("GET", key)
        assert 0 < redis_server.ask("PTTL", key) <= 5000
        await b.share()
        assert b.elsewhere("192.0.2.1") == 40


@pytest.mark.gen_test
async def test_a_node_alone_or_without_redis_counts_for_itself(redis_server: RealRedis) -> None:
    async with counting(redis_server, "a") as (a,):
        a.watch({"192.0.2.1": 40})
        await a.share()
        assert redis_server.ask("GET", "usher:{nodes}:unjoined:a") is None
    async with counting(redis_server, "a", "b") as (a, b):
        b.watch({"192.0.2.1": 40})
        await b.share()
        await a.share()
        assert a.elsewhere("192.0.2.1") == 40
        redis_server.kill()
        await until(lambda: _is_away(a))
        with pytest.raises(StoreUnavailable):
            await a.share()
        assert a.elsewhere("192.0.2.1") == 0


@pytest.mark.gen_test
async def test_without_redis_the_processes_beside_this_one_are_taken_to_have_as_many(
    redis_server: RealRedis,
) -> None:
    async with counting(redis_server, "a") as (a,):
        of_three = UnjoinedCounts(a._store, a._nodes, MOST, processes=3)
        of_three.watch({"192.0.2.1": 40})
        await of_three.share()
        assert of_three.elsewhere("192.0.2.1") == 0
        redis_server.kill()
        await until(lambda: _is_away(a))
        with pytest.raises(StoreUnavailable):
            await of_three.share()
        assert of_three.elsewhere("192.0.2.1") == 80
        assert of_three.elsewhere("192.0.2.2") == 0


def _is_away(counts: UnjoinedCounts) -> bool:
    return not counts._store.available
