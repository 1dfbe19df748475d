"""Single use: once over all nodes, and not by rolled-back work."""

from __future__ import annotations

import asyncio

import peewee
import pytest

from models.used_once import UsedOnce
from services.composition.upkeep import Upkeep
from services.storage.one_time import use_once
from tests.support.databases import opened
from tests.support.parts import Clock


def kept(db: peewee.Database) -> list[str]:
    return [row.hash for row in UsedOnce.select().execute(db)]


@pytest.mark.gen_test
async def test_a_thing_is_used_once_and_each_kind_has_its_own(database_url: str) -> None:
    async with opened(database_url) as database:
        assert await database.run(use_once, "state", "thing", 100.0) is True
        assert await database.run(use_once, "state", "thing", 100.0) is False
        assert await database.run(use_once, "state", "thing", 900.0) is False
        assert await database.run(use_once, "state", "Thing", 100.0) is True
        assert await database.run(use_once, "logout", "thing", 100.0) is True


@pytest.mark.gen_test
async def test_a_kind_and_a_thing_do_not_run_into_each_other(database_url: str) -> None:
    async with opened(database_url) as database:
        assert await database.run(use_once, "logout\0idp", "a", 100.0)
        assert await database.run(use_once, "logout", "idpa", 100.0)
        assert await database.run(use_once, "logout\0id", "pa", 100.0)


@pytest.mark.gen_test
async def test_of_fifty_concurrent_uses_on_two_nodes_one_succeeds(database_url: str) -> None:
    async with opened(database_url) as one, opened(database_url) as other:
        runs = [node.run(use_once, "state", "raced for", 1.0) for node in (one, other) * 25]
        assert sorted(await asyncio.gather(*runs)) == [False] * 49 + [True]


@pytest.mark.gen_test
async def test_what_rolls_back_has_used_nothing(database_url: str) -> None:
    def fails(db: peewee.Database) -> None:
        assert use_once(db, "state", "thing", 100.0)
        raise LookupError("the work went wrong")

    async with opened(database_url) as database:
        with pytest.raises(LookupError):
            await database.run(fails)
        assert await database.run(use_once, "state", "thing", 100.0)


@pytest.mark.gen_test
async def test_only_a_hash_of_it_is_kept_whatever_it_is(database_url: str) -> None:
    async with opened(database_url) as database:
        for thing in ("the thing", "", "\x00", "\ud800", "ü" * 100_000):
            assert await database.run(use_once, "state", thing, 100.0)
            assert not await database.run(use_once, "state", thing, 100.0)
        hashes = await database.run(kept)
        assert {len(hash_) for hash_ in hashes} == {64}
        assert "the thing" not in repr(hashes)


@pytest.mark.gen_test
async def test_it_is_deleted_when_it_can_no_longer_be_used(database_url: str) -> None:
    clock = Clock(1000.0)
    async with opened(database_url) as database:
        await database.run(use_once, "state", "short", 1010.0)
        await database.run(use_once, "state", "long", 1020.0)
        clock.forward(15.0)
        await Upkeep(database, clock).purge()
        assert not await database.run(use_once, "state", "long", 1020.0)
        assert len(await database.run(kept)) == 1
