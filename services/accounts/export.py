"""A user's own data as JSON, read and sent a part at a time.

It has what the database keeps about the user, and no secret: no hash, no token, no key. Of other
people it has nothing but the ids of channels.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec
import peewee

from models.audit_event import AuditEvent
from models.backend import ApiKey
from models.channel import Channel, ChannelMember
from models.identity import Identity
from models.invitation import Invitation
from models.known_network import KnownNetwork
from models.login_session import LoginSession
from models.passkey import Passkey
from models.user import User
from services.errors import Unauthenticated
from services.storage.database import Database

BATCH = 500
"""Rows that one query reads."""

Json = dict[str, Any]


class Table(msgspec.Struct, frozen=True):
    """A part of the export: the rows of a table that belong to the user.

    Attributes:
        name: of the part.
        order: what the rows are ordered by, and paged by.
        fields: what is shown of each, by name.
    """

    name: str
    order: str
    fields: Sequence[str]


SESSIONS = Table(
    "login_sessions",
    "id",
    (
        "id",
        "method",
        "device",
        "ip",
        "client",
        "created_at",
        "last_seen_at",
        "expires_at",
        "ended_at",
        "end_reason",
    ),
)
IDENTITIES = Table(
    "linked_accounts",
    "provider",
    ("provider", "subject", "issuer", "email", "linked_at", "last_used_at"),
)
NETWORKS = Table("known_networks", "network", ("network", "last_used_at"))
PASSKEYS = Table("passkeys", "id", ("id", "name", "created_at", "last_used_at"))
CHANNELS = Table("channels", "id", ("id", "name", "private", "created_at"))
MEMBERSHIPS = Table("memberships", "channel_id", ("channel_id", "right", "since"))
KEYS = Table(
    "api_keys",
    "id",
    ("id", "name", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at"),
)
INVITATIONS = Table("invitations", "id", ("id", "email", "role", "created_at", "expires_at"))
AUDIT = Table(
    "audit", "id", ("id", "at", "kind", "session", "address", "reason", "target", "count")
)
OWN_AUDIT = frozenset(("id", "at", "kind", "reason", "count"))
"""The exported fields of entries that other users caused, without their address and target."""


class Export:
    """Reads the data of one account.

    Args:
        methods: the second factors of a user.
    """

    def __init__(
        self,
        database: Database,
        methods: Callable[[str], Awaitable[Sequence[str]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._methods, self._clock = database, methods, clock

    async def parts(self, user_id: str) -> AsyncIterator[bytes]:
        """The export, in parts of at most a few hundred rows. Together they are one JSON object.

        Raises:
            Unauthenticated: the account is deleted.
            DatabaseUnavailable: it can't be read; what was yielded before is not complete.
        """
        account = await self._database.read(_account, user_id)
        if account is None:
            raise Unauthenticated("account gone")
        account["second_factors"] = list(await self._methods(user_id))
        yield b'{"exported_at":%b,"account":%b' % (_json(self._clock()), _json(account))
        for table, rows in _tables(user_id):
            async for part in self._rows(table, rows, user_id):
                yield part
        yield b"}"

    async def _rows(
        self, table: Table, rows: peewee.ModelSelect[Any], user_id: str
    ) -> AsyncIterator[bytes]:
        yield b',"%b":[' % table.name.encode()
        after: Any = None
        while True:
            found = await self._database.read(_page, table, rows, after)
            shown = [_shown(table, row, user_id) for row in found]
            if shown:
                between = b"" if after is None else b","
                yield between + b",".join(map(_json, shown))
                after = getattr(found[-1], table.order)
            if len(found) < BATCH:
                break
        yield b"]"


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _account(db: peewee.Database, user_id: str) -> Json | None:
    user = User.select().where(User.id == user_id).get_or_none(db)
    if user is None:
        return None
    return {
        "id": user.id,
        "email": user.email,
        "email_verified": bool(user.email_verified),
        "name": user.name,
        "role": user.role,
        "created_at": user.created_at,
        "has_password": user.password_hash is not None,
    }


def _tables(user_id: str) -> tuple[tuple[Table, peewee.ModelSelect[Any]], ...]:
    about = (AuditEvent.subject == user_id) | (AuditEvent.actor == user_id)
    return (
        (SESSIONS, LoginSession.select().where(LoginSession.user == user_id)),
        (IDENTITIES, Identity.select().where(Identity.user == user_id)),
        (NETWORKS, KnownNetwork.select().where(KnownNetwork.user == user_id)),
        (PASSKEYS, Passkey.select().where(Passkey.user == user_id)),
        (CHANNELS, Channel.select().where(Channel.owner == user_id)),
        (MEMBERSHIPS, ChannelMember.select().where(ChannelMember.user == user_id)),
        (KEYS, ApiKey.select().where(ApiKey.created_by == user_id)),
        (INVITATIONS, Invitation.select().where(Invitation.created_by == user_id)),
        (AUDIT, AuditEvent.select().where(about)),
    )


def _page(
    db: peewee.Database, table: Table, rows: peewee.ModelSelect[Any], after: Any
) -> list[Any]:
    field = getattr(rows.model, table.order.removesuffix("_id") if table.order != "id" else "id")
    query = rows.order_by(field).limit(BATCH)
    if after is not None:
        query = query.where(field > after)
    return list(query.execute(db))


def _shown(table: Table, row: Any, user_id: str) -> Json:
    fields = table.fields
    if table is AUDIT and row.actor not in ("", user_id):
        fields = [name for name in fields if name in OWN_AUDIT]
    return {name: getattr(row, name) for name in fields}
