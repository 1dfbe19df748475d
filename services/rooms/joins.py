"""Admits a credential: from what a client presents to an identity with its rooms subscribed.

It has three steps. The credential becomes claims: an access token is verified, a ticket is
redeemed. The claims become an identity (`Admission.identify`): it checks the revocations known
here, then the login cache in Redis, and the database only if Redis cannot answer. Then the
identity's rooms are subscribed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal

import msgspec

from services.claims import Claims
from services.errors import IdentityMismatch, TokenExpired, UsherError
from services.rooms.room_names import channel_room, user_room
from services.rooms.rooms import Rooms
from services.sessions.admission import REREADS, Admission, Identity
from services.sessions.tickets import looks_like_ticket
from services.sockets.session_pool import SocketSession
from services.sockets.socket_limit import Place, SocketLimit

Way = Literal["header", "subprotocol", "ticket", "cookie", "message"]
_BY_TOKEN = frozenset[Way](("header", "subprotocol", "cookie"))


class TwoIdentities(UsherError):
    """Two explicit credentials, or an explicit one and a cookie of another login session."""

    status, code = 400, "bad_request"


class Credential(msgspec.Struct, frozen=True, gc=False):
    """A credential: where it was presented, and its text."""

    way: Way
    text: str

    @property
    def is_token(self) -> bool:
        """Whether it is read as an access token; anything else as a ticket."""
        if self.way == "message":
            return not looks_like_ticket(self.text)
        return self.way in _BY_TOKEN

    @property
    def is_bearer(self) -> bool:
        """Whether it is an access token that may hold only one live socket."""
        if self.way == "message":
            return not looks_like_ticket(self.text)
        return self.way in ("header", "subprotocol")


class Joins:
    """Admits the credentials of sockets, and subscribes to their rooms."""

    def __init__(self, admission: Admission, rooms: Rooms, limit: SocketLimit) -> None:
        self._admission, self._rooms, self._limit = admission, rooms, limit
        self._places: dict[str, Place] = {}

    def admit(
        self, credential: Credential, beside: Credential | None = None, session_id: str = ""
    ) -> Coroutine[Any, Any, Identity]:
        """Identify a credential. The identity's rooms are subscribed when this returns.

        The caller must enter the identity into the hub, or call `release`, before it awaits
        anything else.

        Args:
            beside: the cookie that was sent together with an explicit credential.
            session_id: of the socket, if it has one already.

        Raises:
            TwoIdentities: the cookie belongs to another login session.
            TokenExpired, Unauthenticated, Unavailable: as `Admission.identify`.
            RateLimited: the user already has the maximum number of sockets.
        """
        if not credential.is_token:
            return self._admit_ticket(credential, beside, session_id)
        # No coroutine around that of `admit_claims`: nothing is waited for here.
        claims = self._admission.verify(credential.text)
        if beside is not None:
            self._check_same_session(claims, beside)
        return self.admit_claims(claims, session_id)

    async def _admit_ticket(
        self, ticket: Credential, beside: Credential | None, session_id: str
    ) -> Identity:
        claims = await self._claims_of(ticket)
        if beside is not None:
            self._check_same_session(claims, beside)
        return await self.admit_claims(claims, session_id)

    async def admit_claims(self, claims: Claims, session_id: str = "") -> Identity:
        """Identify verified claims. Returns and raises as `admit`."""
        place = self._limit.take(claims, session_id)
        own = (user_room(claims.sub),)
        pending = self._rooms.subscribe(own)  # issued together with the look-up in Redis
        try:
            identity = await self._admission.identify(claims, place)
            beyond = self._limit.exceeds_limit(place)
            if beyond:  # waits: something may be revoked meanwhile
                await self._limit.check(place)
        except BaseException:  # cancelled too: what is subscribed must be released
            self._rooms.unsubscribe(own)
            self._limit.give_back(place)
            raise
        self._places[place.session_id] = place
        if identity.grants:
            pending += self._rooms.subscribe(map(channel_room, identity.grants))
        if pending or beyond:
            return await self._when_subscribed(identity, pending)
        return identity

    async def renew(self, credential: Credential, held: SocketSession) -> Identity:
        """Identify a newer credential of a joined socket. Its rooms are not changed.

        Raises:
            IdentityMismatch: it belongs to another user or another login session.
            TokenExpired, Unauthenticated, Unavailable: as `Admission.identify`.
        """
        claims = await self._claims_of(credential)
        if (claims.sub, claims.sid) != (held.user_id, held.login_session_id):
            raise IdentityMismatch("a token of another user or login session")
        return await self._admission.identify(claims)

    def release(self, identity: Identity) -> None:
        """Release the subscriptions of `admit`. Rooms that have members stay subscribed."""
        self._rooms.unsubscribe((user_room(identity.user_id),))
        if identity.grants:
            self._rooms.unsubscribe(map(channel_room, identity.grants))
        self._limit.give_back(self._places.pop(identity.session_id))

    async def _claims_of(self, credential: Credential) -> Claims:
        if credential.way == "message":
            return await self._admission.claims_of(credential.text)
        if credential.way in _BY_TOKEN:
            return self._admission.verify(credential.text)
        # A token in a URL would be logged by every proxy on the way: only tickets go there.
        return await self._admission.redeem(credential.text)

    def _check_same_session(self, claims: Claims, cookie: Credential) -> None:
        """Refuse a cookie of another login session beside an explicit credential."""
        try:
            other = self._admission.verify(cookie.text)
        except TokenExpired as error:
            other = error.claims
        except UsherError:
            return  # it says nothing about the credential
        if other.sid != claims.sid:
            raise TwoIdentities("explicit credential and cookie of two login sessions")

    async def _when_subscribed(
        self, identity: Identity, pending: list[asyncio.Future[None]]
    ) -> Identity:
        """Wait until the rooms are subscribed, then apply what was changed or revoked meanwhile."""
        try:
            place = self._places[identity.session_id]
            await self._rooms.wait_subscribed(pending)
            await self._admission.wait_current()
            for _ in range(REREADS):
                if not self._admission.is_outdated(identity):
                    break
                changed = await self._admission.identify(identity.claims, place)
                # New rooms are subscribed before old ones are released: no room misses a message.
                self._rooms.subscribe(map(channel_room, changed.grants))
                self._rooms.unsubscribe(map(channel_room, identity.grants))
                identity = changed
            identity = self._apply_changes(identity)
        except BaseException:  # cancelled too: what is subscribed must be released
            self.release(identity)
            raise
        return identity

    def _apply_changes(self, identity: Identity) -> Identity:
        """Apply changes to open channels that were made during the subscription. Does not wait."""
        changed = self._admission.current(identity)
        if changed.grants.keys() != identity.grants.keys():
            self._rooms.subscribe(map(channel_room, changed.grants))
            self._rooms.unsubscribe(map(channel_room, identity.grants))
        return changed
