"""Limits the open sockets of one user on all nodes.

A socket takes a place in the user's index in Redis before it is admitted, in the same round trip as
the look-up of its identity. The rank of the place decides, so concurrent joins are counted exactly.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec

from services.claims import Claims
from services.errors import RateLimited, StoreUnavailable
from services.redis.store import Store
from services.sockets.hub import Hub
from services.sockets.session_pool import index_commands, user_index_key


class Place(msgspec.Struct, frozen=True):
    """A socket's place among those of its user, from before it is let in.

    Attributes:
        session_id: of the socket that it will be.
        answer: of Redis: which place it is.
    """

    user_id: str
    session_id: str
    member: str
    answer: asyncio.Future[list[Any]]


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
        """Take a place for a socket that is about to join. Waits for nothing.

        `check` it, and `give_back` it once the socket is in the hub, or is not to be.

        Raises:
            RateLimited: this node alone has as many sockets of the user.
        """
        user_id = claims.sub
        entering = self._entering.get(user_id, 0)
        if self._hub.count_of(user_id) + entering >= self._most:
            raise RateLimited("too many sockets of one user on this node")
        self._entering[user_id] = entering + 1
        session_id = secrets.token_urlsafe(16)
        member = f"{claims.sid}/{session_id}"
        entry = index_commands(user_id, member, self._clock())
        answer = asyncio.ensure_future(self._store.call(*entry, ("ZCARD", user_index_key(user_id))))
        return Place(user_id, session_id, member, answer)

    async def check(self, place: Place) -> bool:
        """Refuse a place beyond the last. Without Redis this node's own count has to do.

        Returns:
            Whether this had to wait: something may have been revoked meanwhile.

        Raises:
            RateLimited: there are too many already, on all nodes together.
        """
        waited = not place.answer.done()
        try:
            _, _, count = await place.answer
            if count > self._most:  # of a node that died, some may be there no more
                index = user_index_key(place.user_id)
                waited = True
                old = ("ZREMRANGEBYSCORE", index, "-inf", self._clock())
                _, count = await self._store.call(old, ("ZCARD", index))
        except StoreUnavailable:
            return waited
        if count > self._most:
            raise RateLimited("too many sockets of one user")
        return waited

    def give_back(self, place: Place) -> None:
        """The socket has joined, and is counted as that; or it never will."""
        left = self._entering.get(place.user_id, 0) - 1
        if left > 0:
            self._entering[place.user_id] = left
        else:
            self._entering.pop(place.user_id, None)
        if self._hub.get(place.session_id) is None:
            self._store.call(("ZREM", user_index_key(place.user_id), place.member))
