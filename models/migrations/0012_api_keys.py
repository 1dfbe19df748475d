"""API keys expire, and one that was made on the command line has no maker to die with.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    "ALTER TABLE api_keys ADD COLUMN expires_at DOUBLE PRECISION",
    "ALTER TABLE api_keys ADD COLUMN made_by_command BOOLEAN NOT NULL DEFAULT FALSE",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
