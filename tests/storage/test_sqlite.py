"""The SQLite file: its locks, its rights and its path."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import peewee
import pytest

from services.errors import DatabaseUnavailable, SettingError
from services.storage.database import Database
from services.storage.database_url import parse, prepare_sqlite
from tests.storage.runs import eventually, open_and_close, put
from tests.support.databases import opened


def test_a_lock_held_by_another_process_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "usher.db"

    async def check() -> None:
        async with opened(f"sqlite:///{path}") as database:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            task = asyncio.ensure_future(database.run(put, "a"))
            await asyncio.sleep(0.1)
            assert not task.done()
            other.execute("COMMIT")
            other.close()
            await task

    asyncio.run(check())


def test_a_lock_held_too_long_is_reported_and_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "usher.db"

    async def check() -> None:
        async with opened(f"sqlite:///{path}", timeout=0.5) as database:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseUnavailable):
                await database.run(put, "a")
            other.execute("COMMIT")
            other.close()
            assert await eventually(database) == []

    asyncio.run(check())


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def pragma(db: peewee.Database, name: str) -> object:
    return db.execute_sql(f"PRAGMA {name}").fetchone()[0]


def test_the_sqlite_file_is_private_and_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "usher.db"

    async def check() -> None:
        async with opened(f"sqlite:///{path}") as database:
            await database.run(put, "a")
            assert modes(tmp_path) == {0o600}
            pragmas = {
                name: await database.run(pragma, name)
                for name in ("journal_mode", "foreign_keys", "synchronous")
            }
            assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1}

    asyncio.run(check())


def test_a_relative_path_and_one_with_odd_characters_are_accepted_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "100% #1?").mkdir()

    async def check() -> None:
        async with opened("sqlite:///100% #1?/usher.db") as database:
            await database.ping()

    asyncio.run(check())
    assert (tmp_path / "100% #1?" / "usher.db").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("foo=1", "foo"),
        ("timeout=30&mode=rwc", "timeout"),
        ("key=s3cret", "key"),
        ("mode=", "mode"),
    ],
)
def test_an_option_of_a_sqlite_url_is_refused_by_its_name_and_makes_no_file(
    tmp_path: Path, options: str, named: str
) -> None:
    with pytest.raises(SettingError) as caught:
        asyncio.run(Database.open(f"sqlite:///{tmp_path}/usher.db?{options}"))
    assert caught.value.name == "USHER_DATABASE_URL"
    assert caught.value.got == f"sqlite:///{tmp_path}/usher.db with the option {named}"
    assert "s3cret" not in str(caught.value) + caught.value.takes, "its value may be a password"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trouble", ["not a database", "a folder", "no such folder"])
def test_a_file_that_will_not_do_is_named(tmp_path: Path, trouble: str) -> None:
    path = tmp_path / "usher.db"
    if trouble == "not a database":
        path.write_bytes(b"hello" * 1000)
    elif trouble == "a folder":
        path.mkdir()
    else:
        path = tmp_path / "missing" / "usher.db"

    with pytest.raises(DatabaseUnavailable, match=str(path)):
        asyncio.run(Database.open(f"sqlite:///{path}"))
    assert path.exists() == (trouble != "no such folder")


def test_a_file_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "usher.db"
    asyncio.run(open_and_close(f"sqlite:///{path}"))
    path.chmod(0o444)
    # Root may write everything, so this runs in a child that is somebody else.
    child = os.fork()
    if child == 0:
        os._exit(_opened_as_nobody(path))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


def _opened_as_nobody(path: Path) -> int:
    try:
        if os.geteuid() == 0:
            path.parent.chmod(0o755)
            os.chown(path, 65534, 65534)
            os.chown(path.parent, 65534, 65534)
            os.seteuid(65534)
        prepare_sqlite(parse(f"sqlite:///{path}"), 1)
    except DatabaseUnavailable as error:
        return 3 if "Permission denied" in error.evidence else 4
    return 5
