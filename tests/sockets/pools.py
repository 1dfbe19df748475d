"""Pools of two nodes over one store, and sessions for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.redis.store import Store
from services.redis.store_cluster import ClusterStore
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.sockets.room_index import Entry, RoomIndex
from services.sockets.session_pool import SessionPool, SocketSession
from tests.support.parts import Clock, CountingStore
from tests.support.redis import PATIENCE, RealRedis
from tests.support.redis_forms import Cluster


def session(number: int, user: str = "ada", login: str = "laptop") -> SocketSession:
    return SocketSession(
        session_id=f"s{number}",
        user_id=user,
        login_session_id=login,
        name=user.title(),
        role="user",
        node="n1",
        connected_at=100.0,
        expires_at=1000.0,
    )


class Installation:
    """Two nodes' pools over one store, and one clock."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = CountingStore(store), clock
        self.pool, self.other_node = SessionPool(self.store, clock), SessionPool(self.store, clock)
        self._index = RoomIndex(self.store, clock)

    def enters(self, room: str, *sessions: SocketSession) -> None:
        """As presence notes it."""
        self._index.write(room, map(entry, sessions))

    def leaves(self, room: str, one: SocketSession) -> None:
        self._index.remove(room, entry(one))


def entry(one: SocketSession) -> Entry:
    return Entry(one.user_id, one.node, one.name, one.session_id)


@asynccontextmanager
async def installation(redis: RealRedis | Cluster | None) -> AsyncIterator[Installation]:
    clock = Clock()
    store: Store = MemoryStore(clock=clock)
    if redis is not None:
        kind = ClusterStore if isinstance(redis, Cluster) else RedisStore
        over_redis = kind(redis.url, timeout=PATIENCE)
        await over_redis.connect()
        store = over_redis
    try:
        yield Installation(store, clock)
    finally:
        await store.close()
