"""Changes of channels and members on SQLite and on PostgreSQL, announced, and at the same time."""

from __future__ import annotations

from typing import Any, cast

import peewee
import pytest

from models.channel import Channel, ChannelMember, ChannelRole
from services.errors import BadRequest, Forbidden, NotFound, OwnerStays, Unauthenticated, UsherError
from services.grants.rules import Grant
from tests.rooms.benches import MANAGE, READ, WRITE, bench, outcomes

# ---- changing channels ---------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_name_is_kept_without_the_space_around_it(database_url: str) -> None:
    async with bench(database_url) as b:
        channel = await b.channels.create(b.owner, "  Grey\u00a0herons \n")
        assert channel.name == "Grey\u00a0herons"
        assert (await b.channels.update(b.owner, b.id, name=" x" * 40)).name == ("x " * 40).strip()
        for name in ("", " \t", "x" * 81, "a\0b", "a\nb", "a\u202eb", "\u200d", "a\ud800"):
            with pytest.raises(BadRequest):
                await b.channels.create(b.owner, name)
            with pytest.raises(BadRequest):
                await b.channels.update(b.owner, b.id, name=name)


@pytest.mark.gen_test
async def test_a_deleted_account_creates_no_channel(database_url: str) -> None:
    async with bench(database_url) as b:
        with pytest.raises(Unauthenticated):
            await b.channels.create("gone", "Herons")
        assert b.new_changes() == []


@pytest.mark.gen_test
async def test_only_managers_of_a_channel_can_change_it(database_url: str) -> None:
    async with bench(database_url) as b:
        other = await b.user()
        for caller, refusal in (
            (await b.member(READ), Forbidden),
            (await b.member(WRITE), Forbidden),
            (await b.user(), NotFound),
            ("nobody", NotFound),
        ):
            b.new_changes()
            for call in (
                b.channels.update(caller, b.id, name="Mine"),
                b.channels.update(caller, b.id, private=False),
                b.channels.put_member(caller, b.id, other),
                b.channels.put_member(caller, b.id, caller, MANAGE),
                b.channels.put_member(caller, b.id, "no-such-user"),
                b.channels.remove_member(caller, b.id, b.owner),
                b.channels.delete(caller, b.id),
            ):
                with pytest.raises(refusal):
                    await call
            assert b.new_changes() == []
        assert (await b.channels.get(b.owner, b.id)).name == "Herons"


@pytest.mark.gen_test
async def test_managers_and_administrators_may_do_all_that_the_owner_may(database_url: str) -> None:
    async with bench(database_url) as b:
        for manager in (await b.member(MANAGE), await b.user("admin")):
            user = await b.user()
            await b.channels.put_member(manager, b.id, user, READ)
            assert await b.grant(user) == Grant(READ, b.now)
            await b.channels.update(manager, b.id, name="Egrets", roles={"user": "read"})
            await b.channels.remove_member(manager, b.id, user)
        await b.channels.delete(manager, b.id)
        with pytest.raises(NotFound):
            await b.channels.get(b.owner, b.id)


@pytest.mark.gen_test
async def test_a_member_may_leave(database_url: str) -> None:
    async with bench(database_url) as b:
        user = await b.member(READ)
        b.new_changes()
        await b.channels.remove_member(user, b.id, user)
        assert await b.grant(user) is None
        assert b.new_changes() == [(user, "member_left")]
        with pytest.raises(NotFound):
            await b.channels.remove_member(user, b.id, user)


@pytest.mark.gen_test
async def test_the_owner_can_neither_be_removed_nor_leave_nor_be_demoted(database_url: str) -> None:
    async with bench(database_url) as b:
        manager = await b.member(MANAGE)
        b.new_changes()
        for caller in (manager, b.owner):
            with pytest.raises(OwnerStays):
                await b.channels.remove_member(caller, b.id, b.owner)
            with pytest.raises(OwnerStays):
                await b.channels.put_member(caller, b.id, b.owner, READ)
        assert b.new_changes() == []


