"""The databases of the tests themselves: a copy is reused only if it is clean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.databases import copied_database, look

USER = "INSERT INTO users (id, email, name, role, created_at) VALUES ('u', 'e', 'n', 'user', 1)"
EVENT = (
    "INSERT INTO audit_events (at, kind, actor, subject, session, address, reason, target) "
    "VALUES (1, '', '', '', '', '', '', '') RETURNING id"
)


def test_a_copy_comes_back_without_rows_and_counts_from_one(
    up_to_date: Callable[[str], str], tmp_path: Path
) -> None:
    template = up_to_date("postgresql")
    with copied_database(template, tmp_path) as first:
        look(first, USER)
        assert look(first, EVENT) == [(1,)]
    with copied_database(template, tmp_path) as second:
        assert second == first, "the same again"
        assert look(second, "SELECT count(*) FROM users") == [(0,)]
        assert look(second, EVENT) == [(1,)]


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE more (a integer)",
        "ALTER TABLE users ADD COLUMN more integer",
        "CREATE INDEX more ON users (name)",
        "ALTER TABLE users ALTER COLUMN name DROP NOT NULL",
        "DELETE FROM schema_migrations",
        "REVOKE ALL ON users FROM CURRENT_USER",
        "CREATE VIEW more AS SELECT 1",
        "DROP TABLE tickets",
    ],
)
def test_a_copy_that_was_changed_otherwise_is_not_used_again(
    up_to_date: Callable[[str], str], tmp_path: Path, change: str
) -> None:
    template = up_to_date("postgresql")
    with copied_database(template, tmp_path) as first:
        look(first, change)
    with copied_database(template, tmp_path) as second:
        assert second != first
