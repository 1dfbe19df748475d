"""Who is told when sockets of a user open and close, over several nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from services.sockets import session_watch
from services.sockets.hub import HubSocket
from services.sockets.session_watch import MOVED, WATCHED, SessionWatch
from tests.support.redis import until

USER = "u1"


class Bus:
    """Hands ephemeral messages to each node at once, the sender too, as Redis does in the end."""

    def __init__(self) -> None:
        self.acts: dict[bytes, list[Callable[[str, bytes], None]]] = {}
        self.sent: list[bytes] = []

    def on_ephemeral(self, kind: bytes, act: Callable[[str, bytes], None]) -> None:
        self.acts.setdefault(kind, []).append(act)

    def send_ephemeral(self, name: str, kind: bytes, body: bytes) -> None:
        self.sent.append(kind)
        for act in self.acts[kind]:
            act(name, body)


@dataclass(eq=False)
class Watcher:
    """A socket that counts what it is told."""

    frames: list[bytes] = field(default_factory=list)

    @property
    def connection(self) -> Any:
        return self

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)


def watching(node: SessionWatch) -> Watcher:
    watcher = Watcher()
    node.watch(USER, cast("HubSocket", watcher))
    return watcher


@pytest.mark.gen_test
async def test_a_move_here_is_told_elsewhere_though_one_of_elsewhere_is_about_to_be_told_here() -> (
    None
):
    bus = Bus()
    one, other = SessionWatch(bus, "one"), SessionWatch(bus, "other")
    here, there = watching(one), watching(other)
    await until(lambda: not one._pending and not other._pending)
    del here.frames[:], there.frames[:]
    bus.acts[MOVED][0](f"user:{USER}", b"other")
    one.moved(USER)
    await until(lambda: bool(here.frames) and bool(there.frames))


@pytest.mark.gen_test
async def test_a_socket_that_asks_again_and_again_is_said_once() -> None:
    bus = Bus()
    node, watcher = SessionWatch(bus, "one"), Watcher()
    for _ in range(50):
        node.watch(USER, cast("HubSocket", watcher))
    assert bus.sent == [WATCHED]
    node.moved(USER)
    await until(lambda: bool(watcher.frames))
    assert len(watcher.frames) == 1


@pytest.mark.gen_test
async def test_a_socket_that_has_left_is_told_nothing_and_leaves_nothing() -> None:
    bus = Bus()
    node = SessionWatch(bus, "one")
    watcher = watching(node)
    node.moved(USER)
    node.forget(USER, cast("HubSocket", watcher))
    await until(lambda: not node._pending)
    assert not watcher.frames
    bus.sent.clear()
    await node.renew()
    assert not bus.sent


@pytest.mark.gen_test
async def test_all_watched_users_are_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_watch, "RENEW_BATCH", 3)
    bus = Bus()
    node = SessionWatch(bus, "one")
    for number in range(10):
        node.watch(f"u{number}", cast("HubSocket", Watcher()))
    bus.sent.clear()
    await node.renew()
    assert bus.sent == [WATCHED] * 10