@pytest.mark.gen_test
async def test_an_unknown_user_or_member_is_not_found(database_url: str) -> None:
    async with bench(database_url) as b:
        other_user = await b.user()
        for call in (
            b.channels.put_member(b.owner, b.id, "nobody"),
            b.channels.remove_member(b.owner, b.id, "nobody"),
            b.channels.remove_member(b.owner, b.id, other_user),
        ):
            with pytest.raises(NotFound):
                await call
        assert b.new_changes() == []


@pytest.mark.gen_test
async def test_a_channel_outlives_its_owner_and_a_members_right_does_not(database_url: str) -> None:
    async with bench(database_url) as b:
        manager, member = await b.member(MANAGE), await b.member()
        await b.parts.administration.delete(b.owner)
        await b.parts.administration.delete(member)
        details = await b.channels.get(manager, b.id)
        assert details.owner_id is None
        assert [m.id for m in cast("list[Any]", details.members)] == [manager]


@pytest.mark.gen_test
async def test_deleting_a_channel_takes_members_and_roles_along(database_url: str) -> None:
    async with bench(database_url) as b:
        await b.member()
        await b.channels.update(b.owner, b.id, roles={"user": "read"})
        await b.channels.delete(b.owner, b.id)
        assert [await b.rows(m) for m in (Channel, ChannelMember, ChannelRole)] == [[], [], []]


@pytest.mark.gen_test
async def test_a_manager_that_shuts_itself_out_sees_what_it_left(database_url: str) -> None:
    async with bench(database_url) as b:
        await b.channels.update(b.owner, b.id, roles={"user": "manage"})
        user = await b.user()
        details = await b.channels.update(user, b.id, roles={})
        assert (details.roles, details.members) == ({}, [])
        with pytest.raises(NotFound):
            await b.channels.get(user, b.id)


# ---- announcements -------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_every_change_of_a_right_is_announced_after_the_commit(database_url: str) -> None:
    async with bench(database_url) as b:
        channels, user = b.channels, await b.user()
        await channels.put_member(b.owner, b.id, user, READ)
        assert b.new_changes() == [(user, "member_changed")]
        await channels.put_member(b.owner, b.id, user, WRITE)
        assert b.new_changes() == [(user, "member_changed")]
        await channels.remove_member(b.owner, b.id, user)
        assert b.new_changes() == [(user, "member_removed")]
        await channels.update(b.owner, b.id, private=False)
        assert b.new_changes() == [("*", "channel_changed")]
        await channels.update(b.owner, b.id, private=True, roles={"user": "read"})
        assert b.new_changes() == [("*", "channel_changed")]
        await channels.update(b.owner, b.id, roles={"user": "write"})
        assert b.new_changes() == [("*", "channel_changed")]
        await channels.update(b.owner, b.id, roles={})
        assert b.new_changes() == [("*", "channel_changed")]
        await channels.delete(b.owner, b.id)
        assert b.new_changes() == [("*", "channel_deleted")]
        public = await channels.create(b.owner, "Public", private=False)
        assert b.telling.reported == [
            (public.id, b.owner, "channel_opened"),
            (public.id, "*", "channel_opened"),
        ]


@pytest.mark.gen_test
async def test_a_change_without_effect_on_rights_notifies_no_user(database_url: str) -> None:
    async with bench(database_url) as b:
        user = await b.member(READ)
        await b.channels.update(b.owner, b.id, roles={"user": "read"})
        b.new_changes()
        await b.channels.update(b.owner, b.id, name="Egrets")
        await b.channels.update(b.owner, b.id, private=True, roles={"user": "read"})
        await b.channels.put_member(b.owner, b.id, user, READ)
        assert b.new_changes() == []


