"""Accounts that open many channels to everybody slow nobody's join, and displace nothing that
administrators have opened. On a real server."""

from __future__ import annotations

import pytest

from tests.support.databases import kinds, slow
from tests.support.server import Client, Usher, sign_up, usher
from tests.support.talk import Talker, talking

database_kind = kinds("sqlite", slow("postgresql"))
ACCOUNTS, OF_EACH, MOST = 10, 3, 12


def opened(client: Client) -> str:
    answer = client.post("/api/channels", {"name": "Open", "private": False})
    assert answer.status == 201
    return f"channel:{answer.body['id']}"


async def rooms(talker: Talker) -> list[str]:
    """Of a socket that asks for its rights anew."""
    answer = await talker.ok("join-channels", {})
    return list(answer["rooms"])


@pytest.mark.gen_test(timeout=60)
async def test_ten_accounts_with_many_open_channels_take_no_more_than_the_others_leave(
    database_kind: str,
) -> None:
    with usher(database_kind, MAX_JOINED_OPEN_CHANNELS=MOST) as server:
        await crowd_and_join(server)


async def crowd_and_join(server: Usher) -> None:
    admin, ann = sign_up(server), sign_up(server)
    before, hers = opened(admin), opened(ann)
    stranger = sign_up(server)
    async with talking(server, stranger) as early:
        hogs = [sign_up(server) for _ in range(ACCOUNTS)]
        made = [[opened(hog) for _ in range(OF_EACH)] for hog in hogs]
        after = opened(admin)
        firsts = {rooms_of_one[0] for rooms_of_one in made}
        async with talking(server, stranger) as late:
            for talker, expected in ((early, set[str]()), (late, firsts)):
                found = await rooms(talker)
                assert {before, after, hers, *expected} < set(found)
                assert len(found) == 1 + 2 + MOST
            beyond = made[-1][-1]
            assert beyond not in await rooms(late)
            await late.ok("join", {"room": beyond})
            await late.say(beyond, "as before")
        listed = [i["id"] for i in stranger.get("/api/channels?limit=100").body["items"]]
        assert len(listed) == 3 + ACCOUNTS * OF_EACH
