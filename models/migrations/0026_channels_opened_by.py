"""In whose share an open channel counts: sockets join a bounded number of them by themselves.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    "ALTER TABLE channels ADD COLUMN opened_by TEXT",
    # Open channels without an owner share one place: nobody knows whose they were.
    """
    UPDATE channels SET opened_by = CASE
        WHEN owner_id IS NULL THEN ''
        WHEN owner_id IN (SELECT id FROM users WHERE role = 'admin') THEN '*admins'
        ELSE owner_id
    END
    WHERE public_since IS NOT NULL OR id IN (SELECT channel_id FROM channel_roles)
    """,
    # In the order in which the channels of a share have their turns.
    """
    CREATE INDEX channels_opened_by ON channels (opened_by, created_at, id)
    WHERE opened_by IS NOT NULL
    """,
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
