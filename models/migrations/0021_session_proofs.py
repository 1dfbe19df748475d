"""How a login session was proven: by how many factors, and in which epoch of the clock.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    "ALTER TABLE login_sessions ADD COLUMN acr TEXT NOT NULL DEFAULT '1'",
    "ALTER TABLE login_sessions ADD COLUMN auth_epoch INTEGER NOT NULL DEFAULT 0",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
