"""Key pairs of app tokens.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    db.execute_sql(
        """
        CREATE TABLE app_keys (
            number INTEGER NOT NULL PRIMARY KEY,
            kid TEXT NOT NULL UNIQUE,
            private_key TEXT NOT NULL,
            public_key TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL
        )
        """
    )
