from __future__ import annotations

import asyncio
import time

import peewee
import pytest

from models.account_link import AccountLink
from models.channel import Channel, ChannelMember, ChannelRole
from models.installation import Installation
from models.known_network import KnownNetwork
from models.login_session import LoginSession, RefreshToken
from models.native_code import NativeCode
from models.refresh_key import RefreshKey
from models.revocation import Revocation
from models.ticket import Ticket
from models.user import User
from tests.support.databases import opened

ACCOUNTS = (User, LoginSession, RefreshToken, Revocation, Ticket, Installation, NativeCode)
LINKS = (AccountLink,)
LIMITS = (KnownNetwork, RefreshKey)
MODELS = (*ACCOUNTS, *LINKS, *LIMITS, Channel, ChannelMember, ChannelRole)


def user(user_id: str, **fields: object) -> dict[str, object]:
    return {
        "id": user_id,
        "email": f"{user_id}@example.test",
        "name": "Ann",
        "created_at": 1.5,
        **fields,
    }


def session(session_id: str, user_id: str) -> dict[str, object]:
    times = {"created_at": 1.0, "last_seen_at": 1.0, "expires_at": 9.0}
    return {"id": session_id, "user_id": user_id, "method": "password", **times}


def row_of(kind: str, subject: str) -> dict[str, object]:
    times = {"created_at": 1.0, "expires_at": 2.0}
    return {"kind": kind, "subject": subject, "user_id": "u1", "reason": "test", **times}


def add(db: peewee.Database, model: type[peewee.Model], *rows: dict[str, object]) -> None:
    for row in rows:
        model.insert(row).execute(db)


def test_every_column_of_a_model_is_in_its_table(database_url: str) -> None:
    def columns(db: peewee.Database) -> dict[str, set[str]]:
        names = [model._meta.table_name for model in MODELS]
        return {name: {column.name for column in db.get_columns(name)} for name in names}

    async def check() -> None:
        async with opened(database_url) as database:
            found = await database.run(columns)
        for model in MODELS:
            assert found[model._meta.table_name] == set(model._meta.columns)

    asyncio.run(check())


def test_a_row_comes_back_as_it_was_written(database_url: str) -> None:
    now = time.time()
    written = user("u1", role="admin", founder=1, disabled_at=now, email_verified=True)

    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(add, User, written)
            row = await database.run(lambda db: User.select().where(User.id == "u1").get(db))
        assert {name: getattr(row, name) for name in written} == written
        assert row.password_hash is None

    asyncio.run(check())


@pytest.mark.parametrize(
    "second",
    [
        user("u2", email="u1@example.test"),
        user("u2", founder=1),
        user("u2", founder=2),
        user("u2", role="root"),
    ],
    ids=["a taken address", "a second founder", "founder 2", "an unknown role"],
)
def test_the_database_itself_refuses(database_url: str, second: dict[str, object]) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(add, User, user("u1", founder=1), user("u3"), user("u4"))
            with pytest.raises(peewee.IntegrityError):
                await database.run(add, User, second)

    asyncio.run(check())


def test_a_deleted_user_takes_sessions_and_tokens_along_but_no_revocation(
    database_url: str,
) -> None:
    token: dict[str, object] = {
        "hash": "h",
        "session_id": "s1",
        "created_at": 1.0,
        "expires_at": 2.0,
    }
    revocation = row_of("session", "s1")

    def counts(db: peewee.Database) -> list[int]:
        return [model.select().count(db) for model in (LoginSession, RefreshToken, Revocation)]

    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(add, User, user("u1"))
            await database.run(add, LoginSession, session("s1", "u1"))
            await database.run(add, RefreshToken, token)
            await database.run(add, Revocation, revocation)
            await database.run(lambda db: User.delete().where(User.id == "u1").execute(db))
            assert await database.run(counts) == [0, 0, 1]

    asyncio.run(check())


def test_an_id_of_a_deleted_revocation_is_not_given_out_again(database_url: str) -> None:
    row = row_of("token", "j1")

    def insert(db: peewee.Database) -> int:
        return int(Revocation.insert(row).execute(db))

    async def check() -> None:
        async with opened(database_url) as database:
            first = await database.run(insert)
            await database.run(lambda db: Revocation.delete().execute(db))
            assert await database.run(insert) > first

    asyncio.run(check())


def test_a_ticket_can_be_deleted_only_once(database_url: str) -> None:
    def use(db: peewee.Database) -> int:
        return int(Ticket.delete().where(Ticket.hash == "h").execute(db))

    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(add, Ticket, {"hash": "h", "payload": "{}", "expires_at": 9.0})
            used = await asyncio.gather(*(database.run(use) for _ in range(8)))
        assert sorted(used) == [0] * 7 + [1]

    asyncio.run(check())


def test_a_session_is_read_without_reading_its_user(database_url: str) -> None:
    async def check() -> None:
        async with opened(database_url) as database:
            await database.run(add, User, user("u1"))
            await database.run(add, LoginSession, session("s1", "u1"))
            row = await database.run(lambda db: LoginSession.select().get(db))
        assert (row.user_id, row.ended_at, row.device) == ("u1", None, "")

    asyncio.run(check())
