"""The URL of a database: what is refused, and that no message shows its password."""

from __future__ import annotations

import asyncio
import logging
import traceback

import pytest

from services.errors import DatabaseUnavailable, SettingError, UsherError
from services.storage.database import Database
from services.storage.database_url import parse
from tests.storage.runs import ADDRESS, open_and_close, put, server
from tests.support.databases import opened
from tests.support.postgres import PostgresServer

__all__ = ["server"]

PASSWORD = "s3cr%65t-w0rd"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:s3cr%65t-w0rd@host/name",
        "s3cr%65t-w0rd",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "postgresql://me:s3cr%65t-w0rd@host:port/name",
        "postgresql://me:s3cr%65t-w0rd@[::1/name",
        "postgresql://me:s3cr%65t-w0rd@localhost/name?sslmode=perhaps",
    ],
)
def test_a_url_that_will_not_do_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        asyncio.run(Database.open(url))
    assert caught.value.name == "USHER_DATABASE_URL"
    assert_unseen("".join(traceback.format_exception(caught.value)))


def assert_unseen(text: str) -> None:
    assert PASSWORD not in text
    assert "s3cret" not in text


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid", "%2Fno%2Fsuch%2Ffolder"])
def test_an_unreachable_server_is_reported_without_its_password(host: str) -> None:
    url = f"postgresql://me:{PASSWORD}@{host}/name"
    with pytest.raises(DatabaseUnavailable) as caught:
        asyncio.run(Database.open(url, timeout=3))
    assert_unseen("".join(traceback.format_exception(caught.value)))
    assert_unseen(repr(parse(url)))


def test_a_wrong_database_name_is_reported(server: PostgresServer) -> None:
    with pytest.raises(UsherError, match='database "nowhere" does not exist'):
        asyncio.run(Database.open(server.url("nowhere")))


def test_a_percent_encoded_url_over_the_socket_folder_opens(server: PostgresServer) -> None:
    with server.database() as address:
        encoded = address.replace("postgres:@", "postg%72es:p%40ss%2Fword@")
        asyncio.run(open_and_close(encoded))


def test_no_value_of_a_query_is_logged(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(put, ADDRESS)

    asyncio.run(check())
    assert ADDRESS not in caplog.text
