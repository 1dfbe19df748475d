"""Sockets that ask for rooms, and joins that ask the database."""

from __future__ import annotations

import json
from typing import Any

from services.websocket.frames import Opcode
from tests.support.parts import Parts, Peer, client_frame
from tests.support.redis import within


def by_database(parts: Parts) -> float:
    causes = ("unknown_to_redis", "role_or_access_changed", "changed_meanwhile", "redis_away")
    return sum(parts.count("usher_joins_by_database_total", cause=cause) for cause in causes)


async def ask(peer: Peer, name: str, **data: Any) -> Any:
    text = json.dumps({"event": name, "id": 1, "data": data}).encode()
    await peer.send(client_frame(Opcode.TEXT, text))
    while (got := await within(peer.event()))["event"] != "reply":
        pass
    return got


def rooms(peer: Peer) -> list[str]:
    return sorted(peer.client.membership.names())
