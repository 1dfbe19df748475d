"""On one kind of database: pages send what tests/http sends."""

from __future__ import annotations

from tests.support.databases import kinds

database_kind = kinds("sqlite")
