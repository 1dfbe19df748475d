"""Rights in channels and since when, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from services.grants import queries
from services.grants.queries import grants_in, personal_grants
from services.grants.rules import Grant
from tests.rooms.benches import MANAGE, READ, WRITE, bench
from tests.support.parts import OPENED_AT


@pytest.mark.gen_test
async def test_a_private_channel_is_its_owners_and_the_administrators(database_url: str) -> None:
    async with bench(database_url) as b:
        assert await b.grant(b.owner) == Grant(MANAGE, OPENED_AT)
        assert await b.grant(await b.user()) is None
        assert await b.grant("nobody") is None
        admin = await b.user("admin")
        assert await b.grant(admin) == Grant(MANAGE, b.now)
        assert await b.channels.grants_in("no-channel", [b.owner, admin]) == {}


@pytest.mark.gen_test
async def test_an_administrator_reads_from_when_the_role_came(database_url: str) -> None:
    async with bench(database_url) as b:
        user = await b.user()
        promoted = b.later()
        await b.parts.administration.update(user, "admin", None)
        assert await b.grant(user) == Grant(MANAGE, promoted)
        b.later()
        newer = await b.channels.create(b.owner, "Newer")
        assert (await b.channels.grants_of(user))[newer.id] == Grant(MANAGE, b.now)
        await b.user("admin")
        # What is not the role does not move it.
        b.later()
        await b.parts.administration.update(user, "admin", False)
        assert await b.grant(user) == Grant(MANAGE, promoted)
        await b.parts.administration.update(user, "user", None)
        assert await b.grant(user) is None
        again = b.later()
        await b.parts.administration.update(user, "admin", None)
        assert await b.grant(user) == Grant(MANAGE, again)


@pytest.mark.gen_test
async def test_a_member_reads_history_from_when_it_was_added(database_url: str) -> None:
    async with bench(database_url) as b:
        entered = b.later()
        user = await b.member(READ)
        b.later()
        assert await b.grant(user) == Grant(READ, entered)
        for right in (WRITE, MANAGE, READ):
            b.later()
            await b.channels.put_member(b.owner, b.id, user, right)
            assert await b.grant(user) == Grant(right, entered)


@pytest.mark.gen_test
async def test_a_member_that_comes_back_starts_anew(database_url: str) -> None:
    async with bench(database_url) as b:
        user = await b.member()
        await b.channels.remove_member(b.owner, b.id, user)
        assert await b.grant(user) is None
        back = b.later()
        await b.channels.put_member(b.owner, b.id, user, WRITE)
        assert await b.grant(user) == Grant(WRITE, back)


@pytest.mark.gen_test
async def test_a_role_reads_from_when_channel_and_user_had_it(database_url: str) -> None:
    async with bench(database_url) as b:
        old, admin = await b.user(), await b.user("admin")
        await b.user("admin")
        let_in = b.later()
        await b.channels.update(b.owner, b.id, roles={"user": "read"})
        assert await b.grant(old) == Grant(READ, let_in)
        new_at = b.later()
        new = await b.user()
        assert await b.grant(new) == Grant(READ, new_at)
        demoted = b.later()
        await b.parts.administration.update(admin, "user", None)
        assert await b.grant(admin) == Grant(READ, demoted)
        b.later()
        await b.channels.update(b.owner, b.id, roles={"user": "write"})
        assert await b.grant(old) == Grant(WRITE, let_in)
        await b.channels.update(b.owner, b.id, roles={})
        assert await b.grant(old) is None
        again = b.later()
        await b.channels.update(b.owner, b.id, roles={"user": "read"})
        assert await b.grant(old) == Grant(READ, again)


@pytest.mark.gen_test
async def test_a_public_channel_is_everybodys_from_when_it_was_opened(database_url: str) -> None:
    async with bench(database_url) as b:
        old, opened_at = await b.user(), b.later()
        await b.channels.update(b.owner, b.id, private=False)
        assert await b.grant(old) == Grant(WRITE, opened_at)
        new_at = b.later()
        assert await b.grant(await b.user()) == Grant(WRITE, new_at)
        # Said again, it does not begin again.
        await b.channels.update(b.owner, b.id, private=False)
        assert await b.grant(old) == Grant(WRITE, opened_at)
        await b.channels.update(b.owner, b.id, private=True)
        assert await b.grant(old) is None
        again = b.later()
        await b.channels.update(b.owner, b.id, private=False)
        assert await b.grant(old) == Grant(WRITE, again)


@pytest.mark.gen_test
async def test_of_several_rights_the_highest_counts_and_the_earliest_that_holds(
    database_url: str,
) -> None:
    async with bench(database_url) as b:
        public_at = b.now
        await b.channels.update(b.owner, b.id, private=False)
        b.later()
        user = await b.user()
        made_at = b.now
        member_at = b.later()
        await b.channels.put_member(b.owner, b.id, user, MANAGE)
        assert public_at < made_at < member_at
        assert await b.grant(user) == Grant(MANAGE, made_at)
        # A member's lower right takes nothing from what everybody may.
        await b.channels.put_member(b.owner, b.id, user, READ)
        assert await b.grant(user) == Grant(WRITE, made_at)
        await b.channels.update(b.owner, b.id, private=True)
        assert await b.grant(user) == Grant(READ, member_at)


@pytest.mark.gen_test
async def test_rights_of_many_users_are_asked_for_a_bounded_number_at_a_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "USERS_AT_ONCE", 2)
    monkeypatch.setattr("services.rooms.channels.USERS_AT_ONCE", 3)
    async with bench(database_url) as b:
        members = [await b.member() for _ in range(5)]
        other_users = [await b.user() for _ in range(4)]
        asked = [x for pair in zip(members, [*other_users, "none"], strict=True) for x in pair]
        expected = dict.fromkeys(members, Grant(WRITE, b.now))
        assert await b.channels.grants_in(b.id, [*asked, *asked]) == expected
        assert await b.parts.database.run(grants_in, b.id, asked) == expected
        assert await b.channels.grants_in(b.id, []) == {}


@pytest.mark.gen_test
async def test_no_number_of_public_channels_pushes_out_their_own(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_ROOMS", 4)
    async with bench(database_url) as b:
        user = await b.member()
        mine = await b.channels.create(user, "Mine")
        public = [
            (await b.channels.create(b.owner, f"P{number}", private=False)).id
            for number in range(6)
        ]
        granted = await b.channels.grants_of(user, public)
        assert set(granted) == {mine.id, b.id, *public[:2]}


@pytest.mark.gen_test
async def test_administrators_join_few_of_the_channels_that_others_make(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "NEWEST_FOR_ADMINISTRATORS", 2)
    async with bench(database_url) as b:
        admin = await b.user("admin")
        mine = await b.channels.create(admin, "Mine")
        others = []
        for number in range(4):
            b.later()
            others.append((await b.channels.create(b.owner, f"C{number}")).id)
        expected = {mine.id, *others[-2:]}
        assert set(await b.channels.grants_of(admin)) == expected
        assert set((await b.parts.database.run(personal_grants, admin))[1]) == expected
        assert await b.grant(admin), "the right itself does not depend on that"
