"""Listeners of the bus."""

from __future__ import annotations

from services.bus.bus import LoggedMessage


class RecordingListener:
    """A listener that records its calls."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.gaps = 0

    def logged(self, room: str, message: LoggedMessage) -> None:
        self.bodies.append(message.body)

    def ephemeral(self, room: str, body: bytes) -> None:
        self.bodies.append(body)

    def gap(self, room: str) -> None:
        self.gaps += 1
