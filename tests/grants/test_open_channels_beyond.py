"""Open channels beyond those that sockets join by themselves: joined by name, with the same rights,
and nobody else is concerned by their changes."""

from __future__ import annotations

import itertools

import pytest

from services.grants.rules import Grant, Right
from services.rooms.access import Access
from tests.grants.peers import ask
from tests.grants.test_open_channels import (
    MOST,
    channels_of,
    crowded,
    in_any_order,
    joined,
    open_channels,
)
from tests.rooms.test_access import MoodyChannels
from tests.support.databases import kinds, slow
from tests.support.parts import open_socket

database_kind = kinds("sqlite", slow("postgresql"))


@pytest.mark.gen_test
async def test_the_others_are_joined_by_name_with_the_same_rights(database_url: str) -> None:
    async with crowded(database_url) as parts:
        hog = await parts.user("Hog")
        made = await open_channels(parts, hog, MOST + 2)
        beyond = made[-1]
        room = f"channel:{beyond}"
        peer, other = [await open_socket(parts, await parts.signed_in()) for _ in range(2)]
        assert beyond not in channels_of(peer)
        assert beyond in {c.id for c in (await parts.channels.page(hog, "", 50))[0]}
        assert (await ask(peer, "join", room=room))["ok"] is True
        for event in ("message", "history", "presence"):
            assert (await ask(peer, event, room=room, data="x"))["ok"] is True
        reply = await ask(peer, "join-channels")
        assert reply["data"]["rooms"].count(room) == 1, "it stays"
        assert len(reply["data"]["rooms"]) == 1 + MOST + 1
        assert (await ask(other, "join-channels"))["data"]["rooms"] != reply["data"]["rooms"]
        assert beyond not in channels_of(other)
        assert (await ask(peer, "leave", room=room))["ok"] is True
        assert (await ask(peer, "join", room=room))["ok"] is True
        await parts.channels.update(hog, beyond, private=True)
        assert beyond not in channels_of(peer), "a right that ends ends at once"
        assert (await ask(peer, "join", room=room))["error"]["code"] == "forbidden"


@pytest.mark.gen_test
async def test_a_member_of_a_channel_beyond_has_what_it_gives_to_everybody_too(
    database_url: str,
) -> None:
    async with crowded(database_url, 1) as parts:
        hog, ada = await parts.user("Hog"), await parts.user("Ada")
        beyond = (await open_channels(parts, hog, 2))[-1]
        since = parts.clock()
        parts.clock.forward(3600)
        await parts.channels.put_member(hog, beyond, ada, Right.READ)
        for wait in (0, 3600):
            parts.clock.forward(wait)
            peer = await open_socket(parts, await parts.signed_in(ada))
            had = peer.client.membership.grant_in(f"channel:{beyond}")
            assert had == Grant(Right.WRITE, since)
            assert beyond in channels_of(peer), "a member joins it by itself"


@pytest.mark.gen_test
async def test_todays_sockets_join_what_is_opened_if_it_has_a_place(database_url: str) -> None:
    async with crowded(database_url, 2) as parts:
        hog, ada, ben = [await parts.user(name) for name in ("Hog", "Ada", "Ben")]
        admin = await parts.user("Admin", "admin")
        peer = await open_socket(parts, await parts.signed_in())
        many = await open_channels(parts, hog, 3)
        assert channels_of(peer) == in_any_order(many[:2])
        hers = await open_channels(parts, ada, 1)
        assert channels_of(peer) == in_any_order(many[:2]), "it is in as many as it may be"
        assert await joined(parts) == in_any_order(many[:1], hers)
        by_admin = await open_channels(parts, admin, 1)
        assert channels_of(peer) == in_any_order(many[:2], by_admin)
        await parts.channels.delete(hog, many[0])
        his = await open_channels(parts, ben, 1)
        assert channels_of(peer) == in_any_order(many[1:2], by_admin), "two others come before"
        assert await joined(parts) == in_any_order(many[1:2], hers, by_admin)
        reply = await ask(peer, "join-channels")
        expected = in_any_order(many[1:2], hers, by_admin)
        assert channels_of(peer) == expected
        assert f"channel:{his[0]}" not in reply["data"]["rooms"]


@pytest.mark.gen_test
async def test_opening_and_closing_in_turn_gathers_no_rooms_in_a_socket(database_url: str) -> None:
    async with crowded(database_url, 2) as parts:
        hog = await parts.user("Hog")
        made = await open_channels(parts, hog, 6)
        peer = await open_socket(parts, await parts.signed_in())
        for first, later in itertools.pairwise(made):
            await parts.channels.update(hog, first, private=True)
            for channel_id in (later, first):
                await parts.channels.update(hog, channel_id, private=True)
                await parts.channels.update(hog, channel_id, private=False)
            assert len(channels_of(peer)) <= 2


@pytest.mark.gen_test
async def test_a_change_beyond_looks_up_nobody_who_is_not_in_the_channel(
    database_url: str,
) -> None:
    async with crowded(database_url, 1) as parts:
        hog, ada = await parts.user("Hog"), await parts.signed_in()
        made = await open_channels(parts, hog, 2)
        channels = MoodyChannels(parts)
        access = Access(parts.hub, channels, parts.services.shared_grants)
        parts.revocations.on_access(access.apply)
        peer = await open_socket(parts, ada)
        for private in (True, False):
            await parts.channels.update(hog, made[1], private=private)
        beyond = (await open_channels(parts, hog, 1))[0]
        assert channels.asked == 0
        assert (await ask(peer, "join", room=f"channel:{beyond}"))["ok"] is True
        await parts.channels.update(hog, beyond, private=True)
        assert channels.asked == 1
        assert channels_of(peer) == made[:1]
