"""Hourly limits: exact under concurrency, and over all nodes while Redis is available."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.errors import RateLimited
from services.limits.hourly import WINDOW_SECONDS, HourlyLimits, Limit, Limits, limits_of
from services.metrics import Metrics
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from tests.support.parts import Clock, CountingStore, settings_of_tests
from tests.support.redis import RealRedis, redis_server, run, until

__all__ = ["redis_server"]

LIMITS = limits_of(settings_of_tests())
TEN, FIVE = Limit("ten", 10), Limit("five", 5)
FINAL = Limit("final", 3, is_final=True)
NONE = Limit("none", 0)
HERE = "2001:db8::/64"


@asynccontextmanager
async def connected(server: RealRedis) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url, timeout=10)
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


def without_redis(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("usher_rate_limits_without_redis_total") or 0.0


async def taken(limits: HourlyLimits, limit: Limit, key: str, times: int) -> int:
    """How many of so many parallel takes there was one for."""
    takes = await asyncio.gather(*(limits.take((limit, key)) for _ in range(times)))
    return sum(each.waits == (None,) for each in takes)


def test_the_defaults_are_those_of_the_contract() -> None:
    def amount(limit: Limit) -> int:
        return limit.amount

    of: Limits = LIMITS
    assert list(map(amount, (of.signups, of.wrong_signins, of.bad_tokens))) == [60, 100, 100]
    assert list(map(amount, (of.signins, of.refreshes, of.tickets))) == [60, 240, 1200]
    assert list(map(amount, (of.mails, of.mailbox))) == [20, 5]


def test_of_parallel_takes_on_all_nodes_exactly_so_many_get_one(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server) as store, connected(redis_server) as other:
            metrics = Metrics()
            one, two = (HourlyLimits(each, LIMITS, metrics) for each in (store, other))
            there = await asyncio.gather(taken(one, TEN, HERE, 30), taken(two, TEN, HERE, 30))
            assert sum(there) == 10
            assert await taken(one, TEN, "192.0.2.1", 1) == 1  # others are elsewhere
            assert await taken(one, FIVE, HERE, 6) == 5  # and other limits another matter
            assert without_redis(metrics) == 0

    run(work())
    keys = redis_server.ask("KEYS", "usher:limits:*")
    assert len(keys) == 3
    assert all(0 < redis_server.ask("TTL", key) <= WINDOW_SECONDS for key in keys)
    assert not any(b"db8" in key for key in keys)


def test_what_is_given_back_was_never_taken(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server) as store:
            limits = HourlyLimits(store, LIMITS, Metrics())
            for _ in range(30):
                mine = await limits.take((TEN, HERE), (FIVE, HERE))
                mine.require()
                mine.give_back()
                mine.give_back()
            await until(lambda: not redis_server.ask("KEYS", "usher:limits:*"))
            both = await limits.take((TEN, HERE), (FIVE, HERE))
            both.give_back(1)
            assert await taken(limits, TEN, HERE, 20) == 9
            assert await taken(limits, FIVE, HERE, 20) == 5

    run(work())


def test_a_refusal_says_how_long_and_keeps_nothing(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server) as store:
            limits = HourlyLimits(store, LIMITS, Metrics())
            await taken(limits, FIVE, HERE, 5)
            (key,) = redis_server.ask("KEYS", "usher:limits:*")
            redis_server.ask("PEXPIRE", key, 1500)
            mine = await limits.take((TEN, HERE), (FIVE, HERE))
            with pytest.raises(RateLimited) as refused:
                mine.require()
            assert refused.value.retry_after == 2
            assert await taken(limits, TEN, HERE, 20) == 10
            await until(lambda: not redis_server.ask("EXISTS", key))
            assert await taken(limits, FIVE, HERE, 1) == 1

    run(work())


def test_all_are_accepted_in_one_round_trip(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server) as store:
            counting = CountingStore(store)
            await HourlyLimits(counting, LIMITS, Metrics()).take((TEN, HERE), (FIVE, HERE))
            assert len(counting.groups) == 1

    run(work())


def test_a_sender_over_the_limit_is_refused_without_redis(
    redis_server: RealRedis,
) -> None:
    async def work() -> None:
        async with connected(redis_server) as store:
            counting = CountingStore(store)
            limits = HourlyLimits(counting, LIMITS, Metrics())
            assert await taken(limits, FINAL, HERE, 4) == 3
            counting.groups.clear()
            assert await taken(limits, FINAL, HERE, 50) == 0
            with pytest.raises(RateLimited):
                limits.refuse_known_full(FINAL, HERE)
            assert counting.groups == []

    run(work())


def test_a_counter_without_an_end_gets_one(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server) as store:
            limits = HourlyLimits(store, LIMITS, Metrics())
            await limits.take((TEN, HERE))
            (key,) = redis_server.ask("KEYS", "usher:limits:*")
            redis_server.ask("PERSIST", key)
            await limits.take((TEN, HERE))
            assert 0 < redis_server.ask("TTL", key) <= WINDOW_SECONDS

    run(work())


def test_each_node_counts_alone_while_redis_is_unavailable(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server) as store:
            metrics = Metrics()
            limits = HourlyLimits(store, LIMITS, metrics)
            redis_server.kill()
            await until(lambda: not store.available)
            assert await taken(limits, TEN, HERE, 30) == 10
            assert without_redis(metrics) == 30

    run(work())


def test_the_processes_of_a_node_have_a_part_each_while_redis_is_unavailable(
    redis_server: RealRedis,
) -> None:
    async def work() -> None:
        async with connected(redis_server) as store:
            two = [HourlyLimits(store, LIMITS, Metrics(), processes=2) for _ in range(2)]
            assert await taken(two[0], TEN, "while it answers", 30) == 10
            redis_server.kill()
            await until(lambda: not store.available)
            assert [await taken(limits, TEN, HERE, 30) for limits in two] == [5, 5]
            assert await taken(two[0], FIVE, HERE, 30) == 3

    run(work())


def test_without_any_redis_the_node_counts_by_itself() -> None:
    async def work() -> None:
        clock, metrics = Clock(), Metrics()
        limits = HourlyLimits(MemoryStore(), LIMITS, metrics, clock)
        assert await taken(limits, TEN, HERE, 30) == 10
        clock.forward(WINDOW_SECONDS - 10)
        with pytest.raises(RateLimited) as refused:
            (await limits.take((TEN, HERE))).require()
        assert refused.value.retry_after == 10
        clock.forward(10)
        assert await taken(limits, TEN, HERE, 30) == 10
        assert without_redis(metrics) == 0

    run(work())


def test_no_limit_is_no_limit() -> None:
    async def work() -> None:
        limits = HourlyLimits(MemoryStore(), LIMITS, Metrics())
        assert await taken(limits, NONE, HERE, 500) == 500

    run(work())
