"""On one kind of database: a client of the wire is the subject, and sees no SQL."""

from __future__ import annotations

from tests.support.databases import kinds

database_kind = kinds("sqlite")
