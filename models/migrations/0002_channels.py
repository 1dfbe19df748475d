"""Channels, their members and roles, and since when a user has had a role.

Written as SQL and not from the models, as 0001 is. The types mean the same on SQLite and
PostgreSQL.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    # NULL: since the account was opened. No default could be right for older rows and for
    # those that a node of the version before still inserts during an upgrade.
    "ALTER TABLE users ADD COLUMN role_since DOUBLE PRECISION",
    """
    CREATE TABLE channels (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        private BOOLEAN NOT NULL,
        owner_id TEXT REFERENCES users (id) ON DELETE SET NULL,
        created_at DOUBLE PRECISION NOT NULL,
        public_since DOUBLE PRECISION,
        CHECK (private = (public_since IS NULL))
    )
    """,
    "CREATE INDEX channels_owner_id ON channels (owner_id)",
    "CREATE INDEX channels_newest ON channels (created_at, id)",
    "CREATE INDEX channels_public ON channels (created_at, id) WHERE public_since IS NOT NULL",
    """
    CREATE TABLE channel_members (
        channel_id TEXT NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        access_right TEXT NOT NULL CHECK (access_right IN ('read', 'write', 'manage')),
        since DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (channel_id, user_id)
    )
    """,
    "CREATE INDEX channel_members_user_id ON channel_members (user_id)",
    """
    CREATE TABLE channel_roles (
        channel_id TEXT NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
        role TEXT NOT NULL CHECK (role IN ('admin', 'user')),
        access_right TEXT NOT NULL CHECK (access_right IN ('read', 'write', 'manage')),
        since DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (channel_id, role)
    )
    """,
    "CREATE INDEX channel_roles_role ON channel_roles (role)",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
