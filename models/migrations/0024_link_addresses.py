"""Links about another address than the account's: a new one, or the former one.

Written as SQL and not from the models, as 0001 is.
"""

from __future__ import annotations

from typing import Any

import peewee

STATEMENTS = (
    "ALTER TABLE account_links ADD COLUMN email TEXT",
    "CREATE INDEX account_links_purpose_email ON account_links (purpose, email)",
)


def up(migrator: Any, db: peewee.Database) -> None:  # noqa: ARG001  # the runner passes both
    """Called by `services.storage.migrations.migrate`, inside its transaction."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
