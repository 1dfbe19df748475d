"""A changed right affects every socket concerned, on every node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from services.errors import DatabaseUnavailable
from services.grants.rules import Grant, Right
from services.rooms.access import MAX_WAITING, Access
from services.rooms.channels import Channels
from services.rooms.room_names import channel_room
from services.sessions.control import CONTROL_ROOM, Revocation
from tests.sessions.test_control import nodes
from tests.support.parts import Parts, Peer, node, open_socket
from tests.support.redis import RealRedis, redis_server, until, within

__all__ = ["redis_server"]


class MoodyChannels(Channels):
    """The real ones, with a database that may be away or slow."""

    is_away = False
    asked = 0

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.database, parts.revocations, parts.clock)
        self.delays: list[asyncio.Event] = []

    async def grants_in(self, channel_id: str, user_ids: Iterable[str]) -> dict[str, Grant]:
        self.asked += 1
        found = await super().grants_in(channel_id, user_ids)
        if self.is_away:
            raise DatabaseUnavailable("away")
        if self.delays:
            await self.delays.pop(0).wait()
        return found


@dataclass
class Installation:
    """A channel whose owner acts on one node, and a user with a socket on another."""

    here: Parts
    there: Parts
    owner: str
    user: str
    channel: str
    peer: Peer

    @property
    def room(self) -> str:
        return channel_room(self.channel)

    @property
    def rooms(self) -> list[str]:
        return sorted(self.peer.client.membership.names())

    async def reported(self, peer: Peer | None = None) -> list[str]:
        """The rooms of the next `access-changed`, which has to come within a second."""
        while True:
            event: Any = await within((peer or self.peer).event(), 1.0)
            if event["event"] == "access-changed":
                return sorted(event["data"]["rooms"])

    async def put(self, right: Right = Right.WRITE) -> None:
        await self.here.channels.put_member(self.owner, self.channel, self.user, right)

    async def remove(self) -> None:
        await self.here.channels.remove_member(self.owner, self.channel, self.user)


@asynccontextmanager
async def installation(database_url: str, redis: RealRedis) -> AsyncIterator[Installation]:
    async with nodes(database_url, redis, "a", "b") as (here, there):
        owner, user = await here.user("Owner"), await here.user("Ada")
        channel = (await here.channels.create(owner, "Herons")).id
        here.clock.forward(1)
        peer = await open_socket(there, await there.signed_in(user))
        yield Installation(here, there, owner, user, channel, peer)


@pytest.mark.gen_test
async def test_added_members_join_and_removed_ones_leave_on_another_node(
    database_url: str, redis_server: RealRedis
) -> None:
    async with installation(database_url, redis_server) as h:
        own = f"user:{h.user}"
        assert h.rooms == [own]
        await h.put()
        assert await h.reported() == sorted([own, h.room])
        assert h.rooms == sorted([own, h.room])
        await h.put(Right.READ)
        assert await h.reported() == sorted([own, h.room]), "another right: the same rooms"
        await h.remove()
        assert await h.reported() == [own]
        assert (h.rooms, h.peer.client.membership.grant_in(h.room)) == ([own], None)


@pytest.mark.gen_test
async def test_a_change_for_everybody_notifies_only_affected_members(
    database_url: str, redis_server: RealRedis
) -> None:
    async with installation(database_url, redis_server) as h:
        await h.put()
        await h.reported()
        guest = await open_socket(h.there, await h.there.signed_in())
        await h.here.channels.update(h.owner, h.channel, private=False)
        assert h.room in await h.reported(guest)
        await h.here.channels.update(h.owner, h.channel, private=True)
        assert h.room not in await h.reported(guest)
        assert h.room in h.rooms, "a member stays one"
        await h.here.channels.delete(h.owner, h.channel)
        assert h.room not in await h.reported()
        before = len(guest.client.membership.names())
        assert before == 1


@pytest.mark.gen_test
async def test_a_role_that_a_channel_lets_in_counts_at_once(
    database_url: str, redis_server: RealRedis
) -> None:
    async with installation(database_url, redis_server) as h:
        await h.here.channels.update(h.owner, h.channel, roles={"user": "read"})
        assert h.room in await h.reported()
        grant = h.peer.client.membership.grant_in(h.room)
        assert grant is not None
        assert grant.right == Right.READ
        await h.here.channels.update(h.owner, h.channel, roles={})
        assert h.room not in await h.reported()


@pytest.mark.gen_test
async def test_here_it_has_taken_effect_when_the_call_is_answered(database_url: str) -> None:
    async with node(database_url) as parts:
        owner, user = await parts.user(), await parts.user()
        channel = (await parts.channels.create(owner, "Herons")).id
        parts.clock.forward(1)
        peer = await open_socket(parts, await parts.signed_in(user))
        await parts.channels.put_member(owner, channel, user)
        assert channel_room(channel) in peer.client.membership.names()
        await parts.channels.remove_member(owner, channel, user)
        assert channel_room(channel) not in peer.client.membership.names()


@pytest.mark.gen_test
async def test_a_change_whose_message_was_lost_is_found_by_the_sweep(
    database_url: str, redis_server: RealRedis
) -> None:
    async with installation(database_url, redis_server) as h:
        await h.put()
        await h.reported()
        h.there.bus.unsubscribe(CONTROL_ROOM)
        await h.remove()
        assert h.room in h.rooms, "no message was sent"
        await h.there.revocations.sweep()
        assert h.room not in await h.reported()


@pytest.mark.gen_test
async def test_without_users_nothing_is_looked_up(database_url: str) -> None:
    async with node(database_url) as parts:
        channels = MoodyChannels(parts)
        access = Access(parts.hub, channels, parts.services.shared_grants)
        for who in ("*", "somebody"):
            await access.apply(Revocation("access", "c1", who, "member_changed", 1.0, 1))
        assert channels.asked == 0


@pytest.mark.gen_test
async def test_what_cannot_be_looked_up_now_is_tried_again_until_it_can(
    database_url: str, redis_server: RealRedis
) -> None:
    async with installation(database_url, redis_server) as h:
        await h.put()
        await h.reported()
        channels = MoodyChannels(h.there)
        access = Access(h.there.hub, channels, h.there.services.shared_grants)
        h.there.revocations.on_access(access.apply)
        channels.is_away = True
        await h.remove()
        await until(lambda: access._waiting)  # not only asked: found out that it can't be known
        for _ in range(3):
            await access.try_again()
        assert channels.asked == 4
        assert h.room in h.rooms
        channels.is_away = False
        await access.try_again()
        assert h.room not in h.rooms
        asked = channels.asked
        await access.try_again()
        assert channels.asked == asked, "it is done"


@pytest.mark.gen_test
async def test_changes_that_wait_for_the_database_are_bounded(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await open_socket(parts, login)
        channels = MoodyChannels(parts)

        async def away(channel_id: str, user_ids: Iterable[str]) -> dict[str, Grant]:
            raise DatabaseUnavailable("away")

        channels.grants_in = away  # type: ignore[method-assign]
        access = Access(parts.hub, channels, parts.services.shared_grants)
        for number in range(MAX_WAITING + 5):
            change = Revocation("access", f"c{number}", login.user.id, "x", 1.0, number)
            await access.apply(change)
        assert len(access._waiting) == MAX_WAITING


@pytest.mark.gen_test
async def test_what_was_read_before_a_later_change_does_not_win_over_it(
    database_url: str, redis_server: RealRedis
) -> None:
    async with installation(database_url, redis_server) as h:
        channels, slow = MoodyChannels(h.there), asyncio.Event()
        access = Access(h.there.hub, channels, h.there.services.shared_grants)
        h.there.revocations.on_access(access.apply)
        channels.delays = [slow]
        await h.put()
        await until(lambda: channels.asked == 1)  # read: a member, and on its way
        await h.remove()
        await until(lambda: len(h.there.revocations._applying) == 2)
        slow.set()
        await until(lambda: channels.asked == 2 and not h.there.revocations._applying)
        assert h.room not in h.rooms
        assert h.peer.client.membership.grant_in(h.room) is None


@pytest.mark.gen_test
async def test_a_socket_that_closes_during_the_look_up_is_left_alone(
    database_url: str, redis_server: RealRedis
) -> None:
    async with installation(database_url, redis_server) as h:
        channels, slow = MoodyChannels(h.there), asyncio.Event()
        access = Access(h.there.hub, channels, h.there.services.shared_grants)
        h.there.revocations.on_access(access.apply)
        channels.delays = [slow]
        await h.put()
        await until(lambda: channels.asked == 1)
        h.peer.close()
        await until(lambda: len(h.there.hub) == 0)
        slow.set()
        await until(lambda: not h.there.revocations._applying)
        assert h.there.rooms.names() == []
