"""The database: accounts, login sessions and revocations, off the hot path.

On SQLite, reads have a connection of their own, which takes no write lock: in WAL mode a reader
does not wait for a writer. So a crowd of joins waits for no sign-in, and no sign-in waits for it.

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

from services.errors import DatabaseUnavailable
from services.event_loop.callers import Callers
from services.storage import database_url, migrations
from services.storage.database_errors import DRIVER_ERRORS
from services.storage.database_rights import check_rights, explain
from services.storage.database_url import DatabaseUrl, SqliteFile
from services.storage.runs import BrokenOff, Run, Runs

P = ParamSpec("P")
T = TypeVar("T")

# Another node may be running a long migration: wait for its lock.
MIGRATION_TIMEOUT_SECONDS = 120.0

logger = logging.getLogger(__name__)


class Database:
    """SQLite (one connection for runs and one for reads) or PostgreSQL (a few for both). Use
    `Database.open`.

    Args:
        bridge: an AsyncSqliteDatabase or AsyncPostgresqlDatabase.
        reader: the bridge of reads; the same on PostgreSQL.
        url: the URL that it was opened with.
        timeout: seconds that a run may take, including the wait for a connection.
        max_waiting: the most runs in progress or waiting; beyond it, `Busy` is raised.
    """

    def __init__(
        self,
        bridge: Any,
        reader: Any,
        url: DatabaseUrl,
        timeout: float,
        max_waiting: int,
        callers: Callers,
    ) -> None:
        self.callers = callers
        """On whose behalf tasks work: what share of the connections they have."""
        self.kind = url.kind
        self._shown = url.shown
        self._bridge, self._reader = bridge, reader
        self._timeout = timeout
        self._runs = Runs(bridge, url, timeout, max_waiting, callers, self._refuse_at_start)
        self._reads = self._runs
        if reader is not bridge:
            self._reads = Runs(reader, url, timeout, max_waiting, callers, self._refuse_at_start)
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
        bridge, reader = database_url.open_bridges(parsed, timeout)
        database = cls(bridge, reader, parsed, timeout, max_waiting, callers or Callers())
        try:
            if parsed.kind == "sqlite":
                database._file = SqliteFile(parsed.path)
            await database._migrate()
            if reader is not bridge:
                # Now, and not at the first read: by then the path may lead to another file.
                await database.read(_nothing)
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

        return await self._runs.supervise(partial(self._transaction, call))

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

        return await self._reads.supervise(partial(self._reading, call))

    async def ping(self) -> None:
        """Check whether the database accepts writes.

        Raises:
            DatabaseUnavailable, Busy: as `run`.
        """
        await self.run(_ping)

    async def close(self) -> None:
        """Wait up to the timeout for runs in progress, then close every connection."""
        await asyncio.gather(*(runs.close() for runs in {self._runs, self._reads}))
        closing = (bridge.close_pool() for bridge in {self._bridge, self._reader})
        try:
            await asyncio.wait_for(asyncio.gather(*closing), self._timeout * 2)
        except (asyncio.TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.PostgresError):
            logger.warning("the %s connections did not close in order", self.kind)

    async def _migrate(self) -> None:
        await self._runs.supervise(self._initialize_connection, timeout=MIGRATION_TIMEOUT_SECONDS)
        self._starting = False

    # -- inside the greenlet bridge ---------------------------------------------------------

    def _transaction(self, work: Callable[[peewee.Database], T], run: Run) -> T:
        with self._bridge.atomic(*self._begin):
            result = work(self._bridge)
            if run.broken_off:
                raise BrokenOff
            if self._file is not None:
                self._file.check()
            run.committing = True
        return result

    def _reading(self, work: Callable[[peewee.Database], T], run: Run) -> T:
        with self._reader.atomic():
            result = work(self._reader)
            if run.broken_off:
                raise BrokenOff
        return result

    def _initialize_connection(self, _: Run) -> None:
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


def _nothing(_: peewee.Database) -> None:
    """Only connect."""


def _ping(db: peewee.Database) -> None:
    if migrations.is_sqlite(db):
        return  # BEGIN IMMEDIATE was the check
    row = db.execute_sql("SELECT current_setting('transaction_read_only')").fetchone()
    if row[0] == "on":
        raise DatabaseUnavailable("postgresql: takes no writes, it is a standby")


def _quieten_parameter_logs() -> None:
    # Both log every query with its values (e-mail addresses, hashes) at DEBUG.
    for name in ("peewee", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.INFO)
