"""The same test on SQLite and on PostgreSQL.

Whatever touches a database runs on both. A test says so by taking one of these fixtures of
tests/conftest.py, each of which doubles it (`-k sqlite`, `-k postgresql` choose a half):

- `database_kind`: for `usher(database_kind, …)` and `nodes(database_kind, …)`, which make an
  empty database of this kind and take it away again;
- `database_url`: a database of this test's own without a row, for `node(database_url, …)`,
  `opened`, or several servers on one database: `usher(database_url, …)`. It is a copy of one
  that was brought up to date; where that is the subject, `bare_database_url` has no table yet;
- `server`: one Usher for all tests of a worker, per kind.

Where the SQL is not the subject, one kind is enough: a wing (in its conftest.py) or a file
replaces `database_kind` by `kinds(…)`, and says why. `slow(kind)` in it leaves the half of that
kind to `make test-slow`. A test whose subject is one kind is marked `@on_postgresql` or
`@on_sqlite`, or names the kind: `usher("sqlite")`; a sentence says why. `@on_both` is for a test
that needs both in a file that does not. What touches no database runs once. There is one
PostgreSQL per test process (tests/support/postgres.py).
"""

from __future__ import annotations

import functools
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.storage import migrations
from services.storage.database import Database
from services.storage.database_url import parse
from tests.support.postgres import aside, postgres_server

KINDS = ("sqlite", "postgresql")
on_sqlite, on_postgresql, on_both = (
    pytest.mark.parametrize("database_kind", kinds, indirect=True, scope="session")
    for kinds in (("sqlite",), ("postgresql",), KINDS)
)
TIMEOUT_SECONDS = 10.0


def kinds(*params: Any) -> Any:
    """A `database_kind` of a wing's or a file's own: these kinds, of which some may be `slow`."""

    @pytest.fixture(scope="session", params=params)
    def database_kind(request: pytest.FixtureRequest) -> str:
        return str(request.param)

    return database_kind


def slow(kind: str) -> Any:
    """A kind whose half is left to `make test-slow`."""
    return pytest.param(kind, marks=pytest.mark.slow)


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database of this kind; PostgreSQL's is dropped afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'usher.db'}"
    else:
        with postgres_server().database() as url:
            yield url


@contextmanager
def copied_database(url: str, folder: Path) -> Iterator[str]:
    """The URL of a copy of a database that nobody is using."""
    if url.startswith("sqlite:"):
        yield f"sqlite:///{shutil.copy(url.removeprefix('sqlite:///'), folder / 'usher.db')}"
    else:
        with postgres_server().copy(parse(url).shown.rpartition("/")[2]) as copy:
            yield copy


@functools.cache
def postgres_template() -> str:
    """The name of a PostgreSQL database with today's tables and no row in them: to be copied, as
    to bring one up takes many times what copying does. It goes with its server."""
    name = postgres_server().create()
    bring_up(postgres_server().url(name))
    return name


def bring_up(url: str) -> None:
    """Give a database today's tables."""

    async def open_and_close() -> None:
        async with opened(url):
            pass

    aside(open_and_close())


@asynccontextmanager
async def opened(url: str, **options: float) -> AsyncIterator[Database]:
    database = await Database.open(url, **options)  # type: ignore[arg-type]
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def opened_at(url: str, migration: str) -> AsyncIterator[Database]:
    """The same, by the version whose newest migration was this one (its name without `.py`)."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        for file in migrations.DIRECTORY.glob("[0-9]*.py"):
            if file.stem <= migration:
                shutil.copy(file, name)
        patch.setattr(migrations.migrate, "__defaults__", (Path(name),))
        async with opened(url) as database:
            yield database


def look(url: str, query: str, *values: object) -> list[Any]:
    """One statement from outside, with `?` for each value; returns its rows. A change is kept."""
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=TIMEOUT_SECONDS)) as database, database:
            return database.execute(query, values).fetchall()
    return aside(_look_postgresql(url, query, values))


async def _look_postgresql(url: str, query: str, values: tuple[object, ...]) -> list[Any]:
    numbers = count(1)
    query = "".join(f"${next(numbers)}" if c == "?" else c for c in query)
    connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
    try:
        return [tuple(row) for row in await connection.fetch(query, *values)]
    finally:
        await connection.close(timeout=TIMEOUT_SECONDS)
