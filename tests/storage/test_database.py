from __future__ import annotations

import asyncio
import gc
import logging
import os
import sqlite3
import stat
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest
from playhouse.pwasyncio import await_

from models.installation import Installation
from services.errors import Busy, DatabaseUnavailable, SettingError, UsherError
from services.event_loop.callers import Kind
from services.storage import migrations
from services.storage.database import Database
from services.storage.database_url import parse, prepare_sqlite
from tests.support.databases import on_postgresql, opened
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


# -- transactions ---------------------------------------------------------------------------


def test_what_a_run_writes_the_next_one_reads(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(put, "a", value="1")
            await database.ping()
            assert await database.run(keys) == ["a"]

    asyncio.run(check())


def test_a_run_that_raises_leaves_nothing_behind_and_its_error_passes(database_url: str) -> None:
    class Refused(Exception):
        pass

    def half(db: peewee.Database) -> None:
        put(db, "a")
        raise Refused("no")

    async def check() -> None:
        async with opened(database_url) as database:
            for _ in range(20):  # more often than there are connections
                with pytest.raises(Refused, match="no"):
                    await database.run(half)
            assert await database.run(keys) == []

    asyncio.run(check())


def test_an_integrity_error_names_the_constraint_and_not_the_value(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(put, ADDRESS)
            with pytest.raises(peewee.IntegrityError, match="installation") as caught:
                await database.run(put, ADDRESS)
        assert ADDRESS not in "".join(traceback.format_exception(caught.value))

    asyncio.run(check())


def test_a_missing_row_is_reported_without_the_value_looked_for(database_url: str) -> None:
    def look(db: peewee.Database) -> object:
        return Installation.select().where(Installation.key == ADDRESS).get(db)

    async def check() -> None:
        async with opened(database_url) as database:
            with pytest.raises(Installation.DoesNotExist) as caught:
                await database.run(look)
        assert ADDRESS not in "".join(traceback.format_exception(caught.value))

    asyncio.run(check())


def test_a_mistake_in_the_sql_does_not_pass_for_an_outage(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            with pytest.raises(peewee.DatabaseError):
                await database.run(lambda db: db.execute_sql("SELECT 1 FROM no_such_table"))
            await database.ping()

    asyncio.run(check())


def test_savepoints_work_inside_a_run(database_url: str) -> None:
    def twice(db: peewee.Database) -> None:
        put(db, "a")
        with pytest.raises(peewee.IntegrityError), db.atomic():
            put(db, "a")
        put(db, "b")

    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(twice)
            assert await database.run(keys) == ["a", "b"]

    asyncio.run(check())


def test_many_runs_at_once_in_one_long_task_all_get_a_connection(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            await asyncio.gather(*(database.run(put, f"{n:03}") for n in range(100)))
            for _ in range(100):
                await database.run(keys)
            assert len(await database.run(keys)) == 100

    asyncio.run(check())


def test_read_then_write_counts_right_under_concurrency(database_url: str) -> None:
    def count(db: peewee.Database) -> None:
        query = Installation.select().where(Installation.key == "n")
        row = (query if isinstance(db, peewee.SqliteDatabase) else query.for_update()).get(db)
        new = {"value": str(int(row.value) + 1)}
        Installation.update(new).where(Installation.key == "n").execute(db)

    async def check() -> None:
        async with opened(database_url) as one, opened(database_url) as other:
            await one.run(put, "n", "0")
            await asyncio.gather(*(each.run(count) for each in [one, other] * 10))
            row = await one.run(lambda db: Installation.select().get(db))
            assert row.value == "20"

    asyncio.run(check())


# -- bounds ---------------------------------------------------------------------------------


def test_more_runs_than_may_wait_are_refused_at_once(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url, max_waiting=3) as database:
            runs = [asyncio.ensure_future(database.run(put, str(n))) for n in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(Busy):
                await database.run(keys)
            await asyncio.gather(*runs)
            assert await database.run(keys) == ["0", "1", "2"]

    asyncio.run(check())


@pytest.mark.slow
def test_a_slow_run_is_given_up_and_rolled_back(database_url: str) -> None:
    def slow(db: peewee.Database) -> None:
        put(db, "a")
        pause(db, 1.5)
        put(db, "b")

    async def check() -> None:
        async with opened(database_url, timeout=0.5) as database:
            before = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                await database.run(slow)
            assert time.monotonic() - before < 5
            assert await eventually(database) == []

    asyncio.run(check())


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.003, 0.01, 0.05])
def test_a_cancelled_run_leaves_no_poisoned_connection(database_url: str, delay: float) -> None:
    def slow(db: peewee.Database, key: str) -> None:
        put(db, key)
        pause(db, 0.2)

    async def check() -> None:
        async with opened(database_url) as database:
            tasks = [asyncio.ensure_future(database.run(slow, str(n))) for n in range(8)]
            await asyncio.sleep(delay)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.cancelled() for task in tasks)
            assert await eventually(database) == []
            await asyncio.gather(*(database.run(put, f"k{n}") for n in range(20)))
            assert len(await database.run(keys)) == 20

    asyncio.run(check())


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


def test_a_closed_database_refuses(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            pass
        with pytest.raises(DatabaseUnavailable):
            await database.run(keys)

    asyncio.run(check())


def test_closing_lets_what_is_in_progress_end(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            task = asyncio.ensure_future(database.run(put, "a"))
            await asyncio.sleep(0)
        await task
        async with opened(database_url) as database:
            assert await database.run(keys) == ["a"]

    asyncio.run(check())


def test_no_thread_connection_or_task_is_left_after_closing(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            await asyncio.gather(*(database.run(keys) for _ in range(10)))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    before = threading.active_count()
    asyncio.run(check())
    gc.collect()
    assert threading.active_count() <= before


# -- faults of PostgreSQL -------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = postgres_server()
    yield server
    server.start()


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


# -- faults of SQLite -----------------------------------------------------------------------


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
    asyncio.run(_open_and_close(f"sqlite:///{path}"))
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


async def _open_and_close(url: str) -> None:
    await (await Database.open(url)).close()


# -- the URL --------------------------------------------------------------------------------

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
        asyncio.run(_open_and_close(encoded))


def test_no_value_of_a_query_is_logged(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(put, ADDRESS)

    asyncio.run(check())
    assert ADDRESS not in caplog.text


# ---- shares ----------------------------------------------------------------------------------


KINDS_OF_OTHERS: tuple[Kind, ...] = ("node", "users")


def lasting(db: peewee.Database) -> None:
    if migrations.is_sqlite(db):
        count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
        db.execute_sql(f"{count} SELECT max(i) FROM n").fetchone()
    else:
        db.execute_sql("SELECT pg_sleep(0.05)").fetchone()


def test_the_node_and_users_do_not_stand_behind_unauthenticated_clients(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url, timeout=60) as database:
            done = 0

            async def unauthenticated(number: int) -> None:
                nonlocal done
                database.callers.enter("unauthenticated", f"192.0.2.{number % 4}")
                await database.run(lasting)
                done += 1

            async def other(kind: Kind) -> int:
                database.callers.enter(kind)
                before = done
                await database.ping()
                return done - before

            flood = [asyncio.create_task(unauthenticated(number)) for number in range(200)]
            await asyncio.sleep(0)
            for kind in KINDS_OF_OTHERS * 3:
                # At most those that are under way already, and one of each in its turn.
                assert await asyncio.create_task(other(kind)) <= 4
            assert not any(task.done() and task.exception() for task in flood)
            for task in flood:
                task.cancel()
            await asyncio.gather(*flood, return_exceptions=True)

    asyncio.run(check())


def test_one_unauthenticated_client_does_not_fill_the_queue_of_the_others(
    database_url: str,
) -> None:
    async def check() -> None:
        async with opened(database_url, timeout=60, max_waiting=64) as database:

            async def unauthenticated(ip: str) -> None:
                database.callers.enter("unauthenticated", ip)
                await database.run(lasting)

            flood = [asyncio.create_task(unauthenticated("192.0.2.1")) for _ in range(200)]
            other = asyncio.create_task(unauthenticated("192.0.2.2"))
            await other
            found = await asyncio.gather(*flood, return_exceptions=True)
            assert sum(isinstance(error, Busy) for error in found) >= 150
            assert {type(error) for error in found} == {Busy, type(None)}

    asyncio.run(check())
