"""Steps of refresh tokens: which is the newest, and whether it has been used.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    "ALTER TABLE login_sessions ADD COLUMN step INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE login_sessions ADD COLUMN step_at DOUBLE PRECISION",
    "ALTER TABLE refresh_tokens ADD COLUMN step INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE refresh_tokens ADD COLUMN replaced BOOLEAN NOT NULL DEFAULT FALSE",
    # What was used before this version is not the one before the newest, for all that is known.
    "UPDATE refresh_tokens SET step = -1 WHERE rotated_at IS NOT NULL",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
