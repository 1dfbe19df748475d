"""On one kind of database: what the documents describe is the same on both."""

from __future__ import annotations

from tests.support.databases import kinds

database_kind = kinds("sqlite")
