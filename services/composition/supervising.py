"""Connects the supervisor of several processes with what it shares between them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from functools import partial

from services.composition.infrastructure import Infrastructure
from services.errors import SettingError
from services.metrics import Metrics
from services.processes.exposition import Family, families
from services.processes.supervisor import STOP_SECONDS, Supervisor

SHARED_METRICS = frozenset(("usher_embedded_redis_restarts",))
"""Metrics of what only the supervisor has."""

log = logging.getLogger("usher.processes")


def check_shared(infrastructure: Infrastructure) -> None:
    """Refuse several processes that would have nothing between them.

    Raises:
        SettingError: there is no Redis.
    """
    if infrastructure.store.kind == "memory":
        got = f"{infrastructure.settings.processes}, and no redis-server was found"
        raise SettingError("USHER_PROCESSES", got, "1, or a Redis in USHER_REDIS_URL")


def build(
    infrastructure: Infrastructure,
    command: Sequence[str],
    arguments: Sequence[str],
    sockets: Sequence[Sequence[socket.socket]],
) -> Supervisor:
    """The supervisor, not started. For the arguments see `Supervisor`."""
    own = partial(_shared, infrastructure.metrics)
    drain_seconds = infrastructure.settings.drain_seconds
    return Supervisor(command, arguments, sockets, own, drain_seconds + STOP_SECONDS)


class Reloads:
    """Makes all processes read their settings anew, and records it for the commands that wait."""

    def __init__(self, supervisor: Supervisor, infrastructure: Infrastructure) -> None:
        self._supervisor, self._infrastructure = supervisor, infrastructure
        self._count = 0

    async def reload(self) -> bool:
        """Returns whether all of them could."""
        done = await self._supervisor.reload()
        if done and (lock := self._infrastructure.lock) is not None:
            self._count += 1
            lock.record_reloads(self._count)
        if not done:
            log.error("not every process has read its settings anew")
        return done


def _shared(metrics: Metrics) -> list[Family]:
    return [each for each in families(metrics.registry) if each.name in SHARED_METRICS]
