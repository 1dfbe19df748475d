"""Invitations, and which addresses were given up.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    """
    CREATE TABLE invitations (
        id TEXT NOT NULL PRIMARY KEY,
        hash TEXT NOT NULL UNIQUE,
        email TEXT,
        role TEXT NOT NULL CHECK (role IN ('admin', 'user')),
        created_by TEXT REFERENCES users (id) ON DELETE SET NULL,
        made_by_command BOOLEAN NOT NULL DEFAULT FALSE,
        created_at DOUBLE PRECISION NOT NULL,
        expires_at DOUBLE PRECISION NOT NULL
    )
    """,
    "CREATE INDEX invitations_created_by ON invitations (created_by)",
    "CREATE INDEX invitations_expires_at ON invitations (expires_at)",
    "ALTER TABLE users ADD COLUMN email_given_up BOOLEAN NOT NULL DEFAULT FALSE",
    # Whose address came from a provider and is not verified any more may have given it up.
    """
    UPDATE users SET email_given_up = TRUE WHERE email_verified = FALSE AND EXISTS (
        SELECT 1 FROM identities
        WHERE identities.user_id = users.id AND identities.email = users.email
    )
    """,
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
