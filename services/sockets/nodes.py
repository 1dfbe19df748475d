"""The live nodes of this installation, each under a lease that it renews."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.redis.store import Store
from services.sockets.session_pool import LEASE_SECONDS

NODES_KEY = "usher:{nodes}:living"


class Nodes:
    """The register of living nodes.

    Args:
        node: id of this process.
    """

    def __init__(self, store: Store, node: str, clock: Callable[[], float] = time.time) -> None:
        self._store, self.node, self._clock = store, node, clock

    async def renew(self) -> None:
        """Say that this node lives; strike out those whose lease has ended.

        Raises:
            StoreUnavailable: Redis is away.
        """
        now = self._clock()
        await self._store.call(
            ("ZADD", NODES_KEY, now + LEASE_SECONDS, self.node),
            ("ZREMRANGEBYSCORE", NODES_KEY, "-inf", now),
        )

    async def leave(self) -> None:
        """Say that this node stops.

        Raises:
            StoreUnavailable: Redis is away; the lease ends by itself.
        """
        await self._store.call(("ZREM", NODES_KEY, self.node))

    async def living(self) -> set[str]:
        """The nodes that live, this one among them.

        Raises:
            StoreUnavailable: Redis is away.
        """
        (names,) = await self._store.call(("ZRANGEBYSCORE", NODES_KEY, self._clock(), "+inf"))
        return {name.decode() for name in names} | {self.node}
