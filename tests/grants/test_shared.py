"""Channels that are open to many: held by each node, so that a join asks no database about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.errors import Unavailable
from services.grants import many, queries, rules
from services.grants.rules import Grant, Right
from services.rooms import membership
from services.sessions.admission import SETTLE_SECONDS
from tests.grants.peers import ask, by_database, rooms
from tests.sessions.test_control import nodes
from tests.support.parts import Parts, node, open_socket
from tests.support.redis import RealRedis, redis_server, until

__all__ = ["redis_server"]

# ---- what a join costs -------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_public_and_role_channels_cause_no_query_at_a_join(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        other_user = await parts.user("Other")
        people = [await parts.signed_in() for _ in range(10)]
        for number in range(5):
            await parts.channels.create(other_user, f"Public {number}", private=False)
            by_role = await parts.channels.create(other_user, f"Role {number}")
            await parts.channels.update(other_user, by_role.id, roles={"user": "read"})
        last = await parts.channels.create(other_user, "Public, for a moment", private=False)
        await parts.channels.delete(other_user, last.id)
        for wait in (0, SETTLE_SECONDS / 2, SETTLE_SECONDS * 2):
            parts.clock.forward(wait)
            for person in people:
                peer = await open_socket(parts, person)
                assert len(rooms(peer)) == 1 + 5 + 5
        assert by_database(parts) == 0


@pytest.mark.gen_test
async def test_a_join_after_a_change_has_the_right_that_is_true(database_url: str) -> None:
    async with node(database_url) as parts:
        owner, ada = await parts.user("Owner"), await parts.signed_in()
        channel = await parts.channels.create(owner, "Herons")
        room = f"channel:{channel.id}"

        async def grant() -> Grant | None:
            peer = await open_socket(parts, ada)
            return peer.client.membership.grant_in(room)

        assert await grant() is None
        await parts.channels.update(owner, channel.id, private=False)
        assert (await grant() or Grant(Right.READ, 0)).right == Right.WRITE
        await parts.channels.update(owner, channel.id, private=True, roles={"user": "read"})
        assert (await grant() or Grant(Right.WRITE, 0)).right == Right.READ
        await parts.channels.update(owner, channel.id, roles={})
        assert await grant() is None
        await parts.channels.put_member(owner, channel.id, ada.user.id, Right.MANAGE)
        assert (await grant() or Grant(Right.READ, 0)).right == Right.MANAGE
        await parts.channels.delete(owner, channel.id)
        assert await grant() is None


@pytest.mark.gen_test
async def test_the_owner_of_a_public_channel_manages_it_from_the_first_moment(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        owner = await parts.signed_in()
        peer = await open_socket(parts, owner)
        channel = await parts.channels.create(owner.user.id, "Herons", private=False)
        for socket in (peer, await open_socket(parts, owner)):
            had = socket.client.membership.grant_in(f"channel:{channel.id}")
            assert had is not None
            assert had.right == Right.MANAGE


@pytest.mark.gen_test
async def test_a_node_that_starts_knows_what_is_open_already(database_url: str) -> None:
    async with node(database_url) as first:
        owner, ada = await first.user("Owner"), await first.user("Ada")
        channel = await first.channels.create(owner, "Herons", private=False)
    async with node(database_url) as second:
        peer = await open_socket(second, await second.signed_in(ada))
        assert rooms(peer) == sorted([f"user:{ada}", f"channel:{channel.id}"])


@pytest.mark.gen_test
async def test_a_change_reaches_the_joins_of_every_node(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (here, there):
        owner, ada = await here.user("Owner"), await there.signed_in()
        channel = await here.channels.create(owner, "Herons", private=False)
        room = f"channel:{channel.id}"
        await until(lambda: channel.id in there.services.shared_grants._open)
        peer = await open_socket(there, ada)
        assert room in rooms(peer)
        await here.channels.update(owner, channel.id, private=True)
        await until(lambda: room not in rooms(peer))
        assert room not in rooms(await open_socket(there, ada))
        assert by_database(there) == 0


@pytest.mark.gen_test
async def test_a_failed_look_up_admits_no_user_until_it_succeeds(database_url: str) -> None:
    async with node(database_url) as parts:
        owner, ada = await parts.user("Owner"), await parts.signed_in()
        channel = await parts.channels.create(owner, "Herons", private=False)
        shared, run_ = parts.services.shared_grants, parts.database.run

        async def away(*_: object) -> None:
            raise Unavailable("away")

        parts.database.run = away  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable):
            await shared.refresh(channel.id)
        assert f"channel:{channel.id}" not in rooms(await open_socket(parts, ada))
        parts.database.run = run_  # type: ignore[method-assign]
        assert await shared.refresh(channel.id)
        assert f"channel:{channel.id}" in rooms(await open_socket(parts, ada))


# ---- more than fit -----------------------------------------------------------------------------


@asynccontextmanager
async def crowded(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Parts]:
    """A node where a socket is joined to three channels by itself."""
    for module in (many, queries, rules, membership):
        monkeypatch.setattr(module, "MAX_ROOMS", 3)
    async with node(database_url) as parts:
        yield parts


@pytest.mark.gen_test
async def test_what_others_fill_a_list_with_takes_no_right_away(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with crowded(database_url, monkeypatch) as parts:
        ada, other_user = await parts.signed_in(), await parts.user("Other")
        friend = await parts.user("Friend")
        old = await parts.channels.create(ada.user.id, "Her own")
        parts.clock.forward(1)
        shared = await parts.channels.create(friend, "A friend's")
        await parts.channels.put_member(friend, shared.id, ada.user.id)
        before = await open_socket(parts, ada)
        others = []
        for number in range(6):
            parts.clock.forward(1)
            channel = await parts.channels.create(other_user, f"Spam {number}")
            await parts.channels.put_member(other_user, channel.id, ada.user.id)
            await parts.channels.create(other_user, f"Public {number}", private=False)
            others.append(channel.id)
        after = await open_socket(parts, ada)
        for peer in (before, after):
            mine = {f"channel:{old.id}", f"channel:{shared.id}"}
            assert mine <= set(rooms(peer)), "her own and the older one are there by themselves"
            assert len(rooms(peer)) <= 1 + 3 + 1
            for channel_id in others:  # and every other one by name
                room = f"channel:{channel_id}"
                assert (await ask(peer, "join", room=room))["ok"] is True
                said = await ask(peer, "message", room=room, data="x")
                assert said["ok"] is True
            assert (await ask(peer, "join-channels"))["ok"] is True
            assert {f"channel:{c}" for c in others} <= set(rooms(peer)), "they stay"
        await parts.channels.remove_member(other_user, others[-1], ada.user.id)
        refused = await ask(after, "join", room=f"channel:{others[-1]}")
        assert refused["error"]["code"] == "forbidden"
        assert f"channel:{others[-1]}" not in rooms(after)


@pytest.mark.gen_test
async def test_no_name_opens_what_may_not_be_read(database_url: str) -> None:
    async with node(database_url) as parts:
        ada, other_user = await parts.signed_in(), await parts.user("Other")
        channel = await parts.channels.create(other_user, "Private")
        peer = await open_socket(parts, ada)
        for name in (channel.id, "x" * 22, "x", "", "a b", f"{channel.id}x"):
            reply = await ask(peer, "join", room=f"channel:{name}")
            assert reply["error"]["code"] == "forbidden", name
        other = await ask(peer, "join", room=f"user:{other_user}")
        assert other["error"]["code"] == "forbidden"
