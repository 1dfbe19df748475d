"""Single-use values, recorded in the database so that they hold on every node and without Redis."""

from __future__ import annotations

import peewee

from models.used_once import UsedOnce
from services.opaque import token_hash


def use_once(db: peewee.Database, kind: str, what: str, until: float) -> bool:
    """Use something up. False when it was used before.

    To be called within a transaction; if that rolls back, nothing was used.

    Args:
        kind: a word that keeps things of different kinds apart.
        what: the thing; only its hash is kept.
        until: epoch seconds after which nobody would take it anyway.
    """
    row = {"hash": token_hash(f"{kind}\0{what}"), "expires_at": until}
    # RETURNING: SQLite counts an ignored row as none, but tells the last id all the same.
    done = UsedOnce.insert(row).on_conflict_ignore().returning(UsedOnce.hash).execute(db)
    return bool(list(done))
