"""Members of rooms that note what they are sent."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from services.rooms.local_room import RoomMember
from services.rooms.rooms import Rooms
from tests.support.redis import within


class NotingWire:
    """What rooms ask of a socket's wire."""

    def __init__(self) -> None:
        self.is_open = True
        self.frames: list[bytes] = []
        self.writes: list[bytes] = []

    def send_frame(self, frame: bytes) -> None:
        self.send_frames([frame], frame)

    def send_frames(self, frames: list[bytes], joined: bytes) -> None:
        assert b"".join(frames) == joined
        self.frames += frames
        self.writes.append(joined)


class Person:
    """A member."""

    def __init__(self, session_id: str) -> None:
        self.session_id, self.connection = session_id, NotingWire()

    @property
    def member(self) -> RoomMember:
        return cast("RoomMember", self)

    @property
    def texts(self) -> list[str]:
        """The text of every frame so far."""
        return [text_of(frame) for frame in self.connection.frames]

    @property
    def events(self) -> list[Any]:
        """The same, as JSON."""
        return [msgspec.json.decode(text) for text in self.texts]


def text_of(frame: bytes) -> str:
    """The text in a frame of the server, which is not masked."""
    length = frame[1]
    return frame[2 if length < 126 else 4 if length == 126 else 10 :].decode()


async def enter(rooms: Rooms, person: Person, *names: str) -> None:
    """Put somebody into rooms, as a socket goes in."""
    await within(rooms.wait_subscribed(rooms.subscribe(names)))
    for name in names:
        rooms.enter(person.member, name)
    rooms.unsubscribe(names)
