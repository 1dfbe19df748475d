"""Models in use, and how a usage expires, in a real Redis and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from services.errors import RateLimited, StoreUnavailable
from services.redis.store import Store
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.rooms.usage import (
    FADE_SECONDS,
    MODELS_KEY,
    MODELS_OF_USER,
    MODELS_READ,
    Usage,
    sessions_key,
)
from tests.support.parts import Clock, CountingStore
from tests.support.redis import PATIENCE, RealRedis, until


@pytest.fixture(params=["redis", "memory"])
def redis(request: pytest.FixtureRequest) -> Iterator[RealRedis | None]:
    server = RealRedis() if request.param == "redis" else None
    yield server
    if server is not None:
        server.close()


class Node:
    """The usage pool as one node has it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = CountingStore(store), clock
        self.usage = Usage(self.store, clock, steady=clock)


@asynccontextmanager
async def two_nodes(redis: RealRedis | None) -> AsyncIterator[tuple[Node, Node, Clock]]:
    clock = Clock()
    if redis is None:
        memory = MemoryStore(clock=clock)
        yield Node(memory, clock), Node(memory, clock), clock
        return
    stores = [RedisStore(redis.url, timeout=PATIENCE) for _ in range(2)]
    for store in stores:
        await store.connect()
    try:
        yield Node(stores[0], clock), Node(stores[1], clock), clock
    finally:
        for store in stores:
            await store.close()


@pytest.mark.gen_test
async def test_a_model_is_in_use_from_its_first_session_on_every_node(
    redis: RealRedis | None,
) -> None:
    async with two_nodes(redis) as (a, b, _):
        assert await a.usage.models() == []
        assert await a.usage.use("gpt", "s1", "ada") == ["gpt"]
        assert await b.usage.use("claude", "s2", "ada") == ["claude", "gpt"]
        assert await a.usage.models() == await b.usage.models() == ["claude", "gpt"]
        assert await a.usage.sessions("gpt") == ["s1"]
        assert await a.usage.sessions("nothing") == []


@pytest.mark.gen_test
async def test_a_use_fades_after_three_seconds_without_a_repeat(redis: RealRedis | None) -> None:
    assert FADE_SECONDS == 3.0, "the contract"
    async with two_nodes(redis) as (a, b, clock):
        await a.usage.use("gpt", "s1", "ada")
        clock.forward(2.999)
        assert await b.usage.models() == ["gpt"]
        assert await b.usage.sessions("gpt") == ["s1"]
        clock.forward(0.002)
        assert await b.usage.models() == []
        assert await b.usage.sessions("gpt") == []
        assert await a.usage.use("claude", "s1", "ada") == ["claude"]


@pytest.mark.gen_test
async def test_a_repeated_usage_stays_and_others_expire(redis: RealRedis | None) -> None:
    async with two_nodes(redis) as (a, b, clock):
        await a.usage.use("gpt", "s1", "ada")
        await b.usage.use("gpt", "s2", "ada")
        for _ in range(5):
            clock.forward(2)
            await a.usage.use("gpt", "s1", "ada")
        assert await b.usage.models() == ["gpt"]
        assert await b.usage.sessions("gpt") == ["s1"]


@pytest.mark.gen_test
async def test_a_session_may_use_several_models_and_a_model_several_sessions(
    redis: RealRedis | None,
) -> None:
    async with two_nodes(redis) as (a, b, clock):
        for model in ("gpt", "claude", "gpt"):
            await a.usage.use(model, "s1", "ada")
        await b.usage.use("gpt", "s2", "ada")
        assert sorted(await a.usage.sessions("gpt")) == ["s1", "s2"]
        clock.forward(2)
        await b.usage.use("claude", "s2", "ada")
        clock.forward(2)
        assert await a.usage.models() == ["claude"]
        assert await a.usage.sessions("claude") == ["s2"]


@pytest.mark.parametrize("model", ["a b", "ü", "x" * 128, "{usage}", "gpt:4/o*?", "\n", "models"])
@pytest.mark.gen_test
async def test_a_model_may_have_any_name(redis: RealRedis | None, model: str) -> None:
    async with two_nodes(redis) as (a, b, _):
        assert await a.usage.use(model, "s1", "ada") == [model]
        assert await b.usage.sessions(model) == ["s1"]


@pytest.mark.gen_test
async def test_a_use_is_one_round_trip_however_many_there_are(redis: RealRedis | None) -> None:
    async with two_nodes(redis) as (a, _, _):
        for number in range(50):
            await a.usage.use(f"model {number % 10}", f"s{number}", "ada")
        assert len(a.store.groups) == 50
        assert {len(group) for group in a.store.groups} == {6}


@pytest.mark.gen_test
async def test_one_user_does_not_fill_the_answers_to_the_others(redis: RealRedis | None) -> None:
    async with two_nodes(redis) as (a, _, clock):
        for number in range(MODELS_OF_USER):
            await a.usage.use(f"m{number}", f"s{number}", "ada")
        clock.forward(1)
        for _ in range(3):
            with pytest.raises(RateLimited) as refused:
                await a.usage.use("one more", "s1", "ada")
            assert refused.value.seconds == pytest.approx(FADE_SECONDS - 1)
        assert len(await a.usage.use("m1", "s9", "ada")) == MODELS_OF_USER
        assert len(await a.usage.use("grace's", "s", "grace")) == MODELS_OF_USER + 1
        clock.forward(2.5)
        assert await a.usage.use("one more", "s1", "ada") == ["grace's", "m1", "one more"]
        clock.forward(FADE_SECONDS)
        await a.usage.use("m", "s", "grace")
        assert list(a.usage._of_users) == ["grace"]


@pytest.mark.gen_test
async def test_not_more_models_are_read_than_an_answer_may_have(redis: RealRedis | None) -> None:
    async with two_nodes(redis) as (a, _, _):
        for number in range(MODELS_READ + 50):
            await a.usage.use(f"m{number}", "s", f"user {number}")
        assert len(await a.usage.models()) == MODELS_READ
        found = await a.usage.use("zzz", "s", "ada")
        assert "zzz" in found
        assert len(found) <= MODELS_READ + 1


@pytest.mark.gen_test
async def test_nothing_is_left_for_a_reaper() -> None:
    redis = RealRedis()
    try:
        async with two_nodes(redis) as (a, _, _):
            await a.usage.use("gpt", "s1", "ada")
            for key in (MODELS_KEY, sessions_key("gpt")):
                assert 0 < redis.ask("PTTL", key) <= 3000
            assert len(redis.ask("KEYS", "*")) == 2
            assert all(b"{usage}" in key for key in redis.ask("KEYS", "*")), "one slot"
    finally:
        redis.close()


@pytest.mark.gen_test
async def test_without_redis_the_result_is_unknown_and_nothing_hangs() -> None:
    redis = RealRedis()
    try:
        async with two_nodes(redis) as (a, _, _):
            redis.kill()
            await until(lambda: not a.store.available)
            for question in (
                a.usage.use("gpt", "s", "ada"),
                a.usage.models(),
                a.usage.sessions("gpt"),
            ):
                with pytest.raises(StoreUnavailable):
                    await asyncio.wait_for(question, PATIENCE)
    finally:
        redis.close()
