"""The networks that an account has signed in from."""

from __future__ import annotations

import peewee

from models.base import Row
from models.user import User


class KnownNetwork(Row):
    """One address that an account has signed in from (IPv6: its /64).

    Attributes:
        user: the account. Read `user_id`.
        network: as formatted by services/limits/networks.py.
        last_used_at: epoch seconds of the newest sign-in.
    """

    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str
    network = peewee.TextField()
    last_used_at = peewee.DoubleField()

    class Meta:
        table_name = "known_networks"
        primary_key = peewee.CompositeKey("user", "network")
