"""Runs in a database: transactions, bounds, and the shares of its callers."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import traceback

import peewee
import pytest

from models.installation import Installation
from services.errors import Busy, DatabaseUnavailable
from services.event_loop.callers import Kind
from services.storage import migrations
from tests.storage.runs import ADDRESS, eventually, keys, pause, put
from tests.support.databases import opened

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
