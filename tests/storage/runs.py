"""What the tests of a database run in it: rows, and transactions that take time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import peewee
import pytest

from models.installation import Installation
from services.errors import DatabaseUnavailable
from services.storage.database import Database
from tests.support.postgres import PostgresServer, postgres_server


def put(db: peewee.Database, key: str, value: str = "v") -> None:
    Installation.insert({"key": key, "value": value}).execute(db)


def keys(db: peewee.Database) -> list[str]:
    return [row.key for row in Installation.select().order_by(Installation.key).execute(db)]


def pause(db: peewee.Database, seconds: float) -> None:
    """Holds a transaction open; on SQLite in the driver's thread, like a slow disk."""
    if isinstance(db, peewee.SqliteDatabase):
        db.execute_sql(SLOW_SQLITE, (int(seconds * 1_000_000),)).fetchall()
    else:
        db.execute_sql("SELECT pg_sleep(%s)", (seconds,))


ADDRESS = "someone@example.test"
# Runs for the given time, roughly in microseconds.
SLOW_SQLITE = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ? * 6)
SELECT max(i) FROM n
"""


async def eventually(database: Database) -> list[str]:
    """The keys, as soon as the database answers again."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return await database.run(keys)
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = postgres_server()
    yield server
    server.start()


async def open_and_close(url: str) -> None:
    await (await Database.open(url)).close()
