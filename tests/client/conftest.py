"""One kind of database: the protocol's clients are the subject, not SQL."""

from __future__ import annotations

from tests.support.databases import kinds

database_kind = kinds("sqlite")
