"""Opens and closes the infrastructure of the services: data folder, Redis, and database."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.bus.bus import Bus
from services.bus.bus_memory import MemoryBus
from services.bus.bus_redis import RedisBus
from services.embedded.binary import find_redis_server
from services.embedded.machine_memory import memory_bytes
from services.embedded.redis_server import EmbeddedRedis
from services.errors import SettingError
from services.event_loop.loop_watch import LoopWatch
from services.metrics import Metrics
from services.processes.worker import Worker
from services.redis.address import Address
from services.redis.cluster import ClusterAddress
from services.redis.forms import address_of
from services.redis.store import Store
from services.redis.store_cluster import ClusterStore
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.secret import MASK, Secret
from services.settings.data_dir import DataDirLock, running_server
from services.settings.settings import VERSION, Settings
from services.settings.values import TAKES_REDIS
from services.storage.database import Database

COMMAND_SECONDS = 3.0
"""How long a command waits for Redis."""
NO_BINARY = Path()
"""Stands for the settings of an embedded Redis that is not started; only its address is used."""
TRIAL = "trial"
"""Hash tag of the keys with which Redis is tested."""

log = logging.getLogger("usher")


@dataclass(frozen=True)
class Infrastructure:
    """The infrastructure of the services. It must be closed at the end.

    Attributes:
        worker: if this is one of several processes, of which the supervisor has the lock of
            DATA_DIR and the embedded Redis.
    """

    settings: Settings
    lock: DataDirLock | None
    redis: EmbeddedRedis | None
    store: Store
    bus: Bus
    database: Database
    metrics: Metrics
    watch: LoopWatch
    worker: Worker | None = None


async def open_infrastructure(settings: Settings, worker: Worker | None = None) -> Infrastructure:
    """Open the data folder, Redis and the database.

    Args:
        worker: see `Infrastructure`.

    Raises:
        SettingError: DATA_DIR is used by another Usher, or a URL is invalid.
        DatabaseUnavailable, StoreUnavailable: the database or Redis does not start.
    """
    metrics, watch = Metrics(), LoopWatch()
    metrics.build.info({"version": VERSION})
    lock = DataDirLock(settings.data_dir) if settings.embedded and worker is None else None
    if lock is not None:
        lock.acquire()
    redis: EmbeddedRedis | None = None
    store: Store | None = None
    bus: Bus | None = None
    database: Database | None = None
    try:
        # Both URLs are parsed before anything is opened, so that an invalid one causes one line.
        remote = remote_store(settings)
        database = await Database.open(settings.database_url.reveal())
        if worker is not None:
            remote = remote or embedded_store(settings)
        redis, store = await _open_store(settings, remote, metrics)
        bus = await _open_bus(settings, store, watch)
    except BaseException:  # also if cancelled: no server and no lock may remain
        if database is not None:
            await database.close()
        await _release(bus, store, redis, lock)
        raise
    return Infrastructure(settings, lock, redis, store, bus, database, metrics, watch, worker)


async def command_infrastructure(settings: Settings) -> Infrastructure:
    """Open the infrastructure of a command that may run beside servers: the database, and the Redis
    through which running servers are notified at once. Without it, they read the changes from the
    rows within a second.

    Raises:
        SettingError: the URL is invalid.
        DatabaseUnavailable: the database cannot be opened.
    """
    remote = remote_store(settings) or _running_store(settings)
    database = await Database.open(settings.database_url.reveal())
    watch = LoopWatch()
    store = await _tried(remote)
    bus = _bus_over(settings, store if remote is not None and store is remote else None, watch)
    return Infrastructure(settings, None, None, store, bus, database, Metrics(), watch)


def _running_store(settings: Settings) -> RedisStore | None:
    """The embedded Redis of a server that runs on DATA_DIR; None if there is none."""
    if running_server(settings.data_dir) is None:
        return None
    return embedded_store(settings)


def embedded_store(settings: Settings) -> RedisStore:
    """The store of the embedded Redis of a running server, not connected."""
    return RedisStore(redis_url(settings), tried_as=TRIAL)


def redis_url(settings: Settings) -> Secret | str:
    """REDIS_URL, or where the embedded Redis listens while it runs."""
    return settings.redis_url or EmbeddedRedis(settings.data_dir, NO_BINARY).url


async def _tried(remote: RedisStore | ClusterStore | None) -> Store:
    """The store, connected; one in memory if it does not answer in time."""
    if remote is None:
        return MemoryStore()
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(remote.connect(), COMMAND_SECONDS)
    if remote.available:
        return remote
    await remote.close()
    return MemoryStore()


def remote_store(settings: Settings) -> RedisStore | ClusterStore | None:
    """The store of REDIS_URL, not connected; None for the embedded Redis.

    Raises:
        SettingError: an option of the URL, or a file that it names, cannot be used.
    """
    if settings.redis_url is None:
        return None
    try:
        address = address_of(settings.redis_url)
    except ValueError as error:
        got = f"{MASK} ({error}: an option of it, or a file that it names)"
        raise SettingError("USHER_REDIS_URL", got, TAKES_REDIS) from error
    return _store_at(address)


def _store_at(address: Address) -> RedisStore | ClusterStore:
    if isinstance(address, ClusterAddress):
        return ClusterStore(address, tried=True)
    return RedisStore(address, tried_as=TRIAL)


async def _open_store(
    settings: Settings, remote: RedisStore | ClusterStore | None, metrics: Metrics
) -> tuple[EmbeddedRedis | None, Store]:
    if remote is not None:
        await remote.connect()
        return None, remote
    binary = find_redis_server()
    if binary is None:
        log.warning(
            "no redis-server found: tickets, socket sessions and their lookups live in this "
            "process only and are lost with it; accounts, sessions and revocations are not"
        )
        return None, MemoryStore()
    most = settings.redis_memory_bytes
    redis = EmbeddedRedis(
        settings.data_dir,
        binary,
        on_restart=metrics.redis_restarts.inc,
        memory_bytes=memory_bytes() // 2 if most is None else most,
    )
    await redis.start()
    store = RedisStore(redis.url, tried_as=TRIAL)
    await store.connect()
    return redis, store


def _bus_over(settings: Settings, store: Store | None, watch: LoopWatch) -> MemoryBus | RedisBus:
    """The bus over a store; in memory without one."""
    messages, seconds = settings.history_messages, settings.history_seconds
    most = settings.history_bytes
    if store is None:
        return MemoryBus(messages, seconds, sender_bytes=most)
    return RedisBus(redis_url(settings), store, messages, seconds, watch, most)


async def _open_bus(settings: Settings, store: Store, watch: LoopWatch) -> Bus:
    bus = _bus_over(settings, None if store.kind == "memory" else store, watch)
    if isinstance(bus, RedisBus):
        if isinstance(store, RedisStore):
            store.on_moved(bus.reconnect)
        await bus.open()
    return bus


async def close_infrastructure(infrastructure: Infrastructure) -> None:
    """Close everything, dependents first."""
    await close_connections(infrastructure)
    await release_embedded(infrastructure)


async def close_connections(infrastructure: Infrastructure) -> None:
    """Close the connections to the database and Redis. An embedded Redis runs on."""
    await infrastructure.database.close()
    await _release(infrastructure.bus, infrastructure.store, None, None)


async def release_embedded(infrastructure: Infrastructure) -> None:
    """Stop the embedded Redis, then release DATA_DIR."""
    await _release(None, None, infrastructure.redis, infrastructure.lock)


async def _release(
    bus: Bus | None,
    store: Store | None,
    redis: EmbeddedRedis | None,
    lock: DataDirLock | None,
) -> None:
    if bus is not None:
        await bus.close()
    if store is not None:
        await store.close()
    if redis is not None:
        await redis.stop()
    if lock is not None:
        lock.release()
