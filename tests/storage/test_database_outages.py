"""PostgreSQL hangs, drops its connections or is killed while Usher uses it."""

from __future__ import annotations

import asyncio
import time

import peewee
import pytest
from playhouse.pwasyncio import await_

from services.errors import DatabaseUnavailable
from services.storage.database import Database
from services.storage.database_url import parse
from tests.storage.runs import eventually, keys, put, server
from tests.support.databases import on_postgresql, opened
from tests.support.postgres import PostgresServer

__all__ = ["server"]


@on_postgresql
def test_a_hanging_server_is_given_up_in_time_and_used_again_after(
    server: PostgresServer, database_url: str
) -> None:
    async def check() -> None:
        async with opened(database_url, timeout=0.7) as database:
            await asyncio.gather(*(database.run(keys) for _ in range(8)))
            with server.frozen():
                before = time.monotonic()
                runs = [database.run(put, str(n)) for n in range(12)]
                results = await asyncio.gather(*runs, return_exceptions=True)
                assert [type(result) for result in results] == [DatabaseUnavailable] * 12
                with pytest.raises(DatabaseUnavailable):
                    await database.ping()
                assert time.monotonic() - before < 5
            # What lay on the dead lines may have reached the server, but was not committed.
            assert await eventually(database) == []

    asyncio.run(check())


@on_postgresql
def test_a_cancellation_while_the_server_hangs_returns_at_once(
    server: PostgresServer, database_url: str
) -> None:
    async def check() -> None:
        async with opened(database_url, timeout=30) as database:
            with server.frozen():
                tasks = [asyncio.ensure_future(database.run(put, str(n))) for n in range(6)]
                await asyncio.sleep(0.1)
                before = time.monotonic()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert time.monotonic() - before < 2
            assert await eventually(database) == []

    asyncio.run(check())


@on_postgresql
def test_closing_while_the_server_hangs_ends(server: PostgresServer, database_url: str) -> None:
    async def check() -> None:
        database = await Database.open(database_url, timeout=0.5)
        await database.run(keys)
        with server.frozen():
            before = time.monotonic()
            await database.close()
            assert time.monotonic() - before < 5

    asyncio.run(check())


@on_postgresql
def test_a_connection_dropped_while_idle_is_replaced(
    server: PostgresServer, database_url: str
) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            await asyncio.gather(*(database.run(keys) for _ in range(8)))
            drop_connections(server)
            await asyncio.gather(*(database.run(put, str(n)) for n in range(8)))
            assert len(await database.run(keys)) == 8

    asyncio.run(check())


@on_postgresql
def test_a_connection_dropped_in_a_run_is_tried_once_more(
    server: PostgresServer, database_url: str
) -> None:
    calls = []

    def work(db: peewee.Database) -> None:
        calls.append(1)
        put(db, "a")
        if len(calls) == 1:
            drop_connections(server)
        put(db, "b")

    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(work)
            assert (len(calls), await database.run(keys)) == (2, ["a", "b"])

    asyncio.run(check())


@on_postgresql
def test_a_run_never_continues_over_a_second_connection(
    server: PostgresServer, database_url: str
) -> None:
    calls = []

    def work(db: peewee.Database) -> None:
        calls.append(1)
        put(db, f"a{len(calls)}")
        if len(calls) == 1:
            drop_connections(server)
            await_(asyncio.sleep(0.1))  # the loop sees that the connection is gone
        put(db, f"b{len(calls)}")

    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(work)
            # "b1" would have been written for itself, outside the transaction of "a1".
            assert await database.run(keys) == ["a2", "b2"]

    asyncio.run(check())


@on_postgresql
def test_a_connection_dropped_twice_is_reported(server: PostgresServer, database_url: str) -> None:
    calls = []

    def work(db: peewee.Database) -> None:
        calls.append(1)
        put(db, "a")
        drop_connections(server)
        put(db, "b")

    async def check() -> None:
        async with opened(database_url) as database:
            with pytest.raises(DatabaseUnavailable):
                await database.run(work)
            assert (len(calls), await database.run(keys)) == (2, [])

    asyncio.run(check())


def drop_connections(server: PostgresServer) -> None:
    server.psql(
        "postgres",
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'usher'",
    )


@pytest.mark.slow
@on_postgresql
def test_a_killed_server_is_reported_and_found_again(
    server: PostgresServer, database_url: str
) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(put, "a")
            server.kill()
            for refused in (database.ping(), database.run(keys), database.run(put, "b")):
                with pytest.raises(DatabaseUnavailable):
                    await refused
            server.start()
            assert await eventually(database) == ["a"]

    asyncio.run(check())


@on_postgresql
def test_a_standby_is_not_ready(server: PostgresServer, database_url: str) -> None:
    async def check() -> None:
        name = parse(database_url).shown.rpartition("/")[2]
        async with opened(database_url) as database:
            await database.ping()
            server.psql("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            drop_connections(server)
            with pytest.raises(DatabaseUnavailable, match="standby"):
                await database.ping()
            with pytest.raises(DatabaseUnavailable):
                await database.run(put, "a")

    asyncio.run(check())
