"""A PostgreSQL of the tests by its URL, and its settings."""

from __future__ import annotations

from collections.abc import Iterator

import peewee
import pytest

from services.storage.database_url import parse
from tests.support.postgres import PostgresServer, postgres_server


@pytest.fixture(scope="module")
def server() -> PostgresServer:
    return postgres_server()


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    with server.database() as address:
        yield address


def name_of(url: str) -> str:
    return parse(url).shown.rpartition("/")[2]


def setting(db: peewee.Database, name: str) -> str:
    (value,) = db.execute_sql("SELECT current_setting(%s)", (name,)).fetchone()
    return str(value)
