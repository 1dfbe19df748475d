"""Tickets: single-use, short-lived, opaque credentials that open a socket without exposing a token.

URLs are written to logs and histories, so a credential in one must become invalid quickly.
Redeeming a ticket is one atomic step (GETDEL, or DELETE of its row), so of any number of concurrent
sockets only one succeeds. A restarted Redis may have lost that step, so a ticket is valid only in
the epoch in which it was stored (redis/epoch.py). A ticket belongs to the login session that asked
for it and ends with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import peewee

from models.ticket import Ticket
from services.claims import Claims
from services.errors import StoreUnavailable, Unauthenticated
from services.keyed_tokens import CHECKSUM_LENGTH, Checksums
from services.limits.hourly import HourlyLimits
from services.opaque import opaque_token, token_hash
from services.redis.link import failed
from services.redis.store import Store
from services.secret import Secret
from services.storage.database import Database

IN_STORE = "t."
IN_DATABASE = "d."
"""Prefixes of tickets, by where they are stored: in Redis, or in the database while Redis is
unavailable."""
MAX_TICKET_LENGTH = 128


class _Payload(msgspec.Struct, frozen=True):
    """`epoch`: epoch of the Redis that stores it; see services/redis/epoch.py."""

    claims: Claims
    expires_at: float
    epoch: str = ""


_DECODER = msgspec.json.Decoder(_Payload)


def looks_like_ticket(credential: str) -> bool:
    """Whether a credential is a ticket rather than a JWT, by its form alone."""
    return credential.startswith((IN_STORE, IN_DATABASE)) and credential.count(".") == 1


class Tickets:
    """Issues tickets, and redeems each of them once.

    Args:
        checksums: verify a ticket's checksum before a look-up.
        ttl: lifetime of a ticket in seconds.
    """

    def __init__(
        self,
        store: Store,
        database: Database,
        checksums: Checksums,
        limits: HourlyLimits,
        ttl: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._database, self._clock = store, database, clock
        self._checksums, self._limits = checksums, limits
        self.ttl = ttl

    async def issue(self, claims: Claims) -> Secret:
        """A ticket for the bearer of an access token; it opens no more than the token does.

        Raises:
            RateLimited: too many of this user in this hour.
            DatabaseUnavailable: Redis and the database are both away.
        """
        limit, ends_at = self._limits.of.tickets, self._clock() + self.ttl
        self._limits.refuse_known_full(limit, claims.sub)
        ticket = self._made(IN_STORE)
        # Both are sent in one write. If it is refused, the ticket is not returned, and expires
        # soon.
        taking = self._limits.take((limit, claims.sub))
        storing = self._store_it(ticket, claims, ends_at)
        (await taking).require()
        try:
            await storing
        except StoreUnavailable:
            ticket = self._made(IN_DATABASE)
            text = msgspec.json.encode(_Payload(claims, ends_at)).decode()
            await self._database.run(_insert, token_hash(ticket.reveal()), text, ends_at)
        return ticket

    def _store_it(self, ticket: Secret, claims: Claims, ends_at: float) -> Awaitable[object]:
        """Store a ticket in Redis: issued when called. Fails as `Store.call` does."""
        key = _key(ticket.reveal())
        epoch = self._store.epoch(key)
        if epoch is None:
            reason = "redis: away, or does not say which server it is"
            return failed(asyncio.get_running_loop().create_future(), reason)
        payload = msgspec.json.encode(_Payload(claims, ends_at, epoch))
        return self._store.call(("SET", key, payload, "PX", int(self.ttl * 1000)))

    def _made(self, prefix: str) -> Secret:
        text = opaque_token(prefix).reveal()
        return Secret(text + self._checksums.sign(text))

    def is_ours(self, ticket: str) -> bool:
        """Whether a ticket was made here, by its form alone: others cost no look-up."""
        text, checksum = ticket[:-CHECKSUM_LENGTH], ticket[-CHECKSUM_LENGTH:]
        return len(ticket) <= MAX_TICKET_LENGTH and self._checksums.verify(text, checksum)

    async def take(self, ticket: str) -> Claims:
        """Redeem a ticket. It is used up, even if the join fails later.

        Raises:
            Unauthenticated: unknown, used or too old.
            Unavailable: its store can't be asked, or may have lost that it was used.
        """
        if not looks_like_ticket(ticket) or not self.is_ours(ticket):
            raise Unauthenticated("ticket: not one of ours, by its form")
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
    """Read the row and delete it; only the caller that deleted it gets it."""
    row = Ticket.select().where(Ticket.hash == hash_).get_or_none(db)
    if row is None or not Ticket.delete().where(Ticket.hash == hash_).execute(db):
        return None
    return str(row.payload)
