"""Channels, and who may enter them."""

from __future__ import annotations

import peewee

from models.base import Row
from models.user import User


class Channel(Row):
    """One channel.

    Attributes:
        id: random, URL-safe; its room is `channel:{id}`.
        name: as shown to others.
        private: only its owner, members, roles and administrators may read it.
        owner: the creator; None once that account is deleted. Read `owner_id`.
        created_at: epoch seconds.
        step_up: its room is entered only with a fresh proof of who the user is (RFC 9470).
        public_since: epoch seconds from which every user may read it; None while private.
        opened_by: the share that it counts in while it is open to everybody or to a role: a user's
            id, or `services.grants.rules.ADMINISTRATORS`; None while it is not open. It stays when
            the account is deleted or gets another role.
    """

    id = peewee.TextField(primary_key=True)
    name = peewee.TextField()
    private = peewee.BooleanField(default=True)
    owner = peewee.ForeignKeyField(
        User,
        column_name="owner_id",
        on_delete="SET NULL",
        null=True,
        lazy_load=False,
        backref="+",
    )
    owner_id: str | None  # the column itself; Peewee adds it, its stubs do not
    created_at = peewee.DoubleField()
    public_since = peewee.DoubleField(null=True)
    step_up = peewee.BooleanField(default=False)
    opened_by = peewee.TextField(null=True)

    class Meta:
        table_name = "channels"


class ChannelMember(Row):
    """One user's right in one channel. The owner has no row: ownership is enough.

    Attributes:
        right: "read", "write" or "manage"; each includes those before it. The column has another
            name, because RIGHT is a reserved word of SQL.
        since: when the user was added, epoch seconds; a change of the right does not change it.
        added_by: the user who added the member; None once that account is deleted.
    """

    channel = peewee.ForeignKeyField(
        Channel, column_name="channel_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    channel_id: str
    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str
    right = peewee.TextField(column_name="access_right")
    since = peewee.DoubleField()
    added_by = peewee.ForeignKeyField(
        User,
        column_name="added_by",
        object_id_name="added_by_id",
        on_delete="SET NULL",
        null=True,
        lazy_load=False,
        backref="+",
    )

    class Meta:
        table_name = "channel_members"
        primary_key = peewee.CompositeKey("channel", "user")


class ChannelRole(Row):
    """The right of every user of one role in one channel. Attributes as of a member."""

    channel = peewee.ForeignKeyField(
        Channel, column_name="channel_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    channel_id: str
    role = peewee.TextField()
    right = peewee.TextField(column_name="access_right")
    since = peewee.DoubleField()

    class Meta:
        table_name = "channel_roles"
        primary_key = peewee.CompositeKey("channel", "role")
