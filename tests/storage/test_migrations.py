"""Migrations: applied once, whole or not at all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import peewee
import pytest

from models.user import User
from services.storage.database import Database
from services.storage.migrations import DIRECTORY, migrate
from tests.storage.installations import FIRST, NODES, add_user, database_kind, history
from tests.support.databases import opened

__all__ = ["database_kind"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Migrations of a later version: the real first one and whatever a test adds."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for file in DIRECTORY.glob("[0-9]*.py"):
        (folder / file.name).write_text(file.read_text())
    return folder


async def apply(database: Database, directory: Path) -> list[str]:
    """As Database.open does it: in the bridge, but outside a transaction."""
    bridge = database._bridge
    try:
        names: list[str] = await bridge.run(migrate, bridge, directory)
        return names
    finally:
        await bridge.aclose()


def test_a_first_start_creates_the_tables_and_a_second_changes_nothing(
    bare_database_url: str,
) -> None:
    async def check() -> None:
        async with opened(bare_database_url) as database:
            before = set(await database.run(lambda db: db.get_tables()))
            await database.run(add_user)
        async with opened(bare_database_url) as database:
            assert set(await database.run(lambda db: db.get_tables())) == before
            assert await database.run(lambda db: User.select().count(db)) == 1
            assert FIRST in await database.run(history)
        assert before >= {"users", "login_sessions", "refresh_tokens", "revocations", "tickets"}

    asyncio.run(check())


def test_several_processes_that_start_at_once_migrate_once(
    bare_database_url: str, directory: Path
) -> None:
    script = (
        "import asyncio, sys\n"
        "from services.storage.database import Database\n"
        "async def main():\n"
        "    sys.stdin.readline()\n"
        "    database = await Database.open(sys.argv[1], timeout=30.0)\n"
        "    await database.ping()\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", script, bare_database_url]
    pipe = subprocess.PIPE
    nodes = [
        subprocess.Popen(command, cwd=ROOT, stdin=pipe, stderr=pipe, text=True)
        for _ in range(NODES)
    ]
    results = []
    for node in nodes:
        assert node.stdin is not None
        node.stdin.write("go\n")
        node.stdin.flush()
    for node in nodes:
        _, errors = node.communicate(timeout=60)
        results.append((node.returncode, errors))
    assert results == [(0, "")] * NODES

    async def check() -> None:
        async with opened(bare_database_url) as database:
            names = await database.run(history)
        assert names == sorted(set(names))
        assert FIRST in names

    asyncio.run(check())


def test_a_later_migration_is_applied_to_what_is_there(
    bare_database_url: str, directory: Path
) -> None:
    (directory / "9001_nickname.py").write_text(
        "import peewee\n"
        "def up(migrator, db):\n"
        "    migrator.migrate(migrator.add_column('users', 'nickname',"
        " peewee.TextField(default='none')))\n"
    )

    async def check() -> None:
        async with opened(bare_database_url) as database:
            await database.run(add_user)
            assert await apply(database, directory) == ["9001_nickname"]
            rows = await database.run(
                lambda db: db.execute_sql("SELECT id, nickname FROM users").fetchall()
            )
            assert [tuple(row) for row in rows] == [("u", "none")]
            assert await apply(database, directory) == []

    asyncio.run(check())


def test_rebuilding_a_table_deletes_no_row_that_refers_to_it(
    bare_database_url: str, directory: Path
) -> None:
    # Peewee rebuilds the table on SQLite for this one: it drops the old users table.
    (directory / "9001_longer.py").write_text(
        "import peewee\n"
        "def up(migrator, db):\n"
        "    migrator.migrate(migrator.drop_not_null('users', 'name'))\n"
    )

    def sessions(db: peewee.Database) -> int:
        return int(db.execute_sql("SELECT count(*) FROM login_sessions").fetchone()[0])

    async def check() -> None:
        async with opened(bare_database_url) as database:
            await database.run(add_user)
            assert await apply(database, directory) == ["9001_longer"]
            assert await database.run(sessions) == 1
            # And foreign keys are on again: the session goes with its user.
            await database.run(lambda db: User.delete().execute(db))
            assert await database.run(sessions) == 0

    asyncio.run(check())


def test_a_migration_that_fails_half_way_leaves_nothing(
    bare_database_url: str, directory: Path
) -> None:
    (directory / "9001_fine.py").write_text(
        "def up(migrator, db):\n    db.execute_sql('CREATE TABLE fine (id TEXT)')\n"
    )
    (directory / "9002_broken.py").write_text(
        "def up(migrator, db):\n"
        "    db.execute_sql('CREATE TABLE half (id TEXT)')\n"
        "    db.execute_sql('CREATE TABLE users (id TEXT)')\n"
    )

    async def check() -> None:
        async with opened(bare_database_url) as database:
            with pytest.raises(Exception, match=r"users|Duplicate"):
                await apply(database, directory)
            tables = set(await database.run(lambda db: db.get_tables()))
            assert not tables & {"fine", "half"}
            assert not set(await database.run(history)) & {"9001_fine", "9002_broken"}

    asyncio.run(check())


def test_a_database_of_a_newer_version_is_used_with_a_warning(
    bare_database_url: str, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "9001_newer.py").write_text("def up(migrator, db):\n    pass\n")

    async def check() -> None:
        async with opened(bare_database_url) as database:
            await apply(database, directory)
        async with opened(bare_database_url) as database:
            await database.ping()

    asyncio.run(check())
    assert "newer than this version: 9001_newer" in caplog.text
