"""Checks a credential and gives the identity that it belongs to.

The checks, in this order: signature and claims, expiry, revocation, login session, user exists and
is enabled, role. A usual join makes one Redis round trip and no query. If Redis does not know or is
unavailable, the database decides. Nobody is admitted because something is down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from services.claims import Claims
from services.errors import StoreUnavailable, TokenExpired, Unauthenticated
from services.grants.rules import Grant, Reader
from services.grants.shared import SharedGrants
from services.metrics import Metrics
from services.sessions.login_cache import LoginCache, LoginState
from services.sessions.login_states import LoginStates
from services.sessions.node_lease import NodeLease
from services.sessions.revocations import Revocations
from services.sessions.tickets import Tickets, looks_like_ticket
from services.sessions.tokens import Tokens
from services.sockets.socket_limit import Place

REREADS = 3
"""How often rows are read anew because something changed meanwhile. Once is enough in truth; more
would only be wanted by a clock that was set back, and that must not keep anybody here."""
SETTLE_SECONDS = 10.0
"""Longer than a transaction may take: within it, a cached role may be older than it looks."""


class Identity(msgspec.Struct, frozen=True, gc=False):
    """The identity of a verified credential, and its grants in channels.

    `as_of`: epoch seconds; what came after it is not in here. `generation`: of the login session.
    `grants`: of `personal`, and of what is open to many of this `reader`'s kind. `session_id`: of
    the socket that it was admitted for. `session_expires_at`: epoch seconds. `proof_epoch`: see
    freshness.py.
    """

    claims: Claims
    name: str
    grants: dict[str, Grant]
    as_of: float
    generation: int
    personal: dict[str, Grant]
    reader: Reader
    session_id: str = ""
    session_expires_at: float = 0.0
    proof_epoch: int = 0

    @property
    def user_id(self) -> str:
        return self.claims.sub

    @property
    def is_admin(self) -> bool:
        return self.claims.role == "admin"


class Admission:
    """Checks credentials for sockets and HTTP alike."""

    def __init__(
        self,
        tokens: Tokens,
        tickets: Tickets,
        cache: LoginCache,
        login_states: LoginStates,
        revocations: Revocations,
        node_lease: NodeLease,
        shared: SharedGrants,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens, self._tickets, self._cache = tokens, tickets, cache
        self.login_states, self._revocations = login_states, revocations
        self._node_lease, self._shared = node_lease, shared
        self._metrics, self._clock = metrics, clock

    def verify(self, token: str) -> Claims:
        """The claims of an access token that is genuine and not expired. No waiting.

        Raises:
            TokenExpired, Unauthenticated: as `Tokens.verify`.
        """
        return self._tokens.verify(token)

    async def redeem(self, ticket: str) -> Claims:
        """Redeem a ticket for the claims that it stands for.

        Raises:
            Unauthenticated: unknown, used or expired.
            Unavailable: it can't be looked up.
        """
        return await self._tickets.take(ticket)

    async def claims_of(self, credential: str) -> Claims:
        """The claims of a credential in a message: an access token, or a ticket.

        Raises:
            TokenExpired, Unauthenticated, Unavailable: as `verify` and `redeem`.
        """
        if looks_like_ticket(credential):
            return await self.redeem(credential)
        return self.verify(credential)

    async def identify(self, claims: Claims, place: Place | None = None) -> Identity:
        """The identity of verified claims, if they are still valid.

        When this returns, no revocation that was acknowledged here names the claims. The caller
        must admit the socket before it awaits anything else.

        Args:
            place: of the socket that they are admitted for. It is taken in the same round trip,
                and knows afterwards how many there are.

        Raises:
            TokenExpired: too old by now.
            Unauthenticated: revoked, session over, account gone or disabled, or another role.
            Unavailable: neither Redis nor the database can answer, or this node has not read
                revocations for a whole lease.
        """
        if self._revocations.names(claims):
            raise Unauthenticated("revoked")
        # Not a coroutine of its own, nor is `_cached`: a join has enough of them.
        beside = place.commands(self._clock()) if place is not None else ()
        try:
            replies = await self._cache.look_up(claims, beside)
        except StoreUnavailable:
            state = await self._ask_database(claims, "redis_away")
        else:
            state, unknown = self._cached(claims, replies, place)
            if state is None:
                state = await self._ask_database(claims, unknown)
        if not self._node_lease.is_current():
            await self._node_lease.wait_current()
        if state is not None and self._revocations.changed_since(claims.sub, state.as_of):
            state = await self._reread(claims)
        return self._identity(claims, state, place)

    async def _reread(self, claims: Claims) -> LoginState | None:
        """The state as the database has it after a change that was made meanwhile."""
        state = None
        for _ in range(REREADS):
            state = await self._ask_database(claims, "changed_meanwhile")
            await self.wait_current()
            if state is None or not self._revocations.changed_since(claims.sub, state.as_of):
                break
        return state

    def _identity(self, claims: Claims, state: LoginState | None, place: Place | None) -> Identity:
        """The identity of claims with a state. Raises as `identify`. Does not wait."""
        if state is None:
            raise Unauthenticated("login session over, or account gone or disabled")
        self._refuse_known_revocations(claims, state.generation)
        if state.role != claims.role:
            raise Unauthenticated("the role in the token is not the user's any more")
        if claims.exp <= self._clock():
            raise TokenExpired("expired", claims=claims)
        reader = Reader(claims.sub, state.role, state.role_since, state.user_since)
        grants = self._shared.merged(reader, state.personal)
        return Identity(
            claims,
            state.name,
            grants,
            state.as_of,
            state.generation,
            state.personal,
            reader,
            place.session_id if place is not None else "",
            session_expires_at=state.expires_at,
            proof_epoch=state.proof_epoch,
        )

    def current(self, identity: Identity) -> Identity:
        """The same identity with this node's current view of open channels. Does not wait."""
        grants = self._shared.merged(identity.reader, identity.personal)
        return msgspec.structs.replace(identity, grants=grants)

    async def wait_current(self) -> None:
        """Wait until this node has caught up after a stall of the loop; usually returns at once.

        Raises:
            Unavailable: it cannot catch up, or has read no revocations for a whole lease.
        """
        if not self._node_lease.is_current():
            await self._node_lease.wait_current()

    def is_outdated(self, identity: Identity) -> bool:
        """Whether the role or rights of an identity have changed since `identify`.

        Raises:
            Unauthenticated: revoked meanwhile.
        """
        self._refuse_known_revocations(identity.claims, identity.generation)
        return self._revocations.changed_since(identity.user_id, identity.as_of)

    def _refuse_known_revocations(self, claims: Claims, generation: int) -> None:
        if self._revocations.ends(claims, generation):
            raise Unauthenticated("revoked")

    def _cached(
        self, claims: Claims, replies: Sequence[Any], place: Place | None
    ) -> tuple[LoginState | None, str]:
        """What Redis knows; without a state, why the database has to be asked."""
        known = self._cache.known(replies)
        if place is not None:
            place.answered(known.beside)
        if known.revoked:
            raise Unauthenticated("revoked, says Redis")
        if known.state is None:
            return None, "unknown_to_redis"
        changed_at = self._revocations.changed_at(claims.sub)
        if known.state.as_of < changed_at + SETTLE_SECONDS:
            return None, "role_or_access_changed"
        return known.state, ""

    async def _ask_database(self, claims: Claims, cause: str) -> LoginState | None:
        self._metrics.joins_by_database.labels(cause=cause).inc()
        state = await self.login_states.of(claims)
        if state is not None:
            self._cache.remember(claims.sub, claims.sid, state)
        return state
