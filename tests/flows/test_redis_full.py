"""A Redis that has used the memory that it may use: by what users say, or all of it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import websockets

from tests.support.nodes import Nodes, again, at, channel, nodes
from tests.support.redis import until
from tests.support.server import Client, Usher, bearer, connect, sign_up
from tests.support.talk import Talker, talking

LARGE = "x" * 60_000
BYTES = 30_000_000
AT_ONCE = 8
"""What waits in Redis is little beside the tenth of BYTES that is left free."""


@pytest.fixture(scope="module")
def two() -> Iterator[Nodes]:
    # So much that one user could fill this Redis with one room.
    with nodes("sqlite", 2, HISTORY_BYTES=1_000_000_000) as running:
        yield running


@contextmanager
def limited(running: Nodes) -> Iterator[None]:
    """What is done to the memory of Redis in here is undone in the end."""
    try:
        yield
    finally:
        running.redis.accept()


def redis_state(server: Usher) -> str:
    return str(Client(server).get("/readyz").body["redis"])


async def states_are(running: Nodes, state: str) -> None:
    await until(lambda: [redis_state(node) for node in running] == [state] * 2)


def told(server: Usher, words: str) -> int:
    """How many lines of the log have these words."""
    return sum(words in line for line in server.log.splitlines())


async def flood(talker: Talker, room: str, size: int) -> int:
    """Say large things. Returns how many were taken."""
    taken = 0
    for _ in range(size // len(LARGE) // AT_ONCE):
        said = (talker.ask("message", {"room": room, "data": LARGE}) for _ in range(AT_ONCE))
        taken += sum(reply["ok"] for reply in await asyncio.gather(*said))
    return taken


@pytest.mark.gen_test(timeout=90)
async def test_who_floods_the_history_takes_the_history_only(two: Nodes) -> None:
    flooder, ada, ben = (sign_up(two[0]) for _ in range(3))
    loud, quiet = channel(flooder), channel(ada, ben)
    before = [told(node, "Redis is nearly full") for node in two]
    async with (
        talking(two[0], flooder) as shouts,
        talking(two[0], ada) as speaks,
        talking(two[1], ben) as listens,
    ):
        with limited(two):
            used = two.redis.memory_used()
            two.redis.ask("CONFIG", "SET", "maxmemory", used + BYTES)
            flooding = asyncio.ensure_future(flood(shouts, loud, 2 * BYTES))
            said = 0
            while not flooding.done():
                await speaks.say(quiet, said)
                said += 1
                await asyncio.sleep(0.05)
            assert await flooding > BYTES // len(LARGE)  # also where the history takes no more
            await until(lambda: all(told(x, "Redis is nearly full") for x in two))
            assert two.redis.memory_used() < used + BYTES
            # All of it is delivered, on both nodes; that some is not in the history is said.
            await speaks.say(quiet, "the last")
            await listens.hears(quiet, "the last")
            assert listens.said(quiet) == [*range(said), "the last"]
            part = await speaks.ok("history", {"room": quiet})
            assert part["complete"] is False
            assert [redis_state(node) for node in two] == ["ok", "ok"]
            for node in two:
                async with talking(node, ben):
                    pass
        metrics = Client(two[0]).get("/metrics").text.decode()
        assert "usher_redis_memory_used_ratio" in metrics
        await until(lambda: all(told(x, "Redis has memory again") for x in two))
        kept = await speaks.say(quiet, "kept")
        part = await listens.ok("history", {"room": quiet})
        assert part["messages"][-1]["id"] == kept
    after = [told(node, "Redis is nearly full") for node in two]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]
    assert not any(told(node, "Traceback") for node in two)


@pytest.mark.gen_test(timeout=90)
async def test_who_is_revoked_while_redis_is_full_is_cut_on_every_node_and_stays_out(
    two: Nodes,
) -> None:
    ada, ben = sign_up(two[0]), sign_up(two[0])
    room = channel(ben)
    before = [told(node, "Redis is full") for node in two]
    elsewhere = again(two[0], ada.user["email"])
    async with (
        talking(two[0], ada) as here,
        talking(two[1], ada) as there,
        talking(two[1], elsewhere) as other,
        talking(two[1], ben) as bens,
    ):
        with limited(two):
            two.redis.use(0.5)
            two.redis.refuse("OOM")
            # At once: no node knows yet that the keys of this logout cannot be written.
            assert ada.post("/api/auth/logout").status == 204
            assert await here.code() == 4410
            assert await there.code() == 4410
            for node in two:
                await is_refused(node, ada)
            await states_are(two, "fallback")
            assert await bens.refused("message", {"room": room, "data": 1}) == "unavailable"
            assert at(two[1], elsewhere).call("DELETE", "/api/sessions").status == 204
            # Who may come in still does, with a token and with a ticket of the database.
            for node in two:
                async with talking(node, at(node, ben)), talking(node, at(node, ben), ticket=False):
                    pass
            # It takes writes again, and would soon refuse them: it is not used yet.
            two.redis.use(0.995)
            await asyncio.sleep(1.0)
            assert [redis_state(node) for node in two] == ["fallback", "fallback"]
            for node in two:
                await is_refused(node, ada)
        await states_are(two, "ok")
        await bens.say(room, "after")
        await bens.hears(room, "after")
        await other.settle()
        for node in two:
            await is_refused(node, ada)  # although Redis has no key of it
    after = [told(node, "Redis is full") for node in two]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]
    assert not any(told(node, "Traceback") for node in two)


async def is_refused(node: Usher, client: Client) -> None:
    """A socket with the client's token is closed with 4401."""
    async with connect(node, subprotocols=bearer(client.token)) as socket:
        with suppress(websockets.ConnectionClosed):
            while True:
                await socket.recv()
    assert socket.close_code == 4401
