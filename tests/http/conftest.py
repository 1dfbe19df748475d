"""On one kind of database in every run: what a call does to rows has its tests on both kinds in
the wings of services/. The half on PostgreSQL is left to `make test-slow`."""

from __future__ import annotations

from tests.support.databases import kinds, slow

database_kind = kinds("sqlite", slow("postgresql"))
