"""Pages of channels and members, and constraints of the schema."""

from __future__ import annotations

from typing import Any, cast

import peewee
import pytest

from models.channel import Channel, ChannelMember, ChannelRole
from models.user import User
from services.errors import (
    BadRequest,
)
from services.grants.rules import Grant
from services.rooms.channels import Channels
from tests.rooms.benches import MANAGE, bench
from tests.support.databases import opened, opened_at
from tests.support.parts import node


@pytest.mark.gen_test
async def test_pages_hold_every_readable_channel_once_newest_first(database_url: str) -> None:
    async with bench(database_url) as b:
        user = await b.member()
        for number in range(7):  # some of one and the same moment
            b.later(number % 2)
            await b.channels.create(b.owner, f"Private {number}")
            await b.channels.create(b.owner, f"Public {number}", private=False)
            await b.channels.create(user, f"Own {number}")
        for reader, expected in ((user, 15), (b.owner, 15), (await b.user("admin"), 22)):
            seen, after = [], ""
            while True:
                items, following = await b.channels.page(reader, after, 4)
                seen += items
                if following is None:
                    break
                assert len(items) == 4
                after = following
            assert len({item.id for item in seen}) == len(seen) == expected
            assert seen == sorted(seen, key=lambda c: (c.created_at, c.id), reverse=True)
            granted = await b.channels.grants_of(reader, [channel.id for channel in seen])
            assert {c.id: c.right for c in seen} == {i: g.right.word for i, g in granted.items()}


@pytest.mark.gen_test
async def test_a_page_continues_where_it_was_when_a_channel_is_deleted(database_url: str) -> None:
    async with bench(database_url) as b:
        for _ in range(4):
            b.later(0.001)
            await b.channels.create(b.owner, "x")
        first, after = await b.channels.page(b.owner, "", 2)
        assert after is not None
        await b.channels.delete(b.owner, first[-1].id)
        rest, end = await b.channels.page(b.owner, after, 3)
        assert (len(rest), end) == (3, None)


@pytest.mark.gen_test
async def test_a_cursor_that_no_page_gave_is_refused(database_url: str) -> None:
    async with bench(database_url) as b:
        for after in (
            "x",
            "1",
            "~",
            "1.0~",
            "nan~a",
            "1e9~a",
            "\u0661.0~a",
            "1.0~a\0",
            "1.0~" + "a" * 65,
        ):
            with pytest.raises(BadRequest):
                await b.channels.page(b.owner, after, 10)


@pytest.mark.gen_test
async def test_members_come_in_pages(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.rooms.channel_rows.MAX_MEMBERS_PAGE", 2)
    async with bench(database_url) as b:
        members = sorted([await b.member() for _ in range(5)])
        seen: list[str] = []
        after = ""
        for size in (2, 2, 1):
            details = await b.channels.get(b.owner, b.id, after)
            page = [member.id for member in cast("list[Any]", details.members)]
            assert len(page) == size
            seen, after = seen + page, str(details.members_next)
        assert seen == members
        assert after == "UNSET"


@pytest.mark.gen_test
async def test_an_installation_of_the_version_before_is_brought_up(bare_database_url: str) -> None:
    async with opened_at(bare_database_url, "0001_accounts_and_sessions") as database:
        await database.run(_insert_old_user)
    async with node(bare_database_url) as parts:
        channels = Channels(parts.database, parts.revocations, parts.clock)
        channel = await channels.create("old", "Herons", private=False)
        granted = (await channels.grants_of("old"))[channel.id]
        assert granted == Grant(MANAGE, parts.clock())


def _insert_old_user(db: peewee.Database) -> None:
    db.execute_sql(
        "INSERT INTO users (id, email, name, role, created_at) VALUES ('old', 'e', 'n', 'user', 1)"
    )


@pytest.mark.gen_test
async def test_the_database_itself_refuses_what_cannot_be(database_url: str) -> None:
    channel = {"id": "c", "name": "x", "created_at": 1.0, "private": True, "public_since": None}
    member = {"channel": "c", "user": "u", "right": "read", "since": 1.0}
    role = {"channel": "c", "role": "user", "right": "read", "since": 1.0}
    bad: tuple[tuple[type[peewee.Model], dict[str, object]], ...] = (
        (Channel, {**channel, "id": "d", "private": False}),
        (Channel, {**channel, "id": "d", "public_since": 1.0}),
        (Channel, {**channel, "id": "d", "owner": "nobody"}),
        (ChannelMember, member),
        (ChannelMember, {**member, "user": "v", "right": "own"}),
        (ChannelMember, {**member, "channel": "nowhere"}),
        (ChannelRole, {**role, "role": "root"}),
        (ChannelRole, {**role, "right": ""}),
    )
    user: dict[str, object] = {"name": "n", "role": "user", "created_at": 1.0}
    good: tuple[tuple[type[peewee.Model], dict[str, object]], ...] = (
        (User, {**user, "id": "u", "email": "u"}),
        (User, {**user, "id": "v", "email": "v"}),
        (Channel, channel),
        (ChannelMember, member),
    )
    async with opened(database_url) as database:
        for model, row in good:
            await database.run(_insert, model, row)
        for model, row in bad:
            with pytest.raises(peewee.IntegrityError):
                await database.run(_insert, model, row)


def _insert(db: peewee.Database, model: type[peewee.Model], row: dict[str, object]) -> None:
    model.insert(row).execute(db)
