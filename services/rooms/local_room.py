"""One room of this node: its members, and what is to be sent to them."""

from __future__ import annotations

import asyncio
from typing import Protocol

from services.bus.bus import LoggedMessage
from services.rooms.room_names import CHANNEL
from services.websocket.connection import Connection


class RoomMember(Protocol):
    """The interface of a socket that rooms use."""

    session_id: str
    connection: Connection


class LocalRoom:
    """One room that is subscribed on this node."""

    __slots__ = (
        "behind",
        "catching_up",
        "channel_id",
        "epoch",
        "gap_sent",
        "held",
        "last",
        "lost_at",
        "members",
        "name",
        "since",
        "unsent",
        "unsent_bytes",
        "until",
        "waiting",
    )

    def __init__(self, name: str, since: float, epoch: str) -> None:
        self.name = name
        self.channel_id = name.removeprefix(CHANNEL)
        """Both are one string for all its members."""
        self.members: dict[RoomMember, float] = {}
        """When each came in, epoch seconds by this node's clock; the last is the newest."""
        self.held = 0
        self.last = self.gap_sent = (0, 0)
        self.since, self.epoch = since, epoch
        self.behind, self.lost_at = False, since
        self.catching_up: asyncio.Task[None] | None = None
        self.waiting: list[LoggedMessage] | None = None
        self.unsent: list[bytes] | None = None
        self.unsent_bytes = 0
        self.until: dict[RoomMember, float] | None = None
        """For members of a room that needs a step-up: when their proof ends, by
        `Rooms.proof_clock`. None for every other room."""
