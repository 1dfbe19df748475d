"""Migrates a database to the schema of this version, once, even if several nodes start together.

Peewee's runner applies the numbered files of models/migrations in order, in one transaction and
under one lock, so that a start that fails half-way changes nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path

import peewee
from playhouse.migrations import Runner

DIRECTORY = Path(__file__).resolve().parents[2] / "models" / "migrations"
HISTORY_TABLE = "schema_migrations"
# An arbitrary number that is the same on every node: "Usher" in ASCII.
ADVISORY_LOCK = 0x5573686572

logger = logging.getLogger(__name__)


def migrate(db: peewee.Database, directory: Path = DIRECTORY) -> list[str]:
    """Apply pending migrations. Runs inside the greenlet bridge, outside any transaction.

    Args:
        db: an SQLite or PostgreSQL database.
        directory: contains the numbered files, each with `up(migrator, db)`.

    Returns:
        The names of the applied migrations; empty if another node applied them, or none was
        pending.

    Raises:
        peewee.PeeweeException: a migration failed; nothing was changed.
        playhouse.migrations.MigrationError: a file does not define `up`.
    """
    return _on_sqlite(db, directory) if is_sqlite(db) else _on_postgresql(db, directory)


def is_sqlite(db: peewee.Database) -> bool:
    return isinstance(db, peewee.SqliteDatabase)


def _on_sqlite(db: peewee.Database, directory: Path) -> list[str]:
    # Rebuilding a table drops the old one, and with foreign keys on that deletes every row that
    # refers to it. The pragma only works outside a transaction, so the runner cannot set it.
    db.execute_sql("PRAGMA foreign_keys = 0")
    try:
        # IMMEDIATE takes the write lock before the history is read: the next node waits here.
        with db.atomic("IMMEDIATE"):
            return _apply(db, directory)
    finally:
        db.execute_sql("PRAGMA foreign_keys = 1")


def _on_postgresql(db: peewee.Database, directory: Path) -> list[str]:
    with db.atomic():
        # Waits for the lock as long as the other node's migrations take; the caller sets the
        # timeout. SET LOCAL ends with the transaction, and so does the lock.
        db.execute_sql("SET LOCAL statement_timeout = 0")
        db.execute_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        return _apply(db, directory)


def _apply(db: peewee.Database, directory: Path) -> list[str]:
    runner = Runner(db, directory=str(directory), table_name=HISTORY_TABLE)
    rows = runner.status()
    unknown = [row.name for row in rows if row.path is None]
    if unknown:
        # Usual in a rolling upgrade: the old version meets the new one's schema.
        logger.warning("the database is newer than this version: %s", ", ".join(unknown))
    if all(row.applied for row in rows):
        return []  # its `up` would need the privilege to create a table that exists
    names: list[str] = runner.up()
    return names
