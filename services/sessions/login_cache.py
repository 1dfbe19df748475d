"""The login cache: login sessions in Redis, so that a join needs no query.

A session has three keys, in the slot of its user. `login` holds the identity, `revoked` marks the
session as ended, and `generation` says which of the user's sessions can be active. The last two
take precedence, so a late write of `login` cannot restore a revoked session. A missing `login`, or
one of another generation, means "ask the database", never "admit".
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from services.grants.rules import Grant
from services.redis.store import Command, Store
from services.sessions.tokens import Claims

SLACK_SECONDS = 60.0
"""Above the longest life of a token or ticket, for clocks that differ."""


class LoginState(msgspec.Struct, frozen=True, gc=False):
    """An active login session, with its user. Times are epoch seconds.

    Attributes:
        as_of: when the database said so; a change of role or access after it invalidates
            the state.
        personal: what the user may do, by channel id, without what is open to many.
        generation: of the user and so of the session, when the database said so.
        proof_epoch: of the clock by which its user last authenticated; see step_up/freshness.py.
    """

    name: str
    role: str
    expires_at: float
    as_of: float
    personal: dict[str, Grant]
    generation: int
    role_since: float = 0.0
    user_since: float = 0.0
    proof_epoch: int = 0


class Known(msgspec.Struct, frozen=True, gc=False):
    """The answer of Redis: revoked, active with `state`, or unknown (both unset). `beside`: its
    replies to what was asked in the same group."""

    revoked: bool
    state: LoginState | None
    beside: list[Any] = []


_DECODER = msgspec.json.Decoder(LoginState)


def login_key(user_id: str, login_session_id: str) -> str:
    """The key of a login session's identity."""
    return f"usher:{{{user_id}}}:login:{login_session_id}"


def revoked_key(user_id: str, subject: str) -> str:
    """The key that marks a login session (`sid`) or access token (`jti`) as revoked."""
    return f"usher:{{{user_id}}}:revoked:{subject}"


def role_key(user_id: str) -> str:
    """That the role of a user changed lately."""
    return f"usher:{{{user_id}}}:role-changed"


def generation_key(user_id: str) -> str:
    """The generation of a user whose login sessions were all ended lately."""
    return f"usher:{{{user_id}}}:generation"


class LoginCache:
    """Reads and writes the keys.

    Args:
        store: Redis, or memory.
        token_life: seconds that the longest-lived token or ticket may live.
    """

    def __init__(
        self, store: Store, token_life: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._clock = store, clock
        self._ttl = int((token_life + SLACK_SECONDS) * 1000)
        # A state read just before the change may be stored just after it: the key lives longer.
        self._generation_ttl = self._ttl + int(SLACK_SECONDS * 1000)

    def look_up(self, claims: Claims, beside: tuple[Command, ...] = ()) -> Awaitable[list[Any]]:
        """Look up in one round trip whether the token or its session is revoked, and who it is.

        Issued when called, not when awaited. `known` reads the replies: a join has no coroutine
        more for that.

        Args:
            beside: commands that leave with the look-up, in the same group.

        Raises:
            StoreUnavailable: when awaited: Redis is away, or refuses one of the commands.
        """
        user, sid = claims.sub, claims.sid
        keys = (
            revoked_key(user, sid),
            revoked_key(user, claims.jti),
            login_key(user, sid),
            generation_key(user),
        )
        return self._store.call(("MGET", *keys), *beside)

    def known(self, answered: Sequence[Any]) -> Known:
        """What the replies to `look_up` say."""
        found, *replies = answered
        by_session, by_token, login, generation = found
        if by_session is not None or by_token is not None:
            return Known(True, None, replies)
        state = None if login is None else _decoded(login)
        if state is None or state.expires_at <= self._clock():
            return Known(False, None, replies)
        if generation is not None and generation != b"%d" % state.generation:
            return Known(False, None, replies)  # a session that was exempt, or one that is over
        return Known(False, state, replies)

    def look_up_maker(self, maker: str, key_id: str) -> Awaitable[list[Any]]:
        """One round trip, issued when called: whether an API key is over, and the generation and
        the change of role of who made it.

        Raises:
            StoreUnavailable: when awaited: Redis is away.
        """
        keys = revoked_key(maker, key_id), generation_key(maker), role_key(maker)
        return self._store.call(("MGET", *keys))

    @property
    def is_shared(self) -> bool:
        """Whether other nodes see what is written here."""
        return self._store.kind != "memory"

    def remember(self, user_id: str, login_session_id: str, state: LoginState) -> None:
        """Store a live login session, without waiting. The entry outlives every token."""
        key = login_key(user_id, login_session_id)
        self._store.tell(("SET", key, msgspec.json.encode(state), "PX", self._ttl))

    async def revoke(self, over: Iterable[tuple[str, str]]) -> None:
        """Mark login sessions or tokens as over, for as long as any token may live.

        Args:
            over: pairs of a user id and a `sid` or `jti`.

        Raises:
            StoreUnavailable: Redis is away; the row in the database has to do.
        """
        commands: list[Command] = []
        for user_id, subject in over:
            commands.append(("SET", revoked_key(user_id, subject), b"1", "PX", self._ttl))
            commands.append(("DEL", login_key(user_id, subject)))
        if commands:
            await self._store.call(*commands)

    async def note_roles(self, user_ids: Iterable[str]) -> None:
        """Note that the roles of users have changed.

        Raises:
            StoreUnavailable: as `revoke`.
        """
        commands: list[Command] = [
            ("SET", role_key(user_id), b"1", "PX", self._generation_ttl) for user_id in user_ids
        ]
        if commands:
            await self._store.call(*commands)

    async def mark_older_generations(self, generations: Iterable[tuple[str, int]]) -> None:
        """Mark every login session of users as over that is of another generation.

        Args:
            generations: pairs of a user id and the user's generation from now on.

        Raises:
            StoreUnavailable: as `revoke`.
        """
        commands: list[Command] = [
            ("SET", generation_key(user_id), generation, "PX", self._generation_ttl)
            for user_id, generation in generations
        ]
        if commands:
            await self._store.call(*commands)


def _decoded(login: bytes) -> LoginState | None:
    try:
        return _DECODER.decode(login)
    except msgspec.DecodeError:
        return None  # a node of another version wrote it: the database decides
