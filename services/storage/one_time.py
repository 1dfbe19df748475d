"""Single-use values, recorded in the database so that they hold on every node and without Redis."""

from __future__ import annotations

import peewee

from models.used_once import UsedOnce
from services.opaque import token_hash


def use_once(db: peewee.Database, kind: str, what: str, until: float) -> bool:
    """Mark a value as used. Returns False if it was used before.

    Call it within a transaction; a rollback undoes it.

    Args:
        kind: a namespace that separates values of different kinds.
        what: the value; only its hash is stored.
        until: when the value expires and the row can be deleted, epoch seconds.
    """
    row = {"hash": token_hash(f"{kind}\0{what}"), "expires_at": until}
    # RETURNING, because SQLite reports the last id even if the row was ignored.
    done = UsedOnce.insert(row).on_conflict_ignore().returning(UsedOnce.hash).execute(db)
    return bool(list(done))
