"""A Redis that is nearly full, full, or evicts."""

from __future__ import annotations

import logging

import pytest

from services.errors import StoreUnavailable
from services.redis.memory_use import MemoryUse
from services.redis.store_redis import RedisStore
from tests.redis.stores import connected
from tests.support.redis import RealRedis, redis_server, run, until

__all__ = ["redis_server"]

NAME = "services.redis"
SCRIPT = "return redis.call('SET', KEYS[1], ARGV[1])"


def info(used: int, most: int, policy: str = "noeviction", besides: int = 0) -> bytes:
    return (
        f"# Memory\r\nused_memory:{used}\r\nmaxmemory:{most}\r\nmaxmemory_policy:{policy}\r\n"
        f"mem_not_counted_for_evict:{besides}\r\n"
    ).encode()


def test_nearly_full_begins_at_nine_tenths_and_ends_below_85_percent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, NAME)
    use, seen = MemoryUse(), []
    for used in (890, 900, 990, 860, 849, 890):
        use.read(info(used, 1000))
        seen.append(use.nearly_full)
    assert seen == [False, True, True, True, False, False]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "nearly full: 90 %" in caplog.text


def test_a_redis_without_a_limit_is_never_full_and_an_empty_reply_changes_nothing() -> None:
    use = MemoryUse()
    use.read(info(10**12, 0, "allkeys-lru"))
    assert (use.share, use.nearly_full) == (0.0, False)
    use.read(info(950, 1000))
    use.read(b"")
    assert (use.share, use.nearly_full) == (0.95, True)


def test_buffers_of_replicas_do_not_count() -> None:
    use = MemoryUse()
    use.read(info(950, 1000, besides=500))
    assert use.share == 0.45


def test_a_redis_that_evicts_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    use = MemoryUse()
    for _ in range(3):
        use.read(info(1, 1000, "volatile-lru"))
    assert caplog.text.count("maxmemory-policy is volatile-lru") == 1


def test_a_script_that_is_refused_costs_the_link_only_if_a_small_write_is_too(
    redis_server: RealRedis,
) -> None:
    async def work() -> None:
        async with connected(redis_server.url, tried_as="trial") as store:
            script = ("EVAL", SCRIPT, 1, "usher:{trial}:large", b"x")
            for _ in range(5):  # now and then, the write that tries the link comes before it
                redis_server.refuse("OOM")
                with pytest.raises(StoreUnavailable):
                    await store.call(script)
                if store.available:
                    break
                redis_server.accept()
                await until(lambda: store.available)
            assert redis_server.ask("CONFIG", "GET", "maxmemory")[1] == b"1", "it costs the link"
            await until(lambda: not store.available)
            redis_server.accept()
            await until(lambda: store.available)
            assert await store.call(script) == [b"OK"]

    run(work())


def test_a_full_redis_is_lost_and_used_again_once_there_is_room(
    redis_server: RealRedis, caplog: pytest.LogCaptureFixture
) -> None:
    moved: list[int] = []

    async def work() -> None:
        caplog.set_level(logging.INFO, NAME)
        async with connected(redis_server.url, tried_as="trial") as store:
            store.on_moved(lambda: moved.append(1))
            redis_server.use(0.5)
            redis_server.refuse("OOM")
            await until(lambda: not store.available)
            # It takes writes again, and would soon refuse them.
            redis_server.use(0.99)
            tried = commands(redis_server, "xadd")
            await until(lambda: commands(redis_server, "xadd") > tried + 1)
            assert not store.available
            redis_server.use(0.92)
            await until(lambda: store.available)
            store.look_at_memory()
            await until(lambda: store.nearly_full)

    run(work())
    told = [record.getMessage() for record in caplog.records]
    assert len([one for one in told if "Redis is full" in one]) == 1, told
    assert told.count("Redis answers") == 2, told
    # It is the same server, so nothing that it sends was missed.
    assert not moved


def commands(redis: RealRedis, name: str) -> int:
    found = [
        x
        for x in redis.ask("INFO", "commandstats").split(b"\r\n")
        if b"_" + name.encode() + b":" in x
    ]
    return int(found[0].partition(b"calls=")[2].partition(b",")[0]) if found else 0


def test_a_store_without_the_right_to_info_knows_nothing(redis_server: RealRedis) -> None:
    async def work() -> None:
        redis_server.ask("ACL", "SETUSER", "default", "-info")
        redis_server.ask("CONFIG", "SET", "maxmemory", 10_000_000)
        async with connected(redis_server.url) as store:
            store.look_at_memory()
            await store.call(("PING",))
            assert isinstance(store, RedisStore)
            assert store.memory_share == 0.0
            assert store.available

    run(work())