@pytest.mark.gen_test
async def test_a_change_that_cannot_be_recorded_is_not_made(database_url: str) -> None:
    async with bench(database_url) as b:
        member, other_user = await b.member(), await b.user()
        await b.parts.database.run(lambda db: db.execute_sql("DROP TABLE revocations"))
        for call in (
            b.channels.create(b.owner, "Another"),
            b.channels.update(b.owner, b.id, private=False),
            b.channels.update(b.owner, b.id, roles={"user": "read"}),
            b.channels.put_member(b.owner, b.id, other_user),
            b.channels.remove_member(b.owner, b.id, member),
            b.channels.delete(b.owner, b.id),
        ):
            with pytest.raises(peewee.DatabaseError):
                await call
        assert await b.grant(member) == Grant(WRITE, b.now)
        assert await b.grant(other_user) is None
        assert len(await b.rows(Channel)) == 1


# ---- at the same time ----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_two_managers_change_the_same_member(database_url: str) -> None:
    async with bench(database_url) as b:
        managers = [b.owner, await b.member(MANAGE)]
        user = await b.user()
        b.new_changes()
        rights = [(m, r) for m in managers for r in (READ, WRITE, MANAGE)]
        await outcomes(*(b.channels.put_member(m, b.id, user, r) for m, r in rights))
        found = await b.grant(user)
        assert found is not None
        assert found.since == b.now
        changes = b.new_changes()
        assert 1 <= len(changes) <= len(rights)
        assert set(changes) == {(user, "member_changed")}


@pytest.mark.gen_test
async def test_a_member_that_is_added_concurrently_is_added_once(database_url: str) -> None:
    async with bench(database_url) as b:
        user = await b.user()
        calls = (b.channels.put_member(b.owner, b.id, user, WRITE) for _ in range(8))
        assert len({repr(m) for m in await outcomes(*calls)}) == 1
        assert b.new_changes() == [(user, "member_changed")]


@pytest.mark.gen_test
async def test_of_two_managers_that_remove_each_other_one_stays(database_url: str) -> None:
    async with bench(database_url) as b:
        for _ in range(5):
            one, two = await b.member(MANAGE), await b.member(MANAGE)
            results = await outcomes(
                b.channels.remove_member(one, b.id, two),
                b.channels.remove_member(two, b.id, one),
            )
            assert sorted(type(r).__name__ for r in results) == ["NoneType", "NotFound"]
            assert [await b.grant(one), await b.grant(two)].count(None) == 1


@pytest.mark.gen_test
async def test_a_channel_deleted_while_members_are_added_leaves_nothing(database_url: str) -> None:
    async with bench(database_url) as b:
        users = [await b.user() for _ in range(6)]
        adding = [b.channels.put_member(b.owner, b.id, user) for user in users]
        results = await outcomes(*adding[:3], b.channels.delete(b.owner, b.id), *adding[3:])
        refused = [r for r in results if isinstance(r, UsherError)]
        assert {type(r) for r in refused} <= {NotFound}
        assert await b.rows(ChannelMember) == []
        assert await b.rows(Channel) == []
        assert b.new_changes().count(("*", "channel_deleted")) == 1


@pytest.mark.gen_test
async def test_an_account_deleted_while_it_is_added_leaves_no_membership(database_url: str) -> None:
    async with bench(database_url) as b:
        for _ in range(5):
            user = await b.user()
            let_in, deleted = await outcomes(
                b.channels.put_member(b.owner, b.id, user), b.parts.administration.delete(user)
            )
            assert deleted is None
            assert not isinstance(let_in, UsherError) or type(let_in) is NotFound
        assert await b.rows(ChannelMember) == []


@pytest.mark.gen_test
async def test_an_owner_deleted_while_a_manager_adds_members_blocks_nothing(
    database_url: str,
) -> None:
    async with bench(database_url) as b:
        manager, users = await b.member(MANAGE), [await b.user() for _ in range(5)]
        adding = (b.channels.put_member(manager, b.id, user) for user in users)
        results = await outcomes(b.parts.administration.delete(b.owner), *adding)
        assert [r for r in results if isinstance(r, UsherError)] == []
        assert len(await b.rows(ChannelMember)) == 6
