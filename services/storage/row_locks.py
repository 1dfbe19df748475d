"""Reads rows that will be changed, and locks them until the commit."""

from __future__ import annotations

from typing import TypeVar

import peewee

Row = TypeVar("Row", bound=peewee.Model)


def locked(query: peewee.ModelSelect[Row], db: peewee.Database) -> peewee.ModelSelect[Row]:
    """Lock the rows of a query until the commit, if the database has row locks.

    SQLite has one writer at a time, so the transaction itself is the lock.
    """
    return query.for_update() if db.for_update else query


def locked_one(query: peewee.ModelSelect[Row], db: peewee.Database) -> Row | None:
    """Lock and return the first row of a query, as `locked` does; None if there is none."""
    # Not `get_or_none`: for a missing row Peewee formats the query for its error, which fails,
    # because a query that is bound to no database does not support FOR UPDATE.
    return next(iter(locked(query, db).execute(db)), None)
