"""Expired rows are deleted, and no others, on SQLite and on PostgreSQL."""

from __future__ import annotations

import peewee
import pytest

from models.login_session import LoginSession, RefreshToken
from models.revocation import Revocation
from models.ticket import Ticket
from models.user import User
from services.composition.upkeep import KEEP_SESSIONS_SECONDS, Upkeep
from services.errors import DatabaseUnavailable
from services.sessions.session_rows import BATCH
from tests.support.parts import LIFETIME, REFRESH_TTL, Parts, database_away, node

TABLES: tuple[type[peewee.Model], ...] = (User, LoginSession, RefreshToken, Revocation, Ticket)


def counts(db: peewee.Database) -> dict[str, int]:
    return {table.__name__: len(list(table.select().execute(db))) for table in TABLES}


async def purged(parts: Parts) -> dict[str, int]:
    await Upkeep(parts.database, parts.clock).purge()
    return await parts.database.run(counts)


def add_rows(db: peewee.Database, now: float) -> None:
    """Of revocations and tickets one that is over and one that is not."""
    for number, expires_at in enumerate((now - 1, now + 1)):
        Ticket.insert(hash=f"t{number}", payload="{}", expires_at=expires_at).execute(db)
        Revocation.insert(
            kind="session",
            subject=f"s{number}",
            user_id="ada",
            reason="logout",
            created_at=now - 10,
            expires_at=expires_at,
        ).execute(db)


@pytest.mark.gen_test
async def test_ended_rows_are_deleted_and_active_ones_stay(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.database.run(add_rows, parts.clock())
        await parts.signed_in()
        assert await purged(parts) == {
            "User": 1,
            "LoginSession": 1,
            "RefreshToken": 1,
            "Revocation": 1,
            "Ticket": 1,
        }
        kept = await parts.database.run(
            lambda db: (Ticket.select().get(db).hash, Revocation.select().get(db).subject)
        )
        assert kept == ("t1", "s1")


@pytest.mark.gen_test
async def test_refresh_tokens_go_when_they_expire_and_sessions_a_month_after_their_end(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await parts.session_ends.end(login.user.id, login.claims.sid, "logout")
        parts.clock.forward(REFRESH_TTL)
        assert (await purged(parts))["RefreshToken"] == 1, "not before its time is past"
        parts.clock.forward(1)
        after = await purged(parts)
        assert (after["RefreshToken"], after["LoginSession"]) == (0, 1)
        parts.clock.forward(LIFETIME - REFRESH_TTL + KEEP_SESSIONS_SECONDS - 2)
        assert (await purged(parts))["LoginSession"] == 1
        parts.clock.forward(2)
        after = await purged(parts)
        assert (after["LoginSession"], after["User"]) == (0, 1)


@pytest.mark.gen_test
async def test_one_purge_deletes_more_than_a_batch(database_url: str) -> None:
    async with node(database_url) as parts:
        old = [
            {"hash": f"t{n}", "payload": "{}", "expires_at": parts.clock() - 1}
            for n in range(2 * BATCH)
        ]
        await parts.database.run(
            lambda db: [
                Ticket.insert_many(old[start : start + 500]).execute(db)
                for start in range(0, len(old), 500)
            ]
        )
        assert (await parts.database.run(counts))["Ticket"] == 2 * BATCH
        assert (await purged(parts))["Ticket"] == 0


@pytest.mark.gen_test
async def test_without_a_database_it_is_left_for_another_time(database_url: str) -> None:
    async with node(database_url) as parts:
        await database_away(parts)
        with pytest.raises(DatabaseUnavailable):
            await Upkeep(parts.database, parts.clock).purge()
