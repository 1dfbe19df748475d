"""PostgreSQL behind a pooler, with other defaults, and with too few rights."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import peewee
import pytest

from models.installation import Installation
from services.errors import DatabaseUnavailable, SettingError
from services.storage.database import Database
from tests.storage.runs import open_and_close
from tests.storage.urls import name_of, server, setting, url
from tests.support.databases import opened
from tests.support.pgbouncer import SERVER_CONNECTIONS, pgbouncer
from tests.support.postgres import PostgresServer

__all__ = ["server", "url"]

# -- a pooler in between ----------------------------------------------------------------------


def different(db: peewee.Database, number: int) -> int:
    """A transaction of several statements whose texts are all different."""
    for step in range(3):
        key = f"{number}-{step}"
        Installation.insert({"key": key, "value": "v"}).execute(db)
    (found,) = db.execute_sql(
        f"SELECT count(*) + {number} - {number} FROM installation WHERE key LIKE %s",
        (f"{number}-%",),
    ).fetchone()
    return int(found)


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_several_nodes_work_behind_pgbouncer(url: str, pool_mode: str) -> None:
    """Before: DuplicatePreparedStatementError, and a start only with ignore_startup_parameters."""
    nodes, runs = (3, 120) if pool_mode == "transaction" else (1, 60)

    async def check() -> None:
        with pgbouncer(url, pool_mode) as front:
            pooled = f"{front}?connection_limit={4 if nodes > 1 else SERVER_CONNECTIONS // 3}"
            async with opened(pooled) as first, opened(pooled) as second, opened(pooled) as third:
                databases = (first, second, third)[:nodes]
                work = [databases[number % nodes].run(different, number) for number in range(runs)]
                assert set(await asyncio.gather(*work)) == {3}

    asyncio.run(check())


def test_connecting_asks_in_one_transaction_what_it_asks(url: str) -> None:
    """A query is two round trips, and between two of them a pooler may change the connection."""

    async def check() -> None:
        with pgbouncer(url) as pooled:
            wanted = f"{pooled}?target_session_attrs=read-write"
            for _ in range(5):
                rounds = [Database.open(wanted, timeout=10) for _ in range(5)]
                databases = await asyncio.gather(*rounds)
                await asyncio.gather(*(database.ping() for database in databases))
                await asyncio.gather(*(database.close() for database in databases))

    asyncio.run(check())


def test_statement_pooling_is_refused_by_its_name(url: str) -> None:
    with pgbouncer(url, "statement") as pooled, pytest.raises(SettingError) as caught:
        asyncio.run(Database.open(pooled))
    assert "statement pooling" in str(caught.value)


# -- settings of a transaction ----------------------------------------------------------------


def test_the_isolation_and_the_limits_are_ours_whatever_the_server_defaults_to(
    server: PostgresServer, url: str
) -> None:
    for default in ("default_transaction_isolation = 'serializable'", "statement_timeout = '1h'"):
        server.psql("postgres", f"ALTER DATABASE {name_of(url)} SET {default}")

    async def check() -> None:
        async with opened(url, timeout=4) as database:
            assert await database.run(setting, "transaction_isolation") == "read committed"
            assert await database.run(setting, "statement_timeout") == "4s"
            idle = await database.run(setting, "idle_in_transaction_session_timeout")
            assert idle == "8s"

    asyncio.run(check())


def test_writers_that_meet_are_not_refused_where_the_default_is_serializable(
    server: PostgresServer, url: str
) -> None:
    """Before: one in five answered 503."""
    server.psql(
        "postgres",
        f"ALTER DATABASE {name_of(url)} SET default_transaction_isolation = 'serializable'",
    )

    def add_one(db: peewee.Database) -> None:
        row = Installation.update({"value": Installation.value + "1"})
        row.where(Installation.key == "sum").execute(db)
        Installation.select().where(Installation.value == "").execute(db)

    async def check() -> None:
        async with opened(url, timeout=10) as database:
            await database.run(
                lambda db: Installation.insert({"key": "sum", "value": ""}).execute(db)
            )
            await asyncio.gather(*(database.run(add_one) for _ in range(60)))
            read = Installation.select(Installation.value)
            (row,) = await database.run(lambda db: list(read.execute(db)))
            assert row.value == "1" * 60

    asyncio.run(check())


def test_a_transaction_that_failed_unnoticed_is_not_reported_as_done(url: str) -> None:
    def swallow(db: peewee.Database) -> None:
        Installation.insert({"key": "a", "value": "v"}).execute(db)
        with pytest.raises(peewee.DataError):
            db.execute_sql("SELECT 1 / 0")

    async def check() -> None:
        async with opened(url) as database:
            with pytest.raises(peewee.InternalError):
                await database.run(swallow)
            await database.ping()

    asyncio.run(check())


# -- rights -----------------------------------------------------------------------------------


@contextmanager
def role(server: PostgresServer, url: str) -> Iterator[tuple[str, str]]:
    """A user without any right of its own, and the URL with which it connects."""
    name = f"u{name_of(url)[1:9]}"
    server.psql("postgres", f"CREATE ROLE {name} LOGIN")
    try:
        yield name, url.replace("postgres:@", f"{name}@")
    finally:
        server.psql(name_of(url), f"DROP OWNED BY {name}")
        server.psql("postgres", f"DROP OWNED BY {name}")
        server.psql("postgres", f"DROP ROLE {name}")


def test_a_missing_right_to_create_tables_is_named(server: PostgresServer, url: str) -> None:
    with role(server, url) as (name, theirs), pytest.raises(SettingError) as caught:
        asyncio.run(Database.open(theirs))
    line = str(caught.value)
    assert line.startswith("USHER_DATABASE_URL: ")
    assert f'"{name}"' in line
    assert "permission denied for schema public" in line


def test_a_missing_right_to_connect_is_named(server: PostgresServer, url: str) -> None:
    server.psql("postgres", f"REVOKE CONNECT ON DATABASE {name_of(url)} FROM PUBLIC")
    with role(server, url) as (_, theirs), pytest.raises(SettingError, match="permission denied"):
        asyncio.run(Database.open(theirs))


def test_no_schema_to_create_in_is_named(server: PostgresServer, url: str) -> None:
    server.psql(name_of(url), "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    with role(server, url) as (_, theirs), pytest.raises(SettingError, match="schema"):
        asyncio.run(Database.open(theirs))


def test_rights_on_tables_of_another_owner_suffice_and_a_missing_one_is_named(
    server: PostgresServer, url: str
) -> None:
    """The tables are up to date: nothing has to be created or changed."""
    asyncio.run(open_and_close(url))
    name = name_of(url)
    with role(server, url) as (user, theirs):
        with pytest.raises(SettingError, match="schema_migrations"):
            asyncio.run(open_and_close(theirs))
        server.psql(name, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
        with pytest.raises(
            SettingError, match=r"DELETE, INSERT, UPDATE on table .* and [0-9]+ more"
        ):
            asyncio.run(open_and_close(theirs))
        server.psql(name, f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}")
        with pytest.raises(SettingError, match="USAGE on sequence"):
            asyncio.run(open_and_close(theirs))
        server.psql(name, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {user}")
        asyncio.run(open_and_close(theirs))


def test_tables_of_another_owner_that_have_to_change_are_named(
    server: PostgresServer, url: str
) -> None:
    asyncio.run(open_and_close(url))
    name = name_of(url)
    server.psql(name, "DELETE FROM schema_migrations WHERE name LIKE '0005%'")
    with role(server, url) as (user, theirs):
        for kind in ("TABLES", "SEQUENCES"):
            server.psql(name, f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {user}")
        server.psql(name, f"GRANT ALL ON SCHEMA public TO {user}")
        with pytest.raises(SettingError, match="must be owner of table") as caught:
            asyncio.run(open_and_close(theirs))
    assert "\n" not in str(caught.value)


def test_a_right_that_is_accepted_while_it_runs_is_an_outage(
    server: PostgresServer, url: str
) -> None:
    async def check() -> None:
        with role(server, url) as (user, theirs):
            server.psql(name_of(url), f"GRANT ALL ON SCHEMA public TO {user}")
            async with opened(theirs) as database:
                server.psql(name_of(url), "ALTER TABLE installation OWNER TO postgres")
                with pytest.raises(DatabaseUnavailable):
                    await database.run(lambda db: list(Installation.select().execute(db)))
                await database.run(setting, "transaction_isolation")

    asyncio.run(check())
