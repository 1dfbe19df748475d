"""Many questions in one read: how many of them, and what one that fails does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import peewee
import pytest

from services.errors import DatabaseUnavailable
from services.storage import batched_reads
from services.storage.batched_reads import MOST_AT_ONCE, BatchedReads
from services.storage.database import Database
from tests.support.databases import kinds, opened

database_kind = kinds("sqlite")


class Doubles:
    """Doubles numbers, and knows how many were asked for at once. A negative one is an error.

    Args:
        most: with more than that at once, the database does not answer in time.
    """

    def __init__(self, database: Database, most: int = MOST_AT_ONCE) -> None:
        self.sizes: list[int] = []
        self.most = most
        self.reads = BatchedReads(database, self._read, "doubles")

    def _read(self, _: peewee.Database, asked: list[int]) -> list[int]:
        self.sizes.append(len(asked))
        if len(asked) > self.most:
            raise DatabaseUnavailable("no answer within the timeout")
        if min(asked) < 0:
            raise LookupError("a row that nobody understands")
        return [2 * number for number in asked]

    def ask(self, *numbers: int) -> Awaitable[list[int | BaseException]]:
        return asyncio.gather(*map(self.reads.of, numbers), return_exceptions=True)


@pytest.mark.gen_test
async def test_one_that_cannot_be_answered_is_refused_alone(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(database_url) as database:
        doubles = Doubles(database)
        asked = [*range(1, 100), -1, *range(100, 200)]
        found = await doubles.ask(*asked)
        refused = found.pop(99)
        assert isinstance(refused, DatabaseUnavailable)
        assert found == [2 * number for number in range(1, 200)]
        assert len(doubles.sizes) < 20
        assert caplog.text.count("Traceback") == 1


@pytest.mark.gen_test
async def test_if_none_can_be_answered_one_error_is_logged_whole(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(database_url) as database:
        found = await Doubles(database).ask(*range(-20, 0))
        assert [type(each) for each in found] == [DatabaseUnavailable] * 20
        assert caplog.text.count("Traceback") == 1
        assert "20 of 20" in caplog.text


@pytest.mark.gen_test
async def test_after_a_long_read_fewer_are_read_together_and_more_again_after_quick_ones(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(database_url) as database:
        doubles = Doubles(database)
        monkeypatch.setattr(batched_reads, "TARGET_SECONDS", 0.0)  # every read is a long one
        assert await doubles.ask(*range(600)) == [2 * number for number in range(600)]
        assert doubles.sizes[:4] == [MOST_AT_ONCE // 2**step for step in range(4)]
        monkeypatch.setattr(batched_reads, "TARGET_SECONDS", 1e9)
        doubles.sizes.clear()
        await doubles.ask(*range(2_000))
        assert doubles.sizes == sorted(doubles.sizes[:-1]) + doubles.sizes[-1:]
        assert MOST_AT_ONCE in doubles.sizes


@pytest.mark.gen_test
async def test_a_crowd_too_large_for_the_timeout_is_answered_in_smaller_parts(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_reads, "TARGET_SECONDS", 0.0)  # nor do smaller ones grow again
    async with opened(database_url) as database:
        doubles = Doubles(database, most=40)
        for _ in range(3):  # 250, 125 and 62 at once: refused, and everybody behind them
            found = await doubles.ask(*range(300))
            assert {type(each) for each in found} == {DatabaseUnavailable}
        assert await doubles.ask(*range(300)) == [2 * number for number in range(300)]
