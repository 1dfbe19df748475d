"""Databases of other versions: migrations, their history, and a user of each."""

from __future__ import annotations

import peewee

from models.user import User
from services.storage.migrations import HISTORY_TABLE
from tests.support.databases import kinds, slow

Row = dict[str, object]
FIRST = "0001_accounts_and_sessions"
NODES = 4
EMAIL = "ada@example.org"
# Every database of the tests is a new one on PostgreSQL, so new ones are tested all the time.
database_kind = kinds("sqlite", slow("postgresql"))


def history(db: peewee.Database) -> list[str]:
    rows = db.execute_sql(f"SELECT name FROM {HISTORY_TABLE} ORDER BY name").fetchall()
    return [row[0] for row in rows]


def add_user(db: peewee.Database) -> None:
    row = {"id": "u", "email": "e", "name": "n", "created_at": 1.0}
    User.insert(row).execute(db)
    db.execute_sql(
        "INSERT INTO login_sessions (id, user_id, method, device, ip, created_at, last_seen_at,"
        " expires_at) VALUES ('s', 'u', 'password', '', '', 1, 1, 1)"
    )
