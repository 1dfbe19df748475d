"""Accounts at providers, their tokens, and which login session came of which sign-in there.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    """
    CREATE TABLE identities (
        provider TEXT NOT NULL,
        subject TEXT NOT NULL,
        issuer TEXT NOT NULL,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        email TEXT NOT NULL,
        linked_at DOUBLE PRECISION NOT NULL,
        last_used_at DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (provider, subject)
    )
    """,
    "CREATE UNIQUE INDEX identities_user_id_provider ON identities (user_id, provider)",
    """
    CREATE TABLE oauth_tokens (
        id TEXT NOT NULL PRIMARY KEY,
        provider TEXT NOT NULL,
        subject TEXT NOT NULL,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        login_session_id TEXT REFERENCES login_sessions (id) ON DELETE CASCADE,
        access_token TEXT NOT NULL,
        refresh_token TEXT,
        id_token TEXT,
        scopes TEXT NOT NULL,
        expires_at DOUBLE PRECISION,
        refresh_at DOUBLE PRECISION,
        created_at DOUBLE PRECISION NOT NULL,
        version INTEGER NOT NULL DEFAULT 1,
        claimed_until DOUBLE PRECISION,
        failures INTEGER NOT NULL DEFAULT 0,
        try_at DOUBLE PRECISION,
        FOREIGN KEY (provider, subject) REFERENCES identities (provider, subject) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX oauth_tokens_identity ON oauth_tokens (provider, subject)",
    "CREATE INDEX oauth_tokens_user_id ON oauth_tokens (user_id)",
    "CREATE INDEX oauth_tokens_login_session_id ON oauth_tokens (login_session_id)",
    "CREATE INDEX oauth_tokens_due ON oauth_tokens (refresh_at) WHERE refresh_token IS NOT NULL",
    """
    CREATE TABLE used_once (
        hash TEXT NOT NULL PRIMARY KEY,
        expires_at DOUBLE PRECISION NOT NULL
    )
    """,
    "CREATE INDEX used_once_expires_at ON used_once (expires_at)",
    # Which sign-in at which provider a login session came of. NULL: a password.
    "ALTER TABLE login_sessions ADD COLUMN provider TEXT",
    "ALTER TABLE login_sessions ADD COLUMN provider_subject TEXT",
    "ALTER TABLE login_sessions ADD COLUMN provider_sid TEXT",
    """
    CREATE INDEX login_sessions_provider ON login_sessions (provider, provider_subject)
    WHERE provider IS NOT NULL
    """,
    """
    CREATE INDEX login_sessions_provider_sid ON login_sessions (provider, provider_sid)
    WHERE provider_sid IS NOT NULL
    """,
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
