"""On one kind of database: a socket asks it what tests/sessions and tests/rooms ask it on both."""

from __future__ import annotations

from tests.support.databases import kinds

database_kind = kinds("sqlite")
