"""Members of rooms that record what they receive."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from services.rooms.local_room import RoomMember
from services.rooms.rooms import Rooms
from tests.support.redis import within


class RecordingConnection:
    """The connection of a member, which records what is sent."""

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


class RecordingMember:
    """A member of a room."""

    def __init__(self, session_id: str) -> None:
        self.session_id, self.connection = session_id, RecordingConnection()

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


async def enter(rooms: Rooms, person: RecordingMember, *names: str) -> None:
    """Add a member to rooms, as a joining socket is."""
    await within(rooms.wait_subscribed(rooms.subscribe(names)))
    for name in names:
        rooms.enter(person.member, name)
    rooms.unsubscribe(names)
