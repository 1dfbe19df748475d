"""Limits the open sockets of one user on all nodes.

A socket takes a place in the user's index in Redis before it is admitted. The commands for it are
of the same slot as the look-up of its identity, and leave with it as one group. The rank of the
place decides, so concurrent joins are counted exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import msgspec

from services.claims import Claims
from services.errors import RateLimited, StoreUnavailable
from services.opaque import random_id
from services.redis.store import Command, Store
from services.sockets.hub import Hub
from services.sockets.session_pool import index_commands, user_index_key


class Place(msgspec.Struct, gc=False):
    """A slot for a socket in its user's index, taken before the socket is admitted.

    Attributes:
        session_id: id of the future socket session.
        member: its entry in the index.
        count: number of places on all nodes, including this one; 0 until Redis has replied.
    """

    user_id: str
    session_id: str
    member: str
    count: int = 0

    def commands(self, now: float) -> tuple[Command, ...]:
        """The commands that take or renew the place in Redis. `now`: epoch seconds."""
        index = user_index_key(self.user_id)
        return (*index_commands(self.user_id, self.member, now), ("ZCARD", index))

    def answered(self, replies: Sequence[Any]) -> None:
        """Process the replies to `commands`."""
        self.count = replies[-1]


class SocketLimit:
    """Reserves a place for each socket, and refuses sockets beyond the limit.

    Args:
        most: MAX_SOCKETS_PER_USER.
        processes: server processes of this node, each of which has its part of the limit while
            Redis is unavailable.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        most: int,
        clock: Callable[[], float] = time.time,
        processes: int = 1,
    ) -> None:
        self._store, self._hub, self._most, self._clock = store, hub, most, clock
        self._alone = ceil(most / processes)
        self._entering: dict[str, int] = {}

    def take(self, claims: Claims, session_id: str = "") -> Place:
        """Take a place on this node for a socket that is about to join. Does not wait.

        `Admission.identify` also takes it in Redis. Call `check` afterwards, and `give_back` once
        the socket is in the hub or is refused.

        Args:
            session_id: of the socket, if it has one already.

        Raises:
            RateLimited: this process alone has the maximum number of sockets of the user.
        """
        user_id = claims.sub
        entering = self._entering.get(user_id, 0)
        most = self._most if self._store.available else self._alone
        if self._hub.count_of(user_id) + entering >= most:
            raise RateLimited("too many sockets of one user on this node")
        self._entering[user_id] = entering + 1
        session_id = session_id or random_id()
        return Place(user_id, session_id, f"{claims.sid}/{session_id}")

    def exceeds_limit(self, place: Place) -> bool:
        """Whether the place is beyond the limit, by the count of Redis. Without Redis, only this
        node's own sockets are counted."""
        return place.count > self._most

    async def check(self, place: Place) -> None:
        """Refuse a place beyond the limit, after removing expired entries of dead nodes.

        Raises:
            RateLimited: the user has too many sockets on all nodes.
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
        """Release the place: the socket has joined and is counted in the hub, or was refused."""
        left = self._entering.get(place.user_id, 0) - 1
        if left > 0:
            self._entering[place.user_id] = left
        else:
            self._entering.pop(place.user_id, None)
        if self._hub.get(place.session_id) is None:
            self._store.tell(("ZREM", user_index_key(place.user_id), place.member))
