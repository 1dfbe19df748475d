"""Applies changed display names to the sockets of this node, and so to presence on all nodes.

A rename travels as a change of rights that concerns no channel: every node reads it, cached login
states are looked up anew, and open sockets take the new name over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine

from services.errors import Unavailable
from services.rooms.authors import Authors
from services.sessions.control import Revocation
from services.sockets.hub import Hub

RENAMED = "renamed"
"""The reason of such a change."""
NO_CHANNEL = ""

Apply = Callable[[Revocation], Coroutine[None, None, None]]

log = logging.getLogger("usher.access")


class Renames:
    """Handles renames, and passes other changes on.

    Args:
        other: handles changes of rights.
    """

    def __init__(self, hub: Hub, authors: Authors, other: Apply) -> None:
        self._hub, self._authors, self._other = hub, authors, other

    async def apply(self, change: Revocation) -> None:
        """Apply a change. If the name can't be looked up, open sockets keep the old one until they
        join again."""
        if (change.subject, change.reason) != (NO_CHANNEL, RENAMED):
            await self._other(change)
            return
        if not self._hub.of_user(change.user_id):
            return
        try:
            names = await self._authors.names([change.user_id])
        except Unavailable as error:
            log.warning("a new name is not looked up: %s", error.evidence)
            return
        for client in self._hub.of_user(change.user_id):
            if change.user_id in names:
                client.rename(names[change.user_id])
