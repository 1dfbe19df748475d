"""The grants of many users, read together, and of one user with statements that are built once:
what `personal_grants` gives for each."""

from __future__ import annotations

import asyncio
import random

import pytest

from models.channel import Channel, ChannelMember
from services.grants import many, personal
from services.grants import queries as queries_of_one
from services.grants.many import grants_of_pairs, personal_grants_of_many
from services.grants.personal import PersonalGrants
from services.grants.queries import grants_in, personal_grants, reader_of
from services.grants.rules import Grant, Reader, Right
from services.storage.database import Database
from tests.sessions.joins import Queries, queries
from tests.support.parts import Parts, node

__all__ = ["queries"]


async def alone(database: Database, readers: list[Reader]) -> dict[str, dict[str, Grant]]:
    return {each.id: (await database.run(personal_grants, each.id))[1] for each in readers}


async def one_by_one(database: Database, readers: list[Reader]) -> dict[str, dict[str, Grant]]:
    """As refreshes read them."""
    statements = PersonalGrants()
    return {each.id: await database.run(statements.of, each) for each in readers}


async def crowd(parts: Parts, seed: int) -> list[Reader]:
    """Users of both roles who own channels and are members of each other's, by chance."""
    chance = random.Random(seed)
    people = [await parts.user("Admin", "admin")]
    people += [await parts.user(f"User {number}") for number in range(5)]
    for number in range(12):
        owner = chance.choice(people)
        channel = await parts.channels.create(owner, f"C{number}", private=chance.random() < 0.8)
        for other in chance.sample(people, 3):
            if other != owner:
                right = chance.choice(list(Right))
                await parts.channels.put_member(owner, channel.id, other, right)
        if chance.random() < 0.3:
            await parts.channels.update(owner, channel.id, roles={"user": "read"})
    found = [await parts.database.run(reader_of, each) for each in people]
    return [each for each in found if each is not None]


@pytest.mark.gen_test
@pytest.mark.parametrize("seed", range(3))
async def test_each_of_many_gets_what_they_would_get_alone(database_url: str, seed: int) -> None:
    async with node(database_url) as parts:
        readers = await crowd(parts, seed)
        together = await parts.database.read(personal_grants_of_many, readers)
        assert together == await alone(parts.database, readers)
        assert together == await one_by_one(parts.database, readers)
        assert sum(map(len, together.values())) > len(readers)


@pytest.mark.gen_test
async def test_with_more_rows_than_one_query_takes_each_still_gets_all(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MAX_ROWS", 2)
    async with node(database_url) as parts:
        readers = await crowd(parts, 0)
        together = await parts.database.read(personal_grants_of_many, readers)
        assert together == await alone(parts.database, readers)


@pytest.mark.gen_test
async def test_one_user_in_very_many_channels_does_not_make_the_others_be_read_one_by_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch, queries: Queries
) -> None:
    monkeypatch.setattr(many, "MAX_ROWS", 20)
    monkeypatch.setattr(many, "MAX_ROOMS", 10)
    monkeypatch.setattr(queries_of_one, "MAX_ROOMS", 10)
    async with node(database_url) as parts:
        people = [await parts.user(f"User {number}") for number in range(13)]
        owner, heavy, *others = people
        for number in range(30):
            channel = await parts.channels.create(owner, f"C{number}")
            await parts.channels.put_member(owner, channel.id, heavy)
            if number < 2:
                for other in others[:5]:
                    await parts.channels.put_member(owner, channel.id, other)
        found = [await parts.database.run(reader_of, each) for each in [heavy, *others]]
        readers = [each for each in found if each is not None]
        queries.begin()
        together = await parts.database.read(personal_grants_of_many, readers)
        # The first try, the counts, the others together, and the one alone; where a read begins.
        assert 0 < queries.count < 14
        assert together == await alone(parts.database, readers)
        assert len(together[heavy]) == 10


@pytest.mark.gen_test
async def test_more_channels_than_a_socket_joins_are_cut_for_each_alike(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MAX_ROOMS", 2)
    monkeypatch.setattr(queries_of_one, "MAX_ROOMS", 2)
    monkeypatch.setattr(personal, "MAX_ROOMS", 2)
    async with node(database_url) as parts:
        readers = await crowd(parts, 1)
        together = await parts.database.read(personal_grants_of_many, readers)
        assert together == await alone(parts.database, readers)
        assert together == await one_by_one(parts.database, readers)
        assert max(map(len, together.values())) == 2


@pytest.mark.gen_test
async def test_rights_looked_up_together_are_those_looked_up_alone(database_url: str) -> None:
    async with node(database_url) as parts:
        readers = await crowd(parts, 2)
        public = await parts.channels.create(readers[1].id, "Public", private=False)
        rows = await parts.database.run(lambda db: [row.id for row in Channel.select().execute(db)])
        people = [*(each.id for each in readers), "nobody"]
        pairs = [(user, channel) for channel in [*rows, "nothing"] for user in people]
        alone_in = {each: await parts.database.run(grants_in, each, people) for each in rows}
        wanted = [alone_in.get(channel, {}).get(user) for user, channel in pairs]
        assert await parts.database.read(grants_of_pairs, pairs) == wanted
        asked = [parts.channels.grant_of(*pair) for pair in pairs]
        assert await asyncio.gather(*asked) == wanted
        assert wanted[pairs.index((readers[0].id, public.id))] is not None
        assert None in wanted


@pytest.mark.gen_test
async def test_of_users_who_are_all_in_the_same_channels_only_what_is_asked_is_read(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        owner, *members = [await parts.user(f"User {number}") for number in range(5)]
        channels = [(await parts.channels.create(owner, f"C{number}")).id for number in range(4)]
        for channel in channels:
            for member in members:
                await parts.channels.put_member(owner, channel, member)
        asked = [*zip(members, channels, strict=True), (members[0], channels[0])]
        condition = many._is_one_of(asked)
        query = ChannelMember.select().where(condition)
        assert await parts.database.read(query.count) == len(members)
        granted = await parts.database.read(grants_of_pairs, asked)
        assert [had is not None and had.right for had in granted] == [Right.WRITE] * len(asked)
