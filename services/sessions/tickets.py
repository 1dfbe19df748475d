"""Tickets: single use, short-lived, opaque; how a browser opens a socket without showing a token.

A URL ends up in logs and histories, so what stands in it must be worth nothing a moment later.
Taking a ticket is one atomic step (GETDEL, or DELETE of its row), so of any number of racing
sockets one gets it. A Redis that was started anew may have forgotten the step: a ticket is good
only in the memory that it was put into (redis/epoch.py). A ticket stands for the login session
that asked for it, and dies with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import peewee

from models.ticket import Ticket
from services.claims import Claims
from services.errors import StoreUnavailable, Unauthenticated
from services.opaque import opaque_token, token_hash
from services.redis.store import Store
from services.secret import Secret
from services.storage.database import Database

IN_STORE = "t."
IN_DATABASE = "d."
"""A ticket's beginning says where it lies: with Redis away, tickets lie in the database."""
MAX_TICKET_LENGTH = 128


class _Payload(msgspec.Struct, frozen=True):
    """`epoch`: of the Redis that it lies in; see redis/epoch.py."""

    claims: Claims
    expires_at: float
    epoch: str = ""


_DECODER = msgspec.json.Decoder(_Payload)


def looks_like_ticket(credential: str) -> bool:
    """Whether a credential is a ticket rather than a JWT, by its form alone."""
    return credential.startswith((IN_STORE, IN_DATABASE)) and credential.count(".") == 1


class Tickets:
    """Gives out tickets and takes them back once.

    Args:
        ttl: seconds a ticket may wait.
    """

    def __init__(
        self, store: Store, database: Database, ttl: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._database, self._clock = store, database, clock
        self.ttl = ttl

    async def issue(self, claims: Claims) -> Secret:
        """A ticket for the bearer of an access token; it opens no more than the token does.

        Raises:
            DatabaseUnavailable: Redis and the database are both away.
        """
        ticket, ends_at = opaque_token(IN_STORE), self._clock() + self.ttl
        key = _key(ticket.reveal())
        epoch = self._store.epoch(key)
        if epoch is not None:
            payload = msgspec.json.encode(_Payload(claims, ends_at, epoch))
            try:
                await self._store.call(("SET", key, payload, "PX", int(self.ttl * 1000)))
            except StoreUnavailable:
                pass
            else:
                return ticket
        ticket = opaque_token(IN_DATABASE)
        text = msgspec.json.encode(_Payload(claims, ends_at)).decode()
        await self._database.run(_insert, token_hash(ticket.reveal()), text, ends_at)
        return ticket

    async def take(self, ticket: str) -> Claims:
        """What a ticket stands for. It is used up, whatever comes of it.

        Raises:
            Unauthenticated: unknown, used or too old.
            Unavailable: where it lies can't be asked, or may have forgotten that it was used.
        """
        if len(ticket) > MAX_TICKET_LENGTH or not looks_like_ticket(ticket):
            raise Unauthenticated("ticket: not of a ticket's form")
        in_store = ticket.startswith(IN_STORE)
        if in_store:
            (payload,) = await self._store.call(("GETDEL", _key(ticket)))
        else:
            payload = await self._database.run(_take, token_hash(ticket))
        if payload is None:
            raise Unauthenticated("ticket: unknown, used or expired")
        found = _DECODER.decode(payload)
        if in_store and found.epoch != self._store.epoch(_key(ticket)):
            # It may have been used, and have come back with an older snapshot. The login session
            # is as good as before, so its client asks for another ticket and comes again.
            raise StoreUnavailable("ticket: Redis has started anew since it was given out")
        if found.expires_at <= self._clock():
            raise Unauthenticated("ticket: expired")
        return found.claims


def _key(ticket: str) -> str:
    return f"usher:ticket:{{{token_hash(ticket)}}}"


def _insert(db: peewee.Database, hash_: str, payload: str, expires_at: float) -> None:
    Ticket.insert(hash=hash_, payload=payload, expires_at=expires_at).execute(db)


def _take(db: peewee.Database, hash_: str) -> str | None:
    """Read the row and delete it; only who deleted it has it."""
    row = Ticket.select().where(Ticket.hash == hash_).get_or_none(db)
    if row is None or not Ticket.delete().where(Ticket.hash == hash_).execute(db):
        return None
    return str(row.payload)
