"""Pings idle sockets, so that a vanished peer does not count as present."""

from __future__ import annotations

import asyncio

from services.sockets.hub import Hub

PING_SECONDS = 20.0
SILENCE_SECONDS = 65.0
"""Time without data from the peer, about three unanswered pings, after which it is dropped."""
SLICE = 500


async def keep_alive(hub: Hub, awake_since: float = 0.0) -> None:
    """Ping idle sockets, and drop those that have been silent for too long (RFC 6455 section
    5.5.2).

    Args:
        awake_since: when a stall of the loop last ended, by its clock. During a stall, nothing was
            read or pinged.
    """
    now = asyncio.get_running_loop().time()
    for number, client in enumerate(hub):
        silence = now - max(client.connection.last_heard, awake_since)
        if silence > SILENCE_SECONDS:
            client.connection.abort()
        elif silence > PING_SECONDS / 2:
            client.connection.ping()
        if number % SLICE == SLICE - 1:
            await asyncio.sleep(0)  # thousands of writes in one iteration would block the loop
