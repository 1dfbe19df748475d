"""Every part of one server, made and joined in one place."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass

from services.accounts import Accounts
from services.admission import Admission
from services.background import Background
from services.channels import Channels
from services.control import Control
from services.data_dir import DataDirLock
from services.database import Database
from services.encryption import Encryption
from services.errors import SettingError, UsherError
from services.health import CHECK_SECONDS, Health
from services.hub import Hub
from services.keepalive import PING_SECONDS, keep_alive
from services.login_cache import LoginCache
from services.login_sessions import LoginSessions
from services.metrics import Metrics
from services.passwords import Passwords
from services.protocol import CloseCode
from services.rate_limit import GuessLimit
from services.redis_cluster import ClusterAddress
from services.redis_forms import address_of
from services.redis_server import EmbeddedRedis, find_redis_server
from services.revocations import SWEEP_SECONDS, Revocations
from services.secret import MASK
from services.seen import WRITE_SECONDS, Seen
from services.session_pool import RENEW_SECONDS, SessionPool
from services.setting_values import TAKES_REDIS
from services.settings import Settings
from services.store import Store
from services.store_cluster import ClusterStore
from services.store_memory import MemoryStore
from services.store_redis import RedisStore
from services.tickets import Tickets
from services.tokens import Tokens
from services.upkeep import PURGE_SECONDS, Upkeep

log = logging.getLogger("usher")


@dataclass(frozen=True)
class Foundation:
    """What the services stand on, and what has to be let go of at the end."""

    settings: Settings
    lock: DataDirLock | None
    redis: EmbeddedRedis | None
    store: Store
    database: Database
    metrics: Metrics


@dataclass(frozen=True)
class Services:
    """What handlers may call."""

    node: str
    foundation: Foundation
    metrics: Metrics
    hub: Hub
    pool: SessionPool
    admission: Admission
    accounts: Accounts
    login_sessions: LoginSessions
    channels: Channels
    revocations: Revocations
    tickets: Tickets
    seen: Seen
    health: Health
    background: Background
    passwords: Passwords
    guesses: GuessLimit


async def lay_foundation(settings: Settings) -> Foundation:
    """Open the data folder, Redis and the database.

    Raises:
        SettingError: DATA_DIR is another Usher's, or a URL leads nowhere.
        DatabaseUnavailable, StoreUnavailable: what is needed to start does not start.
    """
    metrics = Metrics()
    lock = DataDirLock(settings.data_dir) if settings.embedded else None
    if lock is not None:
        lock.acquire()
    redis: EmbeddedRedis | None = None
    store: Store | None = None
    database: Database | None = None
    try:
        # Both URLs are read before anything is begun: of a bad one there is one line, no more.
        remote = _remote_store(settings)
        database = await Database.open(settings.database_url.reveal())
        redis, store = await _open_store(settings, remote, metrics)
    except BaseException:
        if database is not None:
            await database.close()
        await _let_go(store, redis, lock)
        raise
    return Foundation(settings, lock, redis, store, database, metrics)


def _remote_store(settings: Settings) -> RedisStore | ClusterStore | None:
    if settings.redis_url is None:
        return None
    try:
        address = address_of(settings.redis_url)
    except ValueError as error:
        got = f"{MASK} ({error}: an option of it, or a file that it names)"
        raise SettingError("USHER_REDIS_URL", got, TAKES_REDIS) from error
    return ClusterStore(address) if isinstance(address, ClusterAddress) else RedisStore(address)


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
    redis = EmbeddedRedis(settings.data_dir, binary, on_restart=metrics.redis_restarts.inc)
    await redis.start()
    store = RedisStore(redis.url)
    await store.connect()
    return redis, store


def build(foundation: Foundation, issuer: str) -> Services:
    """Join the parts. Nothing runs yet.

    Args:
        issuer: `iss` of the tokens: the public URL.
    """
    settings, metrics = foundation.settings, foundation.metrics
    store, database = foundation.store, foundation.database
    token_life = max(settings.access_token_ttl_seconds, settings.ticket_ttl_seconds)
    tokens = Tokens(settings.jwt_secrets, issuer, ttl=settings.access_token_ttl_seconds)
    hub, control = Hub(), Control()
    cache = LoginCache(store, token_life)
    revocations = Revocations(database, cache, hub, control, metrics, token_life)
    login_sessions = LoginSessions(
        database,
        tokens,
        cache,
        revocations,
        settings.refresh_token_ttl_seconds,
        settings.session_lifetime_seconds,
    )
    passwords = Passwords()
    guesses = GuessLimit(store, metrics)
    tickets = Tickets(store, database, settings.ticket_ttl_seconds)
    health = Health(
        database,
        store,
        Encryption(settings.encryption_keys),
        metrics,
        on_cut_off=lambda: _cut_off(hub),
    )
    return Services(
        node=secrets.token_urlsafe(8),
        foundation=foundation,
        metrics=metrics,
        hub=hub,
        pool=SessionPool(store),
        admission=Admission(tokens, tickets, cache, login_sessions, revocations, metrics),
        accounts=Accounts(database, passwords, login_sessions, revocations, guesses, metrics),
        login_sessions=login_sessions,
        channels=Channels(database, revocations),
        revocations=revocations,
        tickets=tickets,
        seen=Seen(login_sessions),
        health=health,
        background=Background(metrics),
        passwords=passwords,
        guesses=guesses,
    )


def _redis_url(foundation: Foundation) -> str | None:
    """Where the shared Redis is, in any form of its URL; None while there is none."""
    if foundation.redis is not None:
        return foundation.redis.url
    url = foundation.settings.redis_url
    return None if url is None else url.reveal()


def _cut_off(hub: Hub) -> None:
    if cut := hub.cut_all(CloseCode.UNAVAILABLE):
        log.error("neither the database nor redis for a whole lease: %d sockets closed", cut)


async def start(services: Services) -> None:
    """Read what was revoked before this start, then begin the background loops.

    Raises:
        DatabaseUnavailable: it went away meanwhile.
    """
    await services.revocations.sweep()
    await services.health.check()
    background, database = services.background, services.foundation.database

    async def renew() -> None:
        await services.pool.renew(c.session for c in services.hub if c.wire.is_open)

    async def prune() -> None:
        services.revocations.prune()

    background.every(SWEEP_SECONDS, "sweep revocations", services.revocations.sweep)
    background.every(CHECK_SECONDS, "check health", services.health.check)
    background.every(RENEW_SECONDS, "renew leases", renew)
    background.every(WRITE_SECONDS, "note last seen", services.seen.write)
    background.every(PING_SECONDS, "ping sockets", lambda: keep_alive(services.hub))
    background.every(PURGE_SECONDS, "forget revocations", prune)
    background.every(PURGE_SECONDS, "purge rows", Upkeep(database).purge)


async def stop(services: Services) -> None:
    """End the loops, write what waits and let go of everything."""
    await services.background.close()
    try:
        await asyncio.wait_for(services.seen.write(), 2.0)
    except (UsherError, asyncio.TimeoutError) as error:  # a courtesy; stopping must go on
        log.debug("last seen not written: %s", error)
    services.passwords.close()
    foundation = services.foundation
    await foundation.database.close()
    await _let_go(foundation.store, foundation.redis, foundation.lock)


async def _let_go(
    store: Store | None, redis: EmbeddedRedis | None, lock: DataDirLock | None
) -> None:
    if store is not None:
        await store.close()
    if redis is not None:
        await redis.stop()
    if lock is not None:
        lock.release()
