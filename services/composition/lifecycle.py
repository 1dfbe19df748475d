"""Start and stop: what is loaded first, which background loops run, what is flushed at the end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from services.accounts.api_keys import READ_SECONDS
from services.audit.trail import LINES_SECONDS, ROWS_SECONDS
from services.composition.container import Services
from services.composition.health import CHECK_SECONDS
from services.composition.heap import IDLE_SECONDS, Heap
from services.composition.infrastructure import close_infrastructure
from services.composition.upkeep import PURGE_SECONDS, Upkeep
from services.errors import DatabaseUnavailable, StoreUnavailable, UsherError
from services.overview.meter import TICK_SECONDS as OVERVIEW_SECONDS
from services.providers.refresh import KEEP_SECONDS
from services.refresh.steps import TICK_SECONDS
from services.sessions.last_seen import WRITE_SECONDS
from services.sessions.node_lease import ENFORCE_SECONDS, LOG_SECONDS
from services.sessions.revocations import SWEEP_SECONDS
from services.sessions.token_binding import CHECK_SECONDS as CHECK_BINDINGS_SECONDS
from services.sockets.keepalive import PING_SECONDS, keep_alive
from services.sockets.session_pool import RENEW_SECONDS
from services.sockets.unjoined_counts import SHARE_SECONDS
from services.step_up.freshness import TICK_SECONDS as FRESHNESS_SECONDS
from services.webhooks.socket_events import WRITE_SECONDS as WRITE_EVENTS_SECONDS

log = logging.getLogger("usher")


async def start(services: Services) -> None:
    """Read the revocations made before this start, then start the background loops.

    Raises:
        DatabaseUnavailable: the database became unavailable meanwhile.
    """
    # This also applies to the tasks started here that listen to the other nodes.
    with services.infrastructure.database.callers.on_behalf_of("node"):
        await _start(services)


async def _start(services: Services) -> None:
    await services.control.open()
    with suppress(StoreUnavailable):  # the renewal loop logs it again
        await services.nodes.renew()
    await services.node_lease.sweep()
    await services.shared_grants.load()
    await services.refresh.keys.read()
    with suppress(DatabaseUnavailable):  # the database can be read, not written; the loop retries
        await services.refresh.ticks.tick()
        await services.freshness.tick()
    await services.api_keys.read()
    await services.health.check()
    await services.app_keys.read()
    services.mail.dispatcher.on_asked(services.recovery.asked)
    services.infrastructure.watch.start()
    _begin_loops(services)
    _begin_upkeep(services)


def _begin_loops(services: Services) -> None:
    """Start the loops that keep this node up to date and notify the others."""
    background = services.background

    async def renew() -> None:
        await services.nodes.renew()
        await services.pool.renew(c.session for c in services.hub if c.connection.is_open)
        await services.session_watch.renew()
        await services.presence.renew()

    async def ping() -> None:
        await keep_alive(services.hub, services.infrastructure.watch.resumed_at)

    background.every(SWEEP_SECONDS, "sweep revocations", services.node_lease.sweep)
    background.every(LOG_SECONDS, "read news", services.node_lease.receive)
    background.every(ENFORCE_SECONDS, "end the lease", services.node_lease.enforce)
    background.every(SWEEP_SECONDS, "look up rights again", services.access.try_again)
    background.every(CHECK_SECONDS, "check health", services.health.check)
    background.every(RENEW_SECONDS, "renew leases", renew)
    background.every(CHECK_BINDINGS_SECONDS, "check bearer tokens", services.token_binding.check)
    background.every(SHARE_SECONDS, "share counts of addresses", services.unjoined_counts.share)
    background.every(OVERVIEW_SECONDS, "measure", services.overview.tick)
    background.every(WRITE_SECONDS, "note last seen", services.last_seen.write)
    background.every(PING_SECONDS, "ping sockets", ping)
    if tuple(services.oauth.providers):
        background.every(KEEP_SECONDS, "refresh provider tokens", services.oauth.refresh.keep)


def _begin_upkeep(services: Services) -> None:
    """Start the loops that read rarely changing rows, write buffered data, and delete old rows."""
    background, database = (
        services.background,
        services.infrastructure.database,
    )

    async def prune() -> None:
        services.revocations.prune()
        services.infrastructure.bus.forget_old()

    chosen = services.infrastructure.settings
    purge = Upkeep(
        database,
        keep_audit=chosen.audit_retention_seconds,
        keep_deliveries=chosen.webhook_retention_seconds,
    ).purge
    background.every(PURGE_SECONDS, "forget revocations", prune)
    background.every(PURGE_SECONDS, "purge rows", purge)
    background.every(LINES_SECONDS, "write audit lines", services.audit.write_lines)
    background.every(ROWS_SECONDS, "write audit rows", services.audit.write_rows)
    # Both wait themselves until there is something to deliver.
    background.every(0.0, "deliver webhooks", services.webhooks.dispatcher.step)
    background.every(0.0, "send mails", services.mail.dispatcher.step)
    write_events = services.webhooks.socket_events.write
    background.every(WRITE_EVENTS_SECONDS, "write socket events", write_events)
    background.every(TICK_SECONDS, "count for refresh tokens", services.refresh.ticks.tick)
    background.every(PURGE_SECONDS, "read refresh keys", services.refresh.keys.read)
    background.every(FRESHNESS_SECONDS, "write the newest time", services.freshness.tick)
    background.every(IDLE_SECONDS, "give memory back", Heap(services.passwords).give_back)
    background.every(READ_SECONDS, "read API keys", services.api_keys.read)
    background.every(PURGE_SECONDS, "read app keys", services.app_keys.read)


async def stop(services: Services) -> None:
    """Stop the loops, flush pending writes and close the infrastructure."""
    services.infrastructure.watch.stop()
    await services.background.close()
    await services.admission.login_states.close()
    await services.channels.close()
    await services.authors.close()
    try:
        await asyncio.wait_for(services.last_seen.write(), 2.0)
    except (UsherError, asyncio.TimeoutError) as error:  # not essential; the stop must continue
        log.debug("last seen not written: %s", error)
    try:
        await asyncio.wait_for(services.audit.write(), 2.0)
    except (UsherError, asyncio.TimeoutError) as error:
        log.error("entries of the audit trail are lost: %s", error)
    try:
        await asyncio.wait_for(services.webhooks.socket_events.write(), 2.0)
    except (UsherError, asyncio.TimeoutError) as error:
        log.error("events of sockets are lost: %s", error)
    await services.webhooks.dispatcher.close()
    await services.mail.dispatcher.close()
    services.passwords.close()
    await services.oauth.close()
    with suppress(UsherError):
        await services.nodes.leave()
    await close_infrastructure(services.infrastructure)
