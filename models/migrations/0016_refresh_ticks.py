"""Counts time for refresh tokens without a clock, so that no clock that is set back gives grace.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    "ALTER TABLE refresh_tokens ADD COLUMN rotated_tick INTEGER",
    "ALTER TABLE login_sessions ADD COLUMN step_tick INTEGER",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
