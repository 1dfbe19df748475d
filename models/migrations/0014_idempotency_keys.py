"""Requests that may be sent again and count once.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    """
    CREATE TABLE idempotency_keys (
        hash TEXT NOT NULL PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        token TEXT NOT NULL,
        claimed_at DOUBLE PRECISION NOT NULL,
        done_at DOUBLE PRECISION,
        expires_at DOUBLE PRECISION NOT NULL
    )
    """,
    "CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at)",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
