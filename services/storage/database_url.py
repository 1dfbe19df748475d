"""Reads DATABASE_URL and opens what it names, without ever showing its password."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from peewee import InterfaceError
from playhouse.pwasyncio import (
    AsyncPostgresqlDatabase,
    AsyncSqliteDatabase,
)

from services.errors import DatabaseUnavailable, SettingError

SETTING = "USHER_DATABASE_URL"
TAKES = "sqlite:///path or postgresql://user:password@host:port/name"
POSTGRESQL_CONNECTIONS = 4
# Waiting for another process's write lock takes this share of the timeout, so that the one
# retry still fits in.
SQLITE_LOCK_SHARE = 0.4
SQLITE_FILE_MODE = 0o600


class _OneConnection:
    """Keeps one run on one connection.

    Peewee's bridge takes another connection where the one in use has gone, even in the middle
    of a transaction. What follows would then be committed statement by statement, without what
    came before. A lost connection has to end the run instead.
    """

    async def aconnect(self) -> Any:
        held = self._state.conn  # type: ignore[attr-defined]  # of the bridge
        if held is not None and held.stale():
            raise InterfaceError("the connection was lost")
        return await super().aconnect()  # type: ignore[misc]  # of the bridge


class _Postgresql(_OneConnection, AsyncPostgresqlDatabase):  # type: ignore[misc]  # no stubs
    pass


class _Sqlite(_OneConnection, AsyncSqliteDatabase):  # type: ignore[misc]  # no stubs
    pass


@dataclass(frozen=True)
class DatabaseUrl:
    """A DATABASE_URL, understood.

    Attributes:
        kind: "sqlite" or "postgresql".
        shown: the URL without user, password and options, fit for messages.
        path: the SQLite file; relative to the working directory unless it starts with "/".
        dsn: the PostgreSQL URL as asyncpg takes it. Holds the password, so it has no repr.
    """

    kind: str
    shown: str
    path: str = ""
    dsn: str = field(default="", repr=False)


def parse(url: str) -> DatabaseUrl:
    """Understands `url`.

    SQLite: all after `sqlite:///` is the path as it stands, without percent-decoding, so that
    any folder can be named. PostgreSQL: what libpq and asyncpg take, percent-encoded,
    also `?host=/socket/dir&sslmode=require`.

    Raises:
        SettingError: neither of the two; shows no credential.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise SettingError(SETTING, "something that is not a URL", TAKES)
    if scheme == "sqlite":
        return _sqlite(rest)
    if scheme in ("postgresql", "postgres"):
        return _postgresql(url)
    raise SettingError(SETTING, f"{scheme[:20]}://…", TAKES)


def is_there(url: str) -> bool:
    """Whether a SQLite file exists; of a server only a connection tells, so it counts as there.

    Raises:
        SettingError: as `parse`.
    """
    parsed = parse(url)
    return parsed.kind != "sqlite" or Path(parsed.path).is_file()


def _sqlite(rest: str) -> DatabaseUrl:
    path = rest[1:] if rest.startswith("/") else ""
    # A database in memory would be empty again after each lost connection.
    if not path or path == ":memory:" or "\0" in path:
        raise SettingError(SETTING, f"sqlite://{rest}", "sqlite:/// and the path of a file")
    return DatabaseUrl("sqlite", f"sqlite:///{path}", path=path)


def _postgresql(url: str) -> DatabaseUrl:
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        # urlsplit quotes the URL in its message; `from None` keeps the password out.
        raise SettingError(SETTING, "postgresql://… (not a URL)", TAKES) from None
    shown = f"postgresql://{host}/{unquote(parts.path.lstrip('/'))}"
    return DatabaseUrl("postgresql", shown, dsn=url)


def open_postgresql(url: DatabaseUrl, timeout: float) -> Any:
    """The bridge to PostgreSQL; connects when first used."""
    limit = str(int(timeout * 1000))
    return _Postgresql(
        url.dsn,
        pool_size=POSTGRESQL_CONNECTIONS,
        # With a floor asyncpg keeps reconnecting in the background, a traceback each time.
        pool_min_size=0,
        acquire_timeout=timeout,
        reset=_keep,
        server_settings={
            "application_name": "usher",
            # What this node gave up on must not go on holding locks over there, nor must a
            # transaction of a node that was suspended or cut off in the middle of it.
            "statement_timeout": limit,
            "idle_in_transaction_session_timeout": str(int(timeout * 2000)),
        },
    )


async def _keep(_: object) -> None:
    """Nothing to reset: no code here changes a session's settings, listens or locks by
    session, and a broken-off transaction takes its connection with it. Spares a round trip.
    """


def open_sqlite(url: DatabaseUrl, timeout: float) -> Any:
    """The bridge to one SQLite connection: whoever comes second waits, and nothing deadlocks."""
    return _Sqlite(
        url.path,
        pool_size=1,
        acquire_timeout=timeout,
        timeout=timeout * SQLITE_LOCK_SHARE,
        # journal_mode is set by prepare_sqlite and stays with the file. NORMAL loses at most
        # the last moments at a power cut and cannot corrupt the file in WAL mode.
        pragmas={"foreign_keys": 1, "synchronous": 1},
    )


def prepare_sqlite(url: DatabaseUrl, timeout: float) -> None:
    """Creates the file (0600), puts it into WAL mode and tries to write. Blocks: run in a thread.

    Raises:
        DatabaseUnavailable: says which file, and why it will not do.
    """
    try:
        _create_file(url.path)
        _enter_wal_mode(url.path, timeout)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DatabaseUnavailable(f"cannot use the SQLite file {url.path}: {reason}") from error


def _create_file(path: str) -> None:
    # Made here and not by SQLite, which would leave it readable to all: it holds hashes.
    # The -wal and -shm files take their mode from it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SQLITE_FILE_MODE))


def _enter_wal_mode(path: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("SELECT count(*) FROM sqlite_master")
            connection.execute("ROLLBACK")
            return
        except sqlite3.OperationalError as error:
            # Entering WAL mode does not wait for other processes that are doing the same.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        finally:
            connection.close()
