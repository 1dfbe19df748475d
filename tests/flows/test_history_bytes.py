"""What one sender takes of a room's history, through real sockets and calls, in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.nodes import Nodes, channel, nodes, path_of
from tests.support.redis import until
from tests.support.server import Client, sign_up
from tests.support.talk import Talker, talking

LARGE = "x" * 60_000
BYTES = 1024 * 1024
"""HISTORY_BYTES by default."""
BURST = 200
"""Messages that a socket may send at once, and by default in four seconds."""


@pytest.fixture(scope="module")
def installation() -> Iterator[Nodes]:
    with nodes("sqlite", 1, MESSAGE_RATE=50) as running:
        yield running


def memory_of(running: Nodes, room: str) -> int:
    """Bytes that Redis takes for all keys of a room."""
    keys = running.redis.ask("KEYS", f"usher:{{{room}}}:*")
    return sum(running.redis.ask("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys)


async def whole_history(talker: Talker, room: str) -> tuple[list[str], bool]:
    """The data of everything in the history, page by page, and whether the first is complete."""
    found, complete, after = [], None, None
    while True:
        asked = {"room": room} if after is None else {"room": room, "after": after}
        part = await talker.ok("history", asked)
        complete = part["complete"] if complete is None else complete
        found += part["messages"]
        if not part.get("more"):
            return [message["data"] for message in found], complete
        after = part["messages"][-1]["id"]


@pytest.mark.gen_test(timeout=60)
async def test_who_floods_a_room_displaces_only_themselves_and_takes_their_bytes(
    installation: Nodes,
) -> None:
    node = installation[0]
    ada, flooder = sign_up(node), sign_up(node)
    room = channel(ada, flooder)
    async with talking(node, ada) as speaks, talking(node, flooder) as shouts:
        small = []
        for start in range(0, BURST, 20):
            said = f"small {start}"
            await speaks.say(room, said)
            small.append(said)
            large = (shouts.say(room, f"{number}{LARGE}") for number in range(start, start + 20))
            await asyncio.gather(*large)  # 12 MB in all, within the rate
        history, complete = await whole_history(speaks, room)
    assert [said for said in history if said in small] == small
    kept = [said.removesuffix(LARGE) for said in history if said not in small]
    assert kept == [str(number) for number in range(BURST - len(kept), BURST)]
    assert len(kept) == BYTES // (len(LARGE) + 200)
    assert complete is False
    assert memory_of(installation, room) < 1.3 * BYTES


@pytest.mark.gen_test(timeout=60)
async def test_kept_events_of_a_backend_are_counted_by_its_key(installation: Nodes) -> None:
    node = installation[0]
    ada = sign_up(node)
    room = channel(ada)
    made = installation.admin.post("/api/admin/api-keys", {"name": "b", "scopes": ["publish"]})
    backend = Client(node, made.body["key"])
    async with talking(node, ada) as speaks:
        await speaks.say(room, "small")
        for number in range(40):
            event = {"room": room, "event": "news", "data": f"{number}{LARGE}"[:50_000]}
            answer = await asyncio.to_thread(backend.post, "/api/publish", {**event, "keep": True})
            assert answer.status == 204, answer
        history, complete = await whole_history(speaks, room)
    assert history[0] == "small"
    assert len(history) == 1 + BYTES // 50_150
    assert complete is False
    assert memory_of(installation, room) < 1.3 * BYTES


@pytest.mark.gen_test(timeout=60)
async def test_the_history_of_a_deleted_channel_is_deleted(installation: Nodes) -> None:
    # Otherwise one channel after the other would fill Redis.
    node = installation[0]
    ada, ben = sign_up(node), sign_up(node)
    room = channel(ada, ben)
    async with talking(node, ada) as speaks, talking(node, ben) as answers:
        for talker in (speaks, answers):
            await talker.say(room, "small")
            await talker.say(room, LARGE)
    keys = f"usher:{{{room}}}:*"
    assert len(installation.redis.ask("KEYS", keys)) >= 6
    assert ada.call("DELETE", path_of(room)).status == 204
    await until(lambda: not installation.redis.ask("KEYS", keys))
