"""The database: accounts, login sessions and revocations, off the hot path.

Work is plain synchronous Peewee code; the bridge (`playhouse.pwasyncio`) lets it wait without
blocking the loop. Each run is a task of its own with one connection and one transaction, so that a
cancelled run never leaves a connection in an unknown state: docs/adr/0002.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
import peewee

from services.callers import Callers
from services.errors import DatabaseUnavailable
from services.fair_queue import FairQueue, Lane, Turn
from services.storage import database_errors, database_url, migrations
from services.storage.database_errors import DRIVER_ERRORS
from services.storage.database_rights import check_rights, explain
from services.storage.database_url import DatabaseUrl, SqliteFile

P = ParamSpec("P")
T = TypeVar("T")

# Another node may be running a long migration: wait for its lock.
MIGRATION_TIMEOUT_SECONDS = 120.0

NODE_RUNS = 256
"""Runs of the node's own loops that may wait: far more than there are loops."""

logger = logging.getLogger(__name__)


class _BrokenOff(Exception):
    """The caller of this run has gone: roll back."""


class _Run:
    """The state of one call of `Database.run` that is needed to abort it safely."""

    __slots__ = ("broken_off", "committing", "connection", "lost", "task", "turn")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.broken_off = False
        self.committing = False
        self.lost = False
        self.connection: Any = None
        self.task: asyncio.Task[Any] | None = None


