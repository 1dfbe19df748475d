"""Shares of channels, of memberships and of open channels: exact, also when many ask at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.errors import TooManyChannels
from services.grants.rules import Right
from services.rooms.shares import Shares
from tests.support.parts import node
from tests.support.redis import run


@pytest.mark.gen_test
async def test_channels_and_memberships_are_shares_and_administrators_have_none(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        channels = parts.channels
        channels._shares = Shares(channels=3, given=5, given_to_one=2)
        giver, admin = await parts.user("Giver"), await parts.user("Admin", role="admin")
        people = [await parts.user(f"P{n}") for n in range(5)]
        mine = [(await channels.create(giver, f"C{n}")).id for n in range(3)]
        with pytest.raises(TooManyChannels):
            await channels.create(giver, "One more")
        for channel_id in mine[:2]:
            await channels.put_member(giver, channel_id, people[0])
        with pytest.raises(TooManyChannels):
            await channels.put_member(giver, mine[2], people[0])
        await channels.put_member(giver, mine[0], people[0], Right.READ)  # no new one
        for person in people[1:4]:
            await channels.put_member(giver, mine[0], person)
        with pytest.raises(TooManyChannels):
            await channels.put_member(giver, mine[0], people[4])
        await channels.remove_member(giver, mine[1], people[0])
        await channels.put_member(giver, mine[0], people[4])
        for number in range(5):
            by_admin = await channels.create(admin, f"A{number}")
            await channels.put_member(admin, by_admin.id, people[0])


@pytest.mark.gen_test
async def test_open_channels_are_a_share_because_every_socket_joins_them(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        channels = parts.channels
        channels._shares = Shares(channels=100, given=100, given_to_one=2, opened=3)
        owner, admin = await parts.user("Owner"), await parts.user("Admin", role="admin")
        public = (await channels.create(owner, "Public", private=False)).id
        mine = [(await channels.create(owner, f"C{n}")).id for n in range(3)]
        await channels.update(owner, mine[0], roles={"user": "read"})
        await channels.update(owner, mine[1], private=False)
        with pytest.raises(TooManyChannels):
            await channels.create(owner, "One more", private=False)
        for change in ({"private": False}, {"roles": {"user": "read"}}):
            with pytest.raises(TooManyChannels):
                await channels.update(owner, mine[2], **change)
            with pytest.raises(TooManyChannels):  # whose channel it is counts, not who opens it
                await channels.update(admin, mine[2], **change)
        await channels.update(owner, mine[0], roles={"user": "write"}, private=False)  # is open
        await channels.update(owner, mine[0], roles={}, private=True)
        await channels.update(owner, mine[2], private=False)
        await channels.delete(owner, public)
        await channels.create(owner, "In its place", private=False)
        for number in range(5):
            await channels.create(admin, f"A{number}", private=False)


def test_open_channels_are_counted_exactly_when_many_open_at_once(database_url: str) -> None:
    async def race() -> int:
        async with node(database_url) as parts:
            channels = parts.channels
            channels._shares = Shares(channels=100, given=100, given_to_one=2, opened=4)
            one = await parts.user("One")
            made = [(await channels.create(one, f"C{n}")).id for n in range(6)]
            calls: list[Any] = [channels.update(one, c, private=False) for c in made]
            calls += [channels.create(one, f"P{n}", private=False) for n in range(6)]
            opened = await outcomes(*calls)
            return sum(not isinstance(each, BaseException) for each in opened)

    assert run(race()) == 4


def test_shares_hold_exactly_when_many_ask_at_once(database_url: str) -> None:
    async def race() -> tuple[int, int]:
        async with node(database_url) as parts:
            channels = parts.channels
            channels._shares = Shares(channels=4, given=100, given_to_one=2)
            one, other = await parts.user("One"), await parts.user("Other")
            made = await outcomes(*(channels.create(one, f"C{n}") for n in range(12)))
            theirs = [(await channels.create(other, f"O{n}")).id for n in range(4)]
            mine = [each.id for each in made if not isinstance(each, BaseException)]
            # Each lets the other in, at once: their rows lock no one out.
            calls = [channels.put_member(one, c, other) for c in mine]
            calls += [channels.put_member(other, c, one) for c in theirs]
            given = await outcomes(*calls)
            return len(mine), sum(not isinstance(each, BaseException) for each in given)

    assert run(race()) == (4, 4)


async def outcomes(*calls: Any) -> list[Any]:
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, TooManyChannels):
            raise result
    return list(results)
