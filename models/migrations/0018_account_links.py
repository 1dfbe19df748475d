"""Links by which somebody sets the password of an account.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    """
    CREATE TABLE account_links (
        hash TEXT NOT NULL PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        purpose TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        expires_at DOUBLE PRECISION NOT NULL
    )
    """,
    "CREATE INDEX account_links_user_id ON account_links (user_id)",
    "CREATE INDEX account_links_expires_at ON account_links (expires_at)",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
