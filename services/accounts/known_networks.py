"""Looks up which accounts have signed in from an address before, with one query for all of them.

An address over its limit of failed sign-ins may try one account after the other. A query
for each would be expensive, so the accounts of an address are read together and cached.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import peewee

from models.known_network import KnownNetwork
from models.user import User
from services.storage.database import Database

KEEP_SECONDS = 30.0
MAX_NETWORKS = 256
MAX_ACCOUNTS = 20_000
"""Of one address, those that signed in last. Beyond it, a device token still helps."""


class KnownNetworks:
    """Caches the known accounts of each address.

    Args:
        clock: a monotonic time in seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._clock = database, clock
        self._read: OrderedDict[str, tuple[float, asyncio.Task[frozenset[int]]]] = OrderedDict()

    async def knows(self, network: str, address: str) -> bool:
        """Whether an account has signed in from a network, as of half a minute ago.

        Raises:
            DatabaseUnavailable, Busy: it cannot be looked up.
        """
        at, task = self._read.get(network, (0.0, None))
        if task is None or self._clock() - at > KEEP_SECONDS or _failed(task):
            # One query for all concurrent callers; it continues if the first caller is cancelled.
            task = asyncio.create_task(self._database.run(_accounts_of, network))
            task.add_done_callback(_failed)
            self._read[network] = self._clock(), task
            self._read.move_to_end(network)
            if len(self._read) > MAX_NETWORKS:
                self._read.popitem(last=False)
        return hash(address) in await asyncio.shield(task)


def _failed(task: asyncio.Task[frozenset[int]]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _accounts_of(db: peewee.Database, network: str) -> frozenset[int]:
    query = (
        User.select(User.email)
        .join(KnownNetwork, on=(KnownNetwork.user == User.id))
        .where(KnownNetwork.network == network)
        .order_by(KnownNetwork.last_used_at.desc())
        .limit(MAX_ACCOUNTS)
    )
    # Hashes that are valid in this process only: eight bytes each, and no addresses in memory.
    return frozenset(hash(email) for (email,) in query.tuples().execute(db))
