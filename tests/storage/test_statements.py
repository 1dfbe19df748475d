"""Prepared SQL statements: the same as Peewee's, at every call."""

from __future__ import annotations

from typing import Any

import peewee
import pytest

from models.installation import Installation
from services.storage.statements import Statement
from tests.support.databases import opened


def keep(_: peewee.Database, key: Any, value: Any) -> Any:
    return Installation.insert(key=key, value=value)


def change(_: peewee.Database, value: Any, key: Any) -> Any:
    return Installation.update({Installation.value: value}).where(Installation.key == key)


def look(_: peewee.Database, key: Any) -> Any:
    return Installation.select(Installation.value).where(Installation.key == key).limit(1)


@pytest.mark.gen_test
async def test_it_is_built_once_and_each_execution_has_its_own_values(database_url: str) -> None:
    built = []

    def looking(db: peewee.Database, key: Any) -> Any:
        built.append(type(db))
        return look(db, key)

    insert, update, select = Statement(keep, 2), Statement(change, 2), Statement(looking, 1)

    def work(db: peewee.Database) -> list[str]:
        insert.run(db, "one", "1")
        insert.run(db, "two", "it's 100 %")
        assert update.run(db, "2", "one") == 1
        assert update.run(db, "2", "three") == 0
        assert select.row(db, "three") is None
        return [row[0] for key in ("one", "two") for row in select.rows(db, key)]

    async with opened(database_url) as database:
        assert await database.run(work) == ["2", "it's 100 %"]
        assert await database.run(lambda db: len(select.rows(db, "one"))) == 1
    assert len(built) == 1


@pytest.mark.gen_test
async def test_constraint_violations_are_reported_as_for_any_query(database_url: str) -> None:
    insert = Statement(keep, 2)
    async with opened(database_url) as database:
        await database.run(insert.run, "one", "1")
        with pytest.raises(peewee.IntegrityError):
            await database.run(insert.run, "one", "2")


def test_the_number_of_values_is_held_to() -> None:
    with pytest.raises(TypeError, match="2 values are needed, not 1"):
        Statement(keep, 2).run(peewee.SqliteDatabase(None), "one")
