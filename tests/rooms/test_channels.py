"""Channels and the rights in them, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import peewee
import pytest

from models.channel import Channel, ChannelMember, ChannelRole
from models.revocation import Revocation as Row
from services.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    OwnerStays,
    Unauthenticated,
    UsherError,
)
from services.grants import queries
from services.grants.queries import grants_in, personal_grants
from services.grants.rules import Grant, Right
from services.rooms.channels import Channels
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from tests.support.parts import OPENED_AT, Parts, node

READ, WRITE, MANAGE = Right.READ, Right.WRITE, Right.MANAGE
HOUR = 3600.0


class Telling:
    """Real revocations; also records the "access" rows that are committed when announced."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self.record = parts, parts.revocations.record
        self.reported: list[tuple[str, str, str]] = []

    async def publish(self, revocations: Sequence[Revocation]) -> None:
        committed = await self._parts.database.run(_access_rows)
        for entry in revocations:
            assert (entry.subject, entry.user_id, entry.reason) in committed
            self.reported.append((entry.subject, entry.user_id, entry.reason))
        await self._parts.revocations.publish(revocations)


@dataclass
class Bench:
    """A node with channels, and an owner with a private one of an hour ago."""

    parts: Parts
    channels: Channels
    telling: Telling
    owner: str
    id: str

    @property
    def now(self) -> float:
        return self.parts.clock()

    def later(self, seconds: float = HOUR) -> float:
        self.parts.clock.forward(seconds)
        return self.now

    async def user(self, role: str = "user") -> str:
        return await self.parts.user(role=role)

    async def member(self, right: Right = WRITE) -> str:
        user_id = await self.user()
        await self.channels.put_member(self.owner, self.id, user_id, right)
        return user_id

    async def grant(self, user_id: str) -> Grant | None:
        """By both ways of asking, which must agree."""
        one = (await self.channels.grants_in(self.id, [user_id])).get(user_id)
        assert (await self.channels.grants_of(user_id, [self.id])).get(self.id) == one
        return one

    async def rows(self, model: type[peewee.Model]) -> list[dict[str, Any]]:
        def read(db: peewee.Database) -> list[dict[str, Any]]:
            return list(cast("Any", model.select().dicts()).execute(db))

        return await self.parts.database.run(read)

    def new_changes(self) -> list[tuple[str, str]]:
        """Whose rights changed since the last time that this was asked, and why."""
        reported, self.telling.reported = self.telling.reported, []
        assert {subject for subject, _, _ in reported} <= {self.id}
        return [(user_id, reason) for _, user_id, reason in reported]


@asynccontextmanager
async def bench(database_url: str) -> AsyncIterator[Bench]:
    async with node(database_url) as parts:
        telling = Telling(parts)
        channels = Channels(parts.database, cast("Revocations", telling), parts.clock)
        owner = await parts.user("Owner")
        channel = await channels.create(owner, "Herons")
        result = Bench(parts, channels, telling, owner, channel.id)
        assert result.new_changes() == [(owner, "channel_opened")]
        result.later()
        yield result


def _access_rows(db: peewee.Database) -> list[tuple[str, str, str]]:
    query: Any = Row.select(Row.subject, Row.user_id, Row.reason).where(Row.kind == "access")
    return [tuple(row) for row in query.tuples().execute(db)]


async def outcomes(*calls: Awaitable[Any]) -> list[Any]:
    """What calls at once gave: values and refusals; anything else fails the test."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, UsherError):
            raise result
    return results


# ---- rights and since when -----------------------------------------------------------------


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
