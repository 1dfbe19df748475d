"""Sockets whose events wait for the database: each in its user's name."""

from __future__ import annotations

import pytest

from tests.support.databases import kinds
from tests.support.parts import Parts, Peer, node, open_socket
from tests.support.raw import event
from tests.support.redis import until

# One connection, so that one waits for another. PostgreSQL has several.
database_kind = kinds("sqlite")
MANY = 30


async def sockets(parts: Parts, count: int) -> tuple[str, list[Peer]]:
    login = await parts.signed_in(await parts.user())
    return login.user.id, [await open_socket(parts, login) for _ in range(count)]


@pytest.mark.gen_test
async def test_one_users_sockets_do_not_keep_anothers_waiting(database_url: str) -> None:
    async with node(database_url) as parts:
        ann, anns = await sockets(parts, MANY)
        bob, (bobs,) = await sockets(parts, 1)
        queue = parts.database._runs._queue
        lane = queue._lanes["users"]
        held = queue.request("users", "somebody else")
        await until(held.granted.done)
        for peer in anns:
            await peer.send(event("join-channels", 1))
        await until(lambda: lane.under_way_of[ann] == MANY)
        await bobs.send(event("join-channels", 1))
        await until(lambda: lane.under_way_of[bob] == 1)
        held.release()
        assert (await bobs.event())["event"] == "reply"
        assert lane.under_way_of[ann] > MANY // 2
