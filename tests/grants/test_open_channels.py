"""The open channels that sockets join by themselves: a bounded number, with a fair share for each
who opens some, and the same on every node."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import msgspec
import peewee
import pytest

from models.channel import Channel
from services.grants.open_channels import joined_by_roles
from services.grants.rules import ADMINISTRATORS, BACKEND
from services.grants.shared import SharedGrants
from tests.grants.peers import by_database, rooms
from tests.sessions.test_control import nodes
from tests.support.databases import opened, opened_at
from tests.support.parts import Parts, Peer, node, open_socket, settings_of_tests
from tests.support.redis import RealRedis, redis_server, until

__all__ = ["redis_server"]

MOST = 4


@asynccontextmanager
async def crowded(database_url: str, most: int = MOST) -> AsyncIterator[Parts]:
    """A node where a socket joins four channels by itself that users have opened."""
    settings = msgspec.structs.replace(settings_of_tests(), max_joined_open_channels=most)
    async with node(database_url, settings=settings) as parts:
        yield parts


async def open_channels(parts: Parts, owner: str | None, count: int) -> list[str]:
    """Channels that are open to everybody, one after the other."""
    made = []
    for number in range(count):
        parts.clock.forward(1)
        made.append((await parts.channels.create(owner, f"C{number}", private=False)).id)
    return made


def channels_of(peer: Peer) -> list[str]:
    return [r.removeprefix("channel:") for r in rooms(peer) if r.startswith("channel:")]


async def joined(parts: Parts, user_id: str | None = None) -> list[str]:
    """The channels that a new socket joins by itself."""
    return channels_of(await open_socket(parts, await parts.signed_in(user_id)))


def in_any_order(*ids: Iterable[str]) -> list[str]:
    return sorted(one for some in ids for one in some)


# ---- which ones ------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_hog_with_many_accounts_displaces_nothing_of_administrators(
    database_url: str,
) -> None:
    async with crowded(database_url) as parts:
        admin, maker = await parts.user("Admin", "admin"), None
        before = await open_channels(parts, admin, 3)
        for _ in range(6):
            await open_channels(parts, await parts.user("Hog"), 3)
        after = [*await open_channels(parts, admin, 3), *await open_channels(parts, maker, 1)]
        found = await joined(parts)
        assert {*before, *after} <= set(found)
        assert len(found) == 7 + MOST
        assert by_database(parts) == 0


@pytest.mark.gen_test
async def test_each_owner_has_a_first_one_before_anybody_has_a_second(database_url: str) -> None:
    async with crowded(database_url) as parts:
        hog, ada, ben = [await parts.user(name) for name in ("Hog", "Ada", "Ben")]
        many = await open_channels(parts, hog, 6)
        assert await joined(parts) == in_any_order(many[:4]), "nobody else needs the places"
        hers, his = await open_channels(parts, ada, 2), await open_channels(parts, ben, 2)
        assert await joined(parts) == in_any_order(many[:2], hers[:1], his[:1])
        await parts.channels.update(ada, hers[0], private=True)
        assert await joined(parts) == in_any_order(many[:2], hers[1:], his[:1])
        await parts.channels.delete(hog, many[0])
        assert await joined(parts) == in_any_order(many[1:3], hers[1:], his[:1])


@pytest.mark.gen_test
async def test_a_channel_has_its_turn_again_in_the_same_place(database_url: str) -> None:
    async with crowded(database_url, 2) as parts:
        ada = await parts.user("Ada")
        mine = await open_channels(parts, ada, 3)
        await parts.channels.update(ada, mine[0], private=True)
        assert await joined(parts) == in_any_order(mine[1:])
        parts.clock.forward(60)
        await parts.channels.update(ada, mine[0], private=False)
        assert await joined(parts) == in_any_order(mine[:2])


@pytest.mark.gen_test
async def test_roles_have_their_own_places(database_url: str) -> None:
    async with crowded(database_url, 2) as parts:
        ada, admin = await parts.user("Ada"), await parts.user("Admin", "admin")
        made = [(await parts.channels.create(ada, f"C{n}")).id for n in range(4)]
        for channel_id in made[:2]:
            await parts.channels.update(ada, channel_id, roles={"admin": "read"})
        for channel_id in made[2:]:
            await parts.channels.update(ada, channel_id, roles={"user": "read"})
        shared = parts.services.shared_grants
        assert await joined(parts) == in_any_order(made[2:])
        assert in_any_order(shared.joined_by("admin")) == in_any_order(sorted(made)[:2])
        assert set(await joined(parts, admin)) >= set(shared.joined_by("admin"))


@pytest.mark.gen_test
async def test_none_of_users_may_be_joined_by_itself(database_url: str) -> None:
    async with crowded(database_url, 0) as parts:
        admin, ada = await parts.user("Admin", "admin"), await parts.user("Ada")
        by_admin = await open_channels(parts, admin, 1)
        peer = await open_socket(parts, await parts.signed_in())
        hers = await open_channels(parts, ada, 1)
        assert channels_of(peer) == await joined(parts) == by_admin
        assert await joined(parts, ada) == in_any_order(by_admin, hers), "she owns it"


@pytest.mark.gen_test
async def test_what_an_administrator_has_opened_stays_so_whatever_becomes_of_the_owner(
    database_url: str,
) -> None:
    async with crowded(database_url, 1) as parts:
        chief, admin = await parts.user("Chief", "admin"), await parts.user("Admin", "admin")
        ada, ben = await parts.user("Ada"), await parts.user("Ben")
        (first,) = await open_channels(parts, admin, 1)
        hers = await open_channels(parts, ada, 2)
        (his,) = await open_channels(parts, ben, 1)
        assert await joined(parts) == in_any_order([first], hers[:1])
        await parts.channels.update(chief, hers[1], private=False)  # it was open before
        await parts.channels.update(ben, his, private=True)
        await parts.channels.update(BACKEND, his, roles={"user": "read"})
        expected = in_any_order([first], hers, [his])
        assert await joined(parts) == expected
        await parts.channels.update(ada, hers[1], roles={"user": "read"})
        await parts.channels.update(ben, his, name="His")
        await parts.administration.update(admin, "user", None)
        await parts.administration.update(ada, "admin", None)
        for account in (admin, ada):
            await parts.administration.delete(account)
        assert await joined(parts) == expected
        await parts.channels.update(ben, his, private=True, roles={})
        await parts.channels.update(ben, his, private=False)
        assert await joined(parts) == in_any_order([first], hers), "he has opened it himself"


@pytest.mark.gen_test
@pytest.mark.parametrize("seed", range(3))
async def test_after_any_change_a_node_knows_what_a_new_one_reads(
    database_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    async with crowded(database_url) as parts:
        channels, administration = parts.channels, parts.administration
        people = [await parts.user(f"U{n}", "admin" if n < 2 else "user") for n in range(6)]
        made = [(await channels.create(chance.choice(people), "C")).id for _ in range(14)]
        for step in range(50):
            parts.clock.forward(chance.choice((-5, 0, 1)))
            channel_id = chance.choice(made)
            who = chance.choice((people[0], BACKEND)) if step % 3 == 0 else None
            owner = who or await owner_of(parts, channel_id) or people[0]
            act = chance.random()
            if act < 0.5:
                await channels.update(owner, channel_id, private=chance.random() < 0.4)
            elif act < 0.8:
                roles: Any = chance.choice(({}, {"user": "read"}, {"admin": "write"}))
                await channels.update(owner, channel_id, roles=roles)
            elif act < 0.9:
                await channels.delete(owner, channel_id)
                made[made.index(channel_id)] = (await channels.create(people[-1], "D", False)).id
            elif len(people) > 3:
                await administration.delete(people.pop())
            fresh = await parts.database.run(joined_by_roles, MOST)
            known = parts.services.shared_grants._joined
            assert {role: list(has.channels.items()) for role, has in known.items()} == {
                role: list(has.channels.items()) for role, has in fresh.items()
            }, step


async def owner_of(parts: Parts, channel_id: str) -> str | None:
    def read(db: peewee.Database) -> str | None:
        query: Any = Channel.select(Channel.owner).where(Channel.id == channel_id)
        return cast("str | None", query.tuples().get(db)[0])

    return await parts.database.run(read)


def agrees(known: SharedGrants, expected: list[str]) -> bool:
    return in_any_order(known.joined_by("user")) == expected


@pytest.mark.gen_test
async def test_nodes_that_started_at_other_times_agree(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (here, there):
        for parts in (here, there):
            parts.services.shared_grants._most = 2
        hog, ada = await here.user("Hog"), await here.user("Ada")
        many = await open_channels(here, hog, 3)
        hers = await open_channels(there, ada, 1)
        expected = in_any_order(many[:1], hers)
        for parts in (here, there):
            known = parts.services.shared_grants
            await until(partial(agrees, known, expected))
            assert await joined(parts) == expected


# ---- from the version before -----------------------------------------------------------------


@pytest.mark.gen_test
async def test_channels_that_are_open_already_count_in_their_owners_share(
    bare_database_url: str,
) -> None:
    def insert(db: peewee.Database) -> None:
        for who, role in (("admin", "admin"), ("user", "user")):
            db.execute_sql(
                "INSERT INTO users (id, email, name, role, created_at)"
                f" VALUES ('{who}', '{who}', 'n', '{role}', 1)"
            )
        for owner in ("'admin'", "'user'", "NULL"):
            for kind, since in (("public", "1"), ("role", "NULL"), ("private", "NULL")):
                id_ = f"{kind} of {owner}".replace("'", "")
                db.execute_sql(
                    "INSERT INTO channels (id, name, private, owner_id, created_at, public_since)"
                    f" VALUES ('{id_}', 'n', {kind != 'public'}, {owner}, 1, {since})"
                )
                if kind == "role":
                    db.execute_sql(
                        "INSERT INTO channel_roles (channel_id, role, access_right, since)"
                        f" VALUES ('{id_}', 'user', 'read', 1)"
                    )

    def read(db: peewee.Database) -> dict[str, str | None]:
        query: Any = Channel.select(Channel.id, Channel.opened_by)
        return dict(query.tuples().execute(db))

    async with opened_at(bare_database_url, "0025_users_by_age") as database:
        await database.run(insert)
    async with opened(bare_database_url) as database:
        found = await database.run(read)
    assert found == {
        **{f"{kind} of admin": ADMINISTRATORS for kind in ("public", "role")},
        **{f"{kind} of user": "user" for kind in ("public", "role")},
        **{f"{kind} of NULL": "" for kind in ("public", "role")},
        **{f"private of {owner}": None for owner in ("admin", "user", "NULL")},
    }
