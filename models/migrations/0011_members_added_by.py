"""Who let a member into a channel: what one account may give to others has a limit.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    # NULL for older memberships: nobody knows, and they count for nobody.
    "ALTER TABLE channel_members ADD COLUMN added_by TEXT REFERENCES users (id) ON DELETE SET NULL",
    "CREATE INDEX channel_members_added_by ON channel_members (added_by, user_id)",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
