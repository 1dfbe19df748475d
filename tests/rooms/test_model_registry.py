"""The models that `usage` may name, on SQLite and PostgreSQL, read through a real Redis."""

from __future__ import annotations

import asyncio

import peewee
import pytest

from models.backend import UsageModel
from services.errors import BadRequest, DatabaseUnavailable, NotFound, StoreUnavailable
from services.rooms.model_registry import REGISTRY_KEY, REGISTRY_SECONDS, ModelRow
from tests.support.parts import database_away, node, redis_away, redis_back
from tests.support.redis import RealRedis, redis_server

__all__ = ["redis_server"]


def strike_out(db: peewee.Database) -> None:
    UsageModel.delete().execute(db)


@pytest.mark.gen_test
async def test_while_none_is_registered_any_name_is_known(database_url: str) -> None:
    async with node(database_url) as parts:
        assert await parts.models.all() == []
        for name in ("gpt", "", "x" * 128, "ü", "\x00"):
            assert await parts.models.is_known(name)


@pytest.mark.gen_test
async def test_once_one_is_registered_only_those_are_known(database_url: str) -> None:
    async with node(database_url) as parts:
        assert await parts.models.put("gpt", "GPT") == ModelRow("gpt", "GPT")
        for _ in range(2):  # from the rows, then from Redis
            assert await parts.models.is_known("gpt")
            for name in ("GPT", "gpt ", "claude", "gpt\0"):
                assert not await parts.models.is_known(name)
        await parts.models.put("claude", "Claude")
        assert await parts.models.is_known("claude")
        assert await parts.models.all() == [ModelRow("claude", "Claude"), ModelRow("gpt", "GPT")]


@pytest.mark.gen_test
async def test_to_register_again_gives_another_title(database_url: str) -> None:
    async with node(database_url) as parts:
        for title in ("One", "Two", 'Thr"ee {}'):
            await parts.models.put("gpt/4:o", title)
            assert await parts.models.all() == [ModelRow("gpt/4:o", title)]


@pytest.mark.gen_test
async def test_a_model_that_is_struck_off_is_known_no_more_and_the_last_one_opens_all(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        for model in ("a", "b"):
            await parts.models.put(model, model)
        assert await parts.models.is_known("b")
        await parts.models.remove("b")
        assert not await parts.models.is_known("b")
        for gone in ("b", "never", "", "a\0"):
            with pytest.raises(NotFound):
                await parts.models.remove(gone)
        await parts.models.remove("a")
        assert await parts.models.is_known("anything")


@pytest.mark.gen_test
async def test_what_would_not_be_seen_is_no_id_and_no_title(database_url: str) -> None:
    async with node(database_url) as parts:
        for bad in ("", " ", "a\0", "a\nb", "\u202e", "\ud800", "x" * 1000):
            with pytest.raises(BadRequest):
                await parts.models.put(bad, "title")
            with pytest.raises(BadRequest):
                await parts.models.put("gpt", bad)
        with pytest.raises(BadRequest):
            await parts.models.put(" gpt", "as `usage` would have to name it")
        assert await parts.models.all() == []
        assert await parts.models.put("gpt", " GPT ") == ModelRow("gpt", "GPT")


@pytest.mark.gen_test
async def test_concurrent_registrations_all_succeed(database_url: str) -> None:
    async with node(database_url) as parts:
        await asyncio.gather(*(parts.models.put(f"m{n % 5}", f"title {n}") for n in range(25)))
        assert [row.id for row in await parts.models.all()] == ["m0", "m1", "m2", "m3", "m4"]


@pytest.mark.gen_test
async def test_what_one_node_registers_every_node_knows_at_once(
    database_url: str, redis_server: RealRedis
) -> None:
    async with (
        node(database_url, redis_server, name="a") as a,
        node(database_url, redis_server, name="b") as b,
    ):
        assert await b.models.is_known("claude"), "any, so far"
        await a.models.put("gpt", "GPT")
        assert not await b.models.is_known("claude")
        await a.models.put("claude", "Claude")
        assert await b.models.is_known("claude")
        await b.models.remove("claude")
        assert not await a.models.is_known("claude")


@pytest.mark.gen_test
async def test_to_know_a_model_is_one_round_trip_and_no_query(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        await parts.models.put("gpt", "GPT")
        await parts.models.is_known("gpt")
        await database_away(parts)
        before = len(parts.store.groups)
        assert await parts.models.is_known("gpt")
        assert not await parts.models.is_known("claude")
        assert len(parts.store.groups) == before + 2


@pytest.mark.gen_test
async def test_the_rows_are_read_anew_after_a_while_whatever_redis_missed(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        await parts.models.put("gpt", "GPT")
        assert not await parts.models.is_known("claude")
        assert 0 < redis_server.ask("TTL", REGISTRY_KEY) <= REGISTRY_SECONDS
        await parts.database.run(strike_out)
        assert not await parts.models.is_known("claude"), "Redis does not have it"
        redis_server.ask("PEXPIRE", REGISTRY_KEY, 0)
        assert await parts.models.is_known("claude")


@pytest.mark.gen_test
async def test_without_redis_models_are_registered_and_counted_once_it_is_back(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        await redis_away(parts, redis_server)
        await parts.models.put("gpt", "GPT")
        assert await parts.models.all() == [ModelRow("gpt", "GPT")]
        with pytest.raises(StoreUnavailable):
            await parts.models.is_known("gpt")
        await redis_back(parts, redis_server)
        assert await parts.models.is_known("gpt")
        assert not await parts.models.is_known("claude")


@pytest.mark.gen_test
async def test_without_the_database_nothing_is_guessed(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        await database_away(parts)
        for question in (parts.models.is_known("gpt"), parts.models.put("gpt", "GPT")):
            with pytest.raises(DatabaseUnavailable):
                await question
        assert redis_server.ask("EXISTS", REGISTRY_KEY) == 0
