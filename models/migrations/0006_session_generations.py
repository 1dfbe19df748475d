"""Login sessions in generations: one row ends all those of a user that were opened before it.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    "ALTER TABLE users ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE login_sessions ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
    # The living sessions of a user, however many were ended before.
    """
    CREATE INDEX login_sessions_living ON login_sessions (user_id, generation)
    WHERE ended_at IS NULL
    """,
    """
    CREATE INDEX login_sessions_ended ON login_sessions (user_id, ended_at)
    WHERE ended_at IS NOT NULL
    """,
)

POSTGRESQL = (
    "ALTER TABLE revocations DROP CONSTRAINT revocations_kind_check",
    "ALTER TABLE revocations ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE revocations ADD COLUMN spared TEXT NOT NULL DEFAULT ''",
)

# SQLite cannot take a CHECK away: the table is made anew. `kind` has none from now on, because
# each new kind would make the table anew again.
SQLITE = (
    """
    CREATE TABLE new_revocations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        user_id TEXT NOT NULL,
        role TEXT NOT NULL DEFAULT '',
        reason TEXT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        expires_at DOUBLE PRECISION NOT NULL,
        generation INTEGER NOT NULL DEFAULT 0,
        spared TEXT NOT NULL DEFAULT ''
    )
    """,
    """
    INSERT INTO new_revocations
        (id, kind, subject, user_id, role, reason, created_at, expires_at)
    SELECT id, kind, subject, user_id, role, reason, created_at, expires_at FROM revocations
    """,
    # An id must not be given out again, also where the rows that had it are gone.
    "DELETE FROM sqlite_sequence WHERE name = 'new_revocations'",
    """
    INSERT INTO sqlite_sequence (name, seq)
    SELECT 'new_revocations', seq FROM sqlite_sequence WHERE name = 'revocations'
    """,
    "DROP TABLE revocations",
    "ALTER TABLE new_revocations RENAME TO revocations",
    "CREATE INDEX revocations_subject_kind ON revocations (subject, kind)",
    "CREATE INDEX revocations_created_at ON revocations (created_at)",
    "CREATE INDEX revocations_expires_at ON revocations (expires_at)",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    of_kind = SQLITE if isinstance(db, peewee.SqliteDatabase) else POSTGRESQL
    for statement in STATEMENTS + of_kind:
        db.execute_sql(statement)
