"""Pings, so that a peer that has vanished does not count as present."""

from __future__ import annotations

import asyncio

from services.sockets.hub import Hub

PING_SECONDS = 20.0
SILENCE_SECONDS = 65.0
"""Three pings unanswered: nobody is there."""
SLICE = 500


async def keep_alive(hub: Hub, awake_since: float = 0.0) -> None:
    """Ping whoever was silent lately; drop who has been for too long (RFC 6455 5.5.2).

    Args:
        awake_since: when a stall of this loop last ended, by its clock. Nobody was heard in it,
            and nobody was asked.
    """
    now = asyncio.get_running_loop().time()
    for number, client in enumerate(hub):
        silence = now - max(client.connection.last_heard, awake_since)
        if silence > SILENCE_SECONDS:
            client.connection.abort()
        elif silence > PING_SECONDS / 2:
            client.connection.ping()
        if number % SLICE == SLICE - 1:
            await asyncio.sleep(0)  # thousands of writes in one turn would hold up the rest
