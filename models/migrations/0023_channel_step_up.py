"""Channels that are entered only with a fresh proof of who the user is.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = ("ALTER TABLE channels ADD COLUMN step_up BOOLEAN NOT NULL DEFAULT FALSE",)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