class Database:
    """SQLite (one connection, serialised) or PostgreSQL (a few). Use `Database.open`.

    Args:
        bridge: an AsyncSqliteDatabase or AsyncPostgresqlDatabase.
        url: the URL that it was opened with.
        timeout: seconds that a run may take, including the wait for a connection.
        max_waiting: the most runs in progress or waiting; beyond it, `Busy` is raised.
    """

    def __init__(
        self, bridge: Any, url: DatabaseUrl, timeout: float, max_waiting: int, callers: Callers
    ) -> None:
        self.callers = callers
        """On whose behalf tasks work: what share of the connections they have."""
        self._queue = FairQueue(*_shares(url, max_waiting))
        self.kind = url.kind
        self._shown = url.shown
        self._bridge = bridge
        self._timeout = timeout
        self._runs: set[_Run] = set()
        self._closed = False
        self._starting = True
        self._file: SqliteFile | None = None
        self._user = "" if url.postgresql is None else url.postgresql.login.get("user", "")
        # IMMEDIATE: two processes that read first and write then would otherwise end in a
        # deadlock that SQLite reports at once instead of waiting.
        self._begin = ("IMMEDIATE",) if url.kind == "sqlite" else ()

    def __repr__(self) -> str:
        return f"Database({self._shown})"

    @classmethod
    async def open(
        cls,
        url: str,
        timeout: float = 5.0,
        max_waiting: int = 1024,
        callers: Callers | None = None,
    ) -> Database:
        """Connect to the database and apply pending migrations.

        Args:
            url: `sqlite:///path` or `postgresql://user:password@host:port/name?options`.
            timeout: seconds that one run may take.
            max_waiting: the most runs of users in progress or waiting, before `Busy` is raised;
                unauthenticated callers have half of it.
            callers: the caller that each task works for.

        Raises:
            SettingError: the URL is of another database, has an unsupported option, or its user
                lacks a privilege; the message says which.
            DatabaseUnavailable: the database cannot be reached, read or written. The text
                contains no password.
        """
        _quieten_parameter_logs()
        parsed = database_url.parse(url)
        if parsed.kind == "sqlite":
            await asyncio.to_thread(database_url.prepare_sqlite, parsed, timeout)
        database = cls(
            database_url.open_bridge(parsed, timeout),
            parsed,
            timeout,
            max_waiting,
            callers or Callers(),
        )
        try:
            if parsed.kind == "sqlite":
                database._file = SqliteFile(parsed.path)
            await database._migrate()
        except BaseException:  # also if cancelled, or SQLite's thread would outlive the start
            await database.close()
            raise
        return database

    async def run(
        self,
        work: Callable[Concatenate[peewee.Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work(db, *args, **kwargs)` in one transaction, which is committed when it returns.

        `work` may run twice, so it must have no side effects except through `db`. It must return
        values, not queries, because `db` cannot be used afterwards. An exception in `work` rolls
        back and is raised to the caller.

        Raises:
            DatabaseUnavailable: the database is unavailable or slower than the timeout. If the
                connection was lost during the commit, the commit may or may not have happened.
            Busy: too many runs are waiting.
            peewee.IntegrityError: a constraint was violated. The text has the constraint's name
                and no values.
        """

        def call(db: peewee.Database) -> T:
            return work(db, *args, **kwargs)

        return await self._supervise(partial(self._transaction, call))

    async def read(
        self,
        work: Callable[Concatenate[peewee.Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Like `run`, for `work` that only reads. It also succeeds if the database cannot be
        written: on a full disk, while another process holds the write lock, or on a standby.

        Raises:
            DatabaseUnavailable, Busy: as `run`.
        """

        def call(db: peewee.Database) -> T:
            return work(db, *args, **kwargs)

        return await self._supervise(partial(self._reading, call))

    async def ping(self) -> None:
        """Check whether the database accepts writes.

        Raises:
            DatabaseUnavailable, Busy: as `run`.
        """
        await self.run(_ping)

    async def close(self) -> None:
        """Wait up to the timeout for runs in progress, then close every connection."""
        self._closed = True
        tasks = {run.task for run in self._runs if run.task is not None}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._timeout)
            for run in list(self._runs):
                self._break_off(run)
            if late:
                await asyncio.wait(late, timeout=self._timeout)
        try:
            await asyncio.wait_for(self._bridge.close_pool(), self._timeout * 2)
        except (asyncio.TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.PostgresError):
            logger.warning("the %s connections did not close in order", self.kind)

    async def _migrate(self) -> None:
        await self._supervise(self._bring_up, timeout=MIGRATION_TIMEOUT_SECONDS)
        self._starting = False

    # -- supervision: bounds in number and time --------------------------------------------

    async def _supervise(self, job: Callable[[_Run], T], timeout: float | None = None) -> T:
        """Run `job` in its own task, so that the caller can leave without waiting for its end."""
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        caller = self.callers.current
        run = _Run(self._queue.request(caller.kind, caller.key))
        self._runs.add(run)
        # Not asyncio.wait_for, which would wait for a rollback that a hanging server never
        # answers.
        run.task = asyncio.ensure_future(self._in_turn(job, run))
        run.task.add_done_callback(partial(self._ended, run))
        limit = self._timeout if timeout is None else timeout
        try:
            done, _ = await asyncio.wait({run.task}, timeout=limit)
        except asyncio.CancelledError:
            self._break_off(run)
            raise
        if not done:
            self._break_off(run)
            raise DatabaseUnavailable(f"{self.kind} did not answer within {limit:g} s")
        result: T = run.task.result()
        return result

    def _ended(self, run: _Run, task: asyncio.Task[Any]) -> None:
        # The slot is freed only now, not when the caller left: a hanging run keeps its slot.
        self._runs.discard(run)
        run.turn.release()
        if not task.cancelled():
            task.exception()  # retrieved here, or asyncio logs it if the caller has left

    def _break_off(self, run: _Run) -> None:
        """Abort a run whose caller has left, so that its connection is not reused half-way."""
        run.broken_off = True
        if run.task is None or run.task.done():
            return
        if run.connection is None:
            run.task.cancel()
        elif self.kind == "postgresql":
            # Not a cancellation, which would wait for the rollback and the reset on a connection
            # that may be dead. Without the connection the server rolls back by itself.
            _terminate(run.connection)
        # SQLite: its thread is executing a statement. After it the run sees `broken_off` and
        # rolls back. A cancellation would race with the statement and could return the
        # connection inside a transaction.

    async def _in_turn(self, job: Callable[[_Run], T], run: _Run) -> T:
        await run.turn.wait()
        return await self._attempt_twice(job, run)

    async def _attempt_twice(self, job: Callable[[_Run], T], run: _Run) -> T:
        try:
            return await self._attempt(job, run)
        except DRIVER_ERRORS as error:
            if run.broken_off or not _may_retry(error, run):
                raise database_errors.refusal(error, self.kind, run.lost) from None
            logger.info("%s: tried again after %s", self.kind, _name(error))
        run.committing = run.lost = False
        try:
            return await self._attempt(job, run)
        except DRIVER_ERRORS as error:
            raise database_errors.refusal(error, self.kind, run.lost) from None

    async def _attempt(self, job: Callable[[_Run], T], run: _Run) -> T:
        run.connection = await self._acquire()
        try:
            if run.broken_off:
                raise _BrokenOff
            result: T = await self._bridge.run(job, run)
            return result
        except DRIVER_ERRORS as error:
            run.lost = run.connection.stale() or database_errors.is_dropped(error)
            raise
        finally:
            await self._release(run)

    async def _acquire(self) -> Any:
        try:
            return await self._bridge.aconnect()
        except DRIVER_ERRORS as error:
            self._refuse_at_start(error)
            cause = database_errors.origin(error)
            # The text comes from the server or the system; neither contains the password.
            raise DatabaseUnavailable(f"{self._shown}: {cause}") from None

    async def _release(self, run: _Run) -> None:
        connection = run.connection
        try:
            if self.kind == "postgresql" and (run.lost or run.broken_off or connection.stale()):
                _terminate(connection)
                await connection.close()  # releases asyncpg's proxy, which is invalid now
            await self._bridge.aclose()
        except DRIVER_ERRORS as error:
            # The transaction has ended; this must not change its result.
            logger.info("%s: connection dropped on release: %s", self.kind, _name(error))
        finally:
            run.connection = None

    # -- inside the greenlet bridge ---------------------------------------------------------

    def _transaction(self, work: Callable[[peewee.Database], T], run: _Run) -> T:
        with self._bridge.atomic(*self._begin):
            result = work(self._bridge)
            if run.broken_off:
                raise _BrokenOff
            if self._file is not None:
                self._file.check()
            run.committing = True
        return result

    def _reading(self, work: Callable[[peewee.Database], T], run: _Run) -> T:
        with self._bridge.atomic():
            result = work(self._bridge)
            if run.broken_off:
                raise _BrokenOff
        return result

    def _bring_up(self, _: _Run) -> None:
        try:
            migrations.migrate(self._bridge)
            if self.kind == "postgresql":
                check_rights(self._bridge, self._shown)
        except DRIVER_ERRORS as error:
            self._refuse_at_start(error)
            raise

    def _refuse_at_start(self, error: Exception) -> None:
        line = explain(error, self._shown, self._user) if self._starting else None
        if line is not None:
            raise line from None


def _shares(url: DatabaseUrl, max_waiting: int) -> tuple[int, list[Lane]]:
    """The lanes that share the connections. Internal work (ping, the sweep of revocations) and
    users each have a reserved connection. Unauthenticated callers may use a part of the rest, in
    rotation. SQLite has one connection, which the lanes share over time: internal work is next."""
    places = 1 if url.postgresql is None else url.postgresql.connections
    half, some = max(1, max_waiting // 2), max(1, max_waiting // 8)
    return places, [
        Lane("node", 1000, int(places > 1), places, places, NODE_RUNS, NODE_RUNS),
        Lane("users", 4, int(places > 2), places, places, max_waiting, max_waiting),
        Lane("unauthenticated", 1, 0, max(1, places // 2), max(1, places // 4), half, some),
    ]


def _may_retry(error: Exception, run: _Run) -> bool:
    # Lost during the commit: it may have happened, so the work must not run again.
    if run.lost and not run.committing:
        return True
    return database_errors.is_rolled_back(error)


def _terminate(connection: Any) -> None:
    try:
        if connection.conn is not None:
            connection.conn.terminate()
    except asyncpg.InterfaceError:
        pass  # already returned


def _ping(db: peewee.Database) -> None:
    if migrations.is_sqlite(db):
        return  # BEGIN IMMEDIATE was the check
    row = db.execute_sql("SELECT current_setting('transaction_read_only')").fetchone()
    if row[0] == "on":
        raise DatabaseUnavailable("postgresql: takes no writes, it is a standby")


def _name(error: Exception) -> str:
    return type(database_errors.origin(error)).__name__


def _quieten_parameter_logs() -> None:
    # Both log every query with its values (e-mail addresses, hashes) at DEBUG.
    for name in ("peewee", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.INFO)
