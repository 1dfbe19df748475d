"""Reads rows that will be changed, and locks them until the commit."""

from __future__ import annotations

from typing import TypeVar

import peewee

Row = TypeVar("Row", bound=peewee.Model)


def locked(query: peewee.ModelSelect[Row], db: peewee.Database) -> peewee.ModelSelect[Row]:
    """The query with its rows locked until the commit, where the database has row locks.

    SQLite has one writer at a time: there the transaction itself is the lock.
    """
    return query.for_update() if db.for_update else query


def locked_one(query: peewee.ModelSelect[Row], db: peewee.Database) -> Row | None:
    """The one row of a query, locked likewise; None where there is none."""
    # Not `get_or_none`: Peewee words an error for a missing row, and fails at that, because a
    # query bound to no database has no FOR UPDATE.
    return next(iter(locked(query, db).execute(db)), None)
