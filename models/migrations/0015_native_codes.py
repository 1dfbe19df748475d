"""One-time codes of native sign-ins; of login sessions, the client and when its user proved who
they are.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    """
    CREATE TABLE native_codes (
        hash TEXT NOT NULL PRIMARY KEY,
        session_id TEXT NOT NULL REFERENCES login_sessions (id) ON DELETE CASCADE,
        challenge TEXT NOT NULL,
        redirect_uri TEXT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        used_at DOUBLE PRECISION
    )
    """,
    "CREATE INDEX native_codes_session_id ON native_codes (session_id)",
    "ALTER TABLE login_sessions ADD COLUMN client TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE login_sessions ADD COLUMN auth_time DOUBLE PRECISION",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
