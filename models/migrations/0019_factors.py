"""Second factors and passkeys.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    """
    CREATE TABLE totp_secrets (
        user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
        secret TEXT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        confirmed_at DOUBLE PRECISION,
        last_step BIGINT NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE recovery_codes (
        hash TEXT NOT NULL PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX recovery_codes_user_id ON recovery_codes (user_id)",
    """
    CREATE TABLE passkeys (
        id TEXT NOT NULL PRIMARY KEY,
        credential_id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        public_key TEXT NOT NULL,
        sign_count BIGINT NOT NULL DEFAULT 0,
        backup_eligible BOOLEAN NOT NULL DEFAULT FALSE,
        created_at DOUBLE PRECISION NOT NULL,
        last_used_at DOUBLE PRECISION
    )
    """,
    "CREATE INDEX passkeys_user_id ON passkeys (user_id)",
    """
    CREATE TABLE login_challenges (
        hash TEXT NOT NULL PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        method TEXT NOT NULL,
        client TEXT NOT NULL,
        state TEXT NOT NULL,
        wrong SMALLINT NOT NULL DEFAULT 0,
        created_at DOUBLE PRECISION NOT NULL,
        expires_at DOUBLE PRECISION NOT NULL
    )
    """,
    "CREATE INDEX login_challenges_user_id ON login_challenges (user_id)",
    "CREATE INDEX login_challenges_expires_at ON login_challenges (expires_at)",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
