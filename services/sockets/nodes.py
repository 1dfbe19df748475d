"""The register of live nodes in Redis. Each node renews its own lease."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.redis.store import Store
from services.sockets.session_pool import LEASE_SECONDS

NODES_KEY = "usher:{nodes}:living"


class Nodes:
    """The register of live nodes.

    Args:
        node: id of this process.
        clock: epoch seconds.
    """

    def __init__(self, store: Store, node: str, clock: Callable[[], float] = time.time) -> None:
        self._store, self.node, self._clock = store, node, clock

    async def renew(self) -> None:
        """Renew this node's lease, and remove nodes whose lease has expired.

        Raises:
            StoreUnavailable: Redis is unavailable.
        """
        now = self._clock()
        await self._store.call(
            ("ZADD", NODES_KEY, now + LEASE_SECONDS, self.node),
            ("ZREMRANGEBYSCORE", NODES_KEY, "-inf", now),
        )

    async def leave(self) -> None:
        """Remove this node, which is stopping.

        Raises:
            StoreUnavailable: Redis is unavailable; the lease will expire.
        """
        await self._store.call(("ZREM", NODES_KEY, self.node))

    async def active(self) -> set[str]:
        """The live nodes, including this one.

        Raises:
            StoreUnavailable: Redis is unavailable.
        """
        (names,) = await self._store.call(("ZRANGEBYSCORE", NODES_KEY, self._clock(), "+inf"))
        return {name.decode() for name in names} | {self.node}
