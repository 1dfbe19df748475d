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

# Another node may be in the middle of a long migration: its lock is waited for.
MIGRATION_TIMEOUT_SECONDS = 120.0

NODE_RUNS = 256
"""Runs of the node's own loops that may wait: far more than there are loops."""

logger = logging.getLogger(__name__)


class _BrokenOff(Exception):
    """Nobody waits for this run any more: roll back."""


class _Run:
    """One call of `Database.run`: what has to be known to break it off safely."""

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
        url: what it was opened with.
        timeout: seconds that a run may take, waiting for a connection included.
        max_waiting: runs under way or waiting at once, before `Busy`.
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
        """Connects and brings the schema up to date.

        Args:
            url: `sqlite:///path` or `postgresql://user:password@host:port/name?options`.
            timeout: seconds that one run may take.
            max_waiting: runs of users under way or waiting at once, before `Busy`; strangers
                have half of it.
            callers: on whose behalf tasks work.

        Raises:
            SettingError: the URL names neither, has an option that is not taken, or its user
                lacks a right; the line says which.
            DatabaseUnavailable: it cannot be reached, read or written. Names no password.
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
        except BaseException:  # cancelled too: SQLite's thread would outlive the start
            await database.close()
            raise
        return database

    async def run(
        self,
        work: Callable[Concatenate[peewee.Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs `work(db, *args, **kwargs)` in one transaction; committed when it returns.

        `work` may run twice: it must do nothing but use `db`. It must return values, not
        queries, since `db` is of no use afterwards. What it raises rolls back and passes.

        Raises:
            DatabaseUnavailable: the database is gone or slower than the timeout. When it
                was lost during the commit itself, nobody knows whether that took place.
            Busy: too many runs are waiting already.
            peewee.IntegrityError: a constraint; with its name, without the values.
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
        """As `run`, for `work` that only reads: it also succeeds where nothing can be written, as
        on a full disk, beside another process's lock, or on a standby.

        Raises:
            DatabaseUnavailable, Busy: as `run`.
        """

        def call(db: peewee.Database) -> T:
            return work(db, *args, **kwargs)

        return await self._supervise(partial(self._reading, call))

    async def ping(self) -> None:
        """Asks the database whether it would take a write just now.

        Raises:
            DatabaseUnavailable, Busy: as `run`.
        """
        await self.run(_ping)

    async def close(self) -> None:
        """Lets what is under way end within the timeout, then closes every connection."""
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
        """Runs `job` in a task of its own and gives up on it without waiting for its end."""
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        caller = self.callers.current
        run = _Run(self._queue.request(caller.kind, caller.key))
        self._runs.add(run)
        # Not asyncio.wait_for: that would go on waiting for a rollback that a hanging server
        # never answers.
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
        # The place is free only now, not when its caller left: what hangs counts as waiting.
        self._runs.discard(run)
        run.turn.release()
        if not task.cancelled():
            task.exception()  # seen here, or asyncio logs it when the caller has left

    def _break_off(self, run: _Run) -> None:
        """Ends a run whose caller has left, so that its connection is not handed on half-used."""
        run.broken_off = True
        if run.task is None or run.task.done():
            return
        if run.connection is None:
            run.task.cancel()
        elif self.kind == "postgresql":
            # Not a cancellation: its rollback and its reset would be waited for on a line that
            # may be dead. Without the connection the server rolls back by itself.
            _terminate(run.connection)
        # SQLite: its thread is in the middle of a statement that will end; the run sees
        # `broken_off` then and rolls back. A cancellation would race with that statement and
        # return the connection with a transaction begun.

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
            # The text is the server's own or the system's; neither repeats the password.
            raise DatabaseUnavailable(f"{self._shown}: {cause}") from None

    async def _release(self, run: _Run) -> None:
        connection = run.connection
        try:
            if self.kind == "postgresql" and (run.lost or run.broken_off or connection.stale()):
                _terminate(connection)
                await connection.close()  # lets go of asyncpg's proxy, which is void now
            await self._bridge.aclose()
        except DRIVER_ERRORS as error:
            # The transaction is over by now; whether it worked must not depend on this.
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
    """How the connections are shared: the node's own work (its ping, the sweep of revocations) and
    users have what nobody else takes, and strangers have a part of the rest in their turn. SQLite
    has one connection, and they share its time: the node's work is next whenever there is some."""
    places = 1 if url.postgresql is None else url.postgresql.connections
    half, some = max(1, max_waiting // 2), max(1, max_waiting // 8)
    return places, [
        Lane("node", 1000, int(places > 1), places, places, NODE_RUNS, NODE_RUNS),
        Lane("users", 4, int(places > 2), places, places, max_waiting, max_waiting),
        Lane("unauthenticated", 1, 0, max(1, places // 2), max(1, places // 4), half, some),
    ]


def _may_retry(error: Exception, run: _Run) -> bool:
    # Lost in the commit: it may have taken place, and a second time would be one too many.
    if run.lost and not run.committing:
        return True
    return database_errors.is_rolled_back(error)


def _terminate(connection: Any) -> None:
    try:
        if connection.conn is not None:
            connection.conn.terminate()
    except asyncpg.InterfaceError:
        pass  # given back already


def _ping(db: peewee.Database) -> None:
    if migrations.is_sqlite(db):
        return  # BEGIN IMMEDIATE was the question
    row = db.execute_sql("SELECT current_setting('transaction_read_only')").fetchone()
    if row[0] == "on":
        raise DatabaseUnavailable("postgresql: takes no writes, it is a standby")


def _name(error: Exception) -> str:
    return type(database_errors.origin(error)).__name__


def _quieten_parameter_logs() -> None:
    # Both write every query with its values (e-mail addresses, hashes) at DEBUG.
    for name in ("peewee", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.INFO)
