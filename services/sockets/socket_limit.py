"""Limits the open sockets of one user on all nodes.

A socket takes a place in the user's index in Redis before it is admitted. The commands for it are
of the same slot as the look-up of its identity, and leave with it as one group. The rank of the
place decides, so concurrent joins are counted exactly.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from services.claims import Claims
from services.errors import RateLimited, StoreUnavailable
from services.redis.store import Command, Store
from services.sockets.hub import Hub
from services.sockets.session_pool import index_commands, user_index_key


class Place(msgspec.Struct, gc=False):
    """A socket's place among those of its user, from before it is let in.

    Attributes:
        session_id: of the socket that it will be.
        count: how many places there are on all nodes, this one included; 0 while Redis has not
            said it.
    """

    user_id: str
    session_id: str
    member: str
    count: int = 0

    def commands(self, now: float) -> tuple[Command, ...]:
        """What takes the place in Redis, or takes it again. `now`: epoch seconds."""
        index = user_index_key(self.user_id)
        return (*index_commands(self.user_id, self.member, now), ("ZCARD", index))

    def answered(self, replies: Sequence[Any]) -> None:
        """Take Redis' replies to `commands`."""
        self.count = replies[-1]


class SocketLimit:
    """Gives places to sockets, and refuses those there are none for.

    Args:
        most: sockets of one user.
    """

    def __init__(
        self, store: Store, hub: Hub, most: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._hub, self._most, self._clock = store, hub, most, clock
        self._entering: dict[str, int] = {}

    def take(self, claims: Claims) -> Place:
        """Take a place for a socket that is about to join, on this node. Waits for nothing.

        `Admission.identify` takes it in Redis, too. `check` it then, and `give_back` it once the
        socket is in the hub, or is not to be.

        Raises:
            RateLimited: this node alone has as many sockets of the user.
        """
        user_id = claims.sub
        entering = self._entering.get(user_id, 0)
        if self._hub.count_of(user_id) + entering >= self._most:
            raise RateLimited("too many sockets of one user on this node")
        self._entering[user_id] = entering + 1
        session_id = secrets.token_urlsafe(16)
        return Place(user_id, session_id, f"{claims.sid}/{session_id}")

    def exceeds_limit(self, place: Place) -> bool:
        """Whether a place is one too many, as far as Redis said. Without Redis this node's own
        count has to do."""
        return place.count > self._most

    async def check(self, place: Place) -> None:
        """Refuse a place beyond the last, unless it is one of a node that died: its entries stay
        until they are swept.

        Raises:
            RateLimited: there are too many already, on all nodes together.
        """
        index = user_index_key(place.user_id)
        old = ("ZREMRANGEBYSCORE", index, "-inf", self._clock())
        try:
            _, place.count = await self._store.call(old, ("ZCARD", index))
        except StoreUnavailable:
            return
        if self.exceeds_limit(place):
            raise RateLimited("too many sockets of one user")

    def give_back(self, place: Place) -> None:
        """The socket has joined, and is counted as that; or it never will."""
        left = self._entering.get(place.user_id, 0) - 1
        if left > 0:
            self._entering[place.user_id] = left
        else:
            self._entering.pop(place.user_id, None)
        if self._hub.get(place.session_id) is None:
            self._store.call(("ZREM", user_index_key(place.user_id), place.member))
