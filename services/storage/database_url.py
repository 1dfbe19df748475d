"""Parses DATABASE_URL and opens the database, without ever showing its password."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.errors import DatabaseUnavailable, SettingError
from services.storage import postgresql_url
from services.storage.postgresql import open_postgresql
from services.storage.postgresql_url import SETTING, PostgresqlUrl
from services.storage.sqlite import open_sqlite, open_sqlite_reader

TAKES = "sqlite:///path or postgresql://user:password@host:port/name"
SQLITE_FILE_MODE = 0o600
_OPTION = re.compile(r"\?([^/?=&]+)=[^/]*\Z")
"""Of the last part of a path: a folder may be called anything."""


@dataclass(frozen=True)
class DatabaseUrl:
    """A parsed DATABASE_URL.

    Attributes:
        kind: "sqlite" or "postgresql".
        shown: the URL without user, password and options, for messages.
        path: the SQLite file; relative to the working directory unless it starts with "/".
        postgresql: the parsed PostgreSQL URL, including the password; not in the repr.
    """

    kind: str
    shown: str
    path: str = ""
    postgresql: PostgresqlUrl | None = field(default=None, repr=False)


def parse(url: str) -> DatabaseUrl:
    """Parse a DATABASE_URL.

    SQLite: everything after `sqlite:///` is the path, without percent-decoding, so that any folder
    can be named. Options (`?timeout=30`), which other programs accept, are refused. PostgreSQL: see
    postgresql_url.py.

    Raises:
        SettingError: the URL is of neither, or has an unsupported option. Shows no credential.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise SettingError(SETTING, "something that is not a URL", TAKES)
    if scheme == "sqlite":
        return _sqlite(rest)
    if scheme in ("postgresql", "postgres"):
        read = postgresql_url.read(url)
        return DatabaseUrl("postgresql", read.shown, postgresql=read)
    raise SettingError(SETTING, f"{scheme[:20]}://…", TAKES)


def is_there(url: str) -> bool:
    """Whether the SQLite file exists; always true for PostgreSQL, where only connecting shows it.

    Raises:
        SettingError: as `parse`.
    """
    parsed = parse(url)
    return parsed.kind != "sqlite" or Path(parsed.path).is_file()


def _sqlite(rest: str) -> DatabaseUrl:
    path = rest[1:] if rest.startswith("/") else ""
    # An in-memory database would be empty again after each lost connection.
    if not path or path == ":memory:" or "\0" in path:
        raise SettingError(SETTING, f"sqlite://{rest}", "sqlite:/// and the path of a file")
    if (option := _OPTION.search(path)) is not None:
        name = option[1][:60]  # not its value, which may be a password
        got = f"sqlite:///{path[: option.start()]} with the option {name}"
        raise SettingError(SETTING, got, f"a URL without {name}: none is taken with sqlite")
    return DatabaseUrl("sqlite", f"sqlite:///{path}", path=path)


def open_bridges(url: DatabaseUrl, timeout: float) -> tuple[Any, Any]:
    """Open the bridge to either database, and the one for what only reads: the same on PostgreSQL.
    A SQLite file must exist (`prepare_sqlite`)."""
    if url.postgresql is not None:
        bridge = open_postgresql(url.postgresql, timeout)
        return bridge, bridge
    return open_sqlite(url.path, timeout), open_sqlite_reader(url.path, timeout)


class SqliteFile:
    """Detects that the file of an open database was deleted or replaced.

    SQLite keeps writing to a file that was deleted or moved, without an error, and those commits
    are lost when the process ends.

    Raises:
        DatabaseUnavailable: the file does not exist.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._identity = self._look()

    def check(self) -> None:
        """Check that the file is still the same. It costs one system call, a few microseconds.

        Raises:
            DatabaseUnavailable: the file was deleted or replaced.
        """
        if self._look() != self._identity:
            raise DatabaseUnavailable(
                f"sqlite: {self._path} is another file now; start the server again to use it"
            )

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise DatabaseUnavailable(f"sqlite: {self._path}: {error.strerror}") from None
        return found.st_dev, found.st_ino


def prepare_sqlite(url: DatabaseUrl, timeout: float) -> None:
    """Create the file (0600), set WAL mode and try to write. It blocks: run it in a thread.

    Raises:
        DatabaseUnavailable: the file cannot be used; the text has its path and the reason.
    """
    try:
        _create_file(url.path)
        _enter_wal_mode(url.path, timeout)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DatabaseUnavailable(f"cannot use the SQLite file {url.path}: {reason}") from error


def _create_file(path: str) -> None:
    # Created here because SQLite would make it readable to everybody, and it holds hashes.
    # The -wal and -shm files get the same mode.
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
            # SQLite does not wait if another process is setting WAL mode at the same time.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        finally:
            connection.close()
