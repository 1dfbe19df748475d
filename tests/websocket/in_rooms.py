"""Users with sockets in rooms, on a server whose administrator is somebody else."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.databases import kinds, slow
from tests.support.raw import assert_quiet
from tests.support.server import TORNADO, Client, Usher, sign_up, usher
from tests.support.talk import Talker

# Frames and handshakes differ between the forms (test_socket.py, test_upgrade.py), rooms do not.
socket_kind = kinds("sqlite", slow(TORNADO))


@pytest.fixture(scope="module")
def installation(socket_kind: str) -> Iterator[Usher]:
    """A server whose administrator is somebody else, for people who speak fast."""
    with usher(socket_kind, MESSAGE_RATE=10_000) as server:
        assert sign_up(server).user["role"] == "admin"
        yield server
        assert_quiet(server.log)


@pytest.fixture
def ann(installation: Usher) -> Client:
    return sign_up(installation)


@pytest.fixture
def bob(installation: Usher) -> Client:
    return sign_up(installation)


async def nothing_more(victim: Talker, room: str, witness: Talker) -> None:
    """Once a message that the witness hears has passed by the victim, it has not heard it."""
    before = len(victim.messages(room))
    mark = {"mark": time.monotonic()}
    await witness.say(room, mark)
    await witness.hears(room, mark)
    await victim.settle()
    assert len(victim.messages(room)) == before, victim.messages(room)


async def reported(talker: Talker, room: str, *, inside: bool) -> None:
    """The next `access-changed` has the room, or has it no more."""
    rooms = (await talker.next("access-changed"))["rooms"]
    assert (room in rooms) is inside
    assert f"user:{talker.id}" in rooms
