"""The bridge to SQLite: each statement is one visit to the connection's thread.

Peewee's bridge executes a statement, fetches its rows and closes its cursor in three visits. Each
costs two switches between threads, which is several times what a small statement takes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from playhouse.pwasyncio import (
    AsyncSqliteConnection,
    AsyncSqliteDatabase,
    AsyncSqlitePool,
    CursorAdapter,
)

from services.storage.postgresql import OneConnection

# The share of the timeout for another process's write lock; the one retry must fit in the rest.
LOCK_SHARE = 0.4


class _Connection(AsyncSqliteConnection):  # type: ignore[misc]  # no stubs
    async def _execute(self, sql: str, params: Sequence[Any] | None = None) -> CursorAdapter:
        # Not `execute_fetchall` of aiosqlite, which does not tell the number of changed rows.
        line = self.conn
        # Its thread and sqlite3's own connection have no public names.
        adapter: CursorAdapter = await line._execute(_run, line._conn, sql, params or ())  # noqa: SLF001
        return adapter


class _Pool(AsyncSqlitePool):  # type: ignore[misc]  # no stubs
    async def _create_connection(self) -> _Connection:
        made = await super()._create_connection()
        return _Connection(made.conn)


class _Sqlite(OneConnection, AsyncSqliteDatabase):  # type: ignore[misc]  # no stubs
    async def _create_pool_async(self) -> _Pool:
        pool = _Pool(
            self.database,
            pool_size=self._pool_size,
            on_connect=self._add_conn_hooks,
            timeout=self._timeout,
            **self.connect_params,
        )
        opened: _Pool = await pool.initialize()
        return opened


def _run(connection: sqlite3.Connection, sql: str, params: Sequence[Any]) -> CursorAdapter:
    """A statement from begin to end, in the connection's thread."""
    cursor = connection.execute(sql, params)
    try:
        rows = cursor.fetchall()
        return CursorAdapter(
            rows,
            lastrowid=cursor.lastrowid,
            rowcount=cursor.rowcount,
            description=cursor.description,
        )
    finally:
        cursor.close()


def open_sqlite(path: str, timeout: float) -> Any:
    """Open the bridge to SQLite with one connection, so that runs queue and cannot deadlock.

    Args:
        path: of the file.
        timeout: seconds that a run may take.
    """
    return _Sqlite(
        path,
        pool_size=1,
        acquire_timeout=timeout,
        timeout=timeout * LOCK_SHARE,
        # journal_mode is set by prepare_sqlite and stored in the file. In WAL mode, NORMAL may
        # lose the last commits at a power failure, and cannot corrupt the file.
        pragmas={"foreign_keys": 1, "synchronous": 1},
    )


def open_sqlite_reader(path: str, timeout: float) -> Any:
    """Open another bridge, with one connection that reads and never writes. In WAL mode it waits
    for no writer, and no writer waits for it.

    Args:
        path: of the file, which must exist.
        timeout: seconds that a run may take.
    """
    return _Sqlite(
        # Not created where it is missing: that would be an empty database, without a table.
        f"file:{quote(path)}?mode=rw",
        uri=True,
        pool_size=1,
        acquire_timeout=timeout,
        timeout=timeout * LOCK_SHARE,
        pragmas={"query_only": 1},
    )
