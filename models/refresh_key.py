"""The keys that sign refresh tokens."""

from __future__ import annotations

import peewee

from models.base import Row


class RefreshKey(Row):
    """A secret that makes refresh tokens, or did.

    Attributes:
        key_id: identifies it without revealing it; "none" for tokens without a checksum.
        last_used_at: epoch seconds, to about a day.
    """

    key_id = peewee.TextField(primary_key=True)
    last_used_at = peewee.DoubleField()

    class Meta:
        table_name = "refresh_keys"
