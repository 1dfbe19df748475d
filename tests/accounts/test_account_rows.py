"""The rows of accounts: one first account, at least one administrator, and locks in a fixed
order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from models.user import User
from services.accounts import account_rows
from services.errors import LastAdmin, NotFound
from services.registration.registration import Admitted
from tests.support.parts import Parts, node
from tests.support.redis import within


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        yield here, there


def values(name: str) -> dict[str, object]:
    return {"id": name, "email": f"{name}@example.org", "name": name, "created_at": 1.0}


async def admins(parts: Parts) -> list[str]:
    def work(db: peewee.Database) -> list[str]:
        return [row.id for row in User.select().where(User.role == "admin").execute(db)]

    return sorted(await parts.database.run(work))


async def set_role(parts: Parts, user_id: str, role: Any) -> None:
    def work(db: peewee.Database) -> None:
        user = account_rows.for_change(db, user_id)
        account_rows.change_role(db, parts.revocations, user, role, parts.clock())

    await parts.database.run(work)


@pytest.mark.gen_test
async def test_the_first_of_all_is_administrator_and_the_next_are_not(database_url: str) -> None:
    async with node(database_url) as parts:
        for name in ("a", "b", "c"):
            await parts.database.run(account_rows.insert_first_or_next, values(name))
        assert await admins(parts) == ["a"]
        await parts.database.run(account_rows.insert_next, values("d"))
        assert await admins(parts) == ["a"]


@pytest.mark.gen_test
async def test_of_concurrent_first_sign_ups_the_others_are_refused(database_url: str) -> None:
    async with two_nodes(database_url) as both:
        outcomes = await asyncio.gather(
            *(
                both[n % 2].database.run(account_rows.insert_first_or_next, values(f"u{n}"))
                for n in range(10)
            ),
            return_exceptions=True,
        )
        assert len(await admins(both[0])) == 1
        assert {type(one) for one in outcomes} <= {Admitted, peewee.IntegrityError}


@pytest.mark.gen_test
async def test_a_taken_address_is_refused_by_the_database(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.database.run(account_rows.insert_first_or_next, values("a"))
        again = {**values("b"), "email": "a@example.org"}
        for insert in (account_rows.insert_first_or_next, account_rows.insert_next):
            with pytest.raises(peewee.IntegrityError):
                await parts.database.run(insert, again)


@pytest.mark.gen_test
async def test_locking_a_missing_row_returns_none(database_url: str) -> None:
    async with node(database_url) as parts:
        for demoting in (True, False):
            found = await parts.database.run(
                account_rows.lock, User.id == "nobody", demoting=demoting
            )
            assert found is None
        with pytest.raises(NotFound):
            await parts.database.run(account_rows.for_change, "nobody")


@pytest.mark.gen_test
async def test_concurrent_demotions_of_all_administrators_leave_one(database_url: str) -> None:
    async with two_nodes(database_url) as both:
        for _ in range(3):
            everybody = [await both[0].user(role="admin") for _ in range(6)]
            before = set(await admins(both[0])) - set(everybody)
            for other in before:
                await set_role(both[0], other, "user")
            outcomes = await within(
                asyncio.gather(
                    *(set_role(both[n % 2], who, "user") for n, who in enumerate(everybody)),
                    return_exceptions=True,
                )
            )
            assert sum(isinstance(one, LastAdmin) for one in outcomes) == 1, outcomes
            assert outcomes.count(None) == 5
            assert len(await admins(both[0])) == 1


@pytest.mark.gen_test
async def test_a_disabled_administrator_administers_nothing(database_url: str) -> None:
    async with node(database_url) as parts:
        one, other = await parts.user(role="admin"), await parts.user(role="admin")
        await parts.administration.update(other, None, True)
        with pytest.raises(LastAdmin):
            await set_role(parts, one, "user")
        await set_role(parts, other, "user")
        await parts.administration.update(other, "admin", False)
        await set_role(parts, one, "user")
        assert await admins(parts) == [other]


@pytest.mark.gen_test
async def test_the_same_role_once_more_changes_nothing(database_url: str) -> None:
    async with node(database_url) as parts:
        only = await parts.user(role="admin")

        def work(db: peewee.Database) -> tuple[int, float | None]:
            user = account_rows.for_change(db, only)
            found = account_rows.change_role(db, parts.revocations, user, "admin", 5.0)
            return len(found), account_rows.for_change(db, only).role_since

        assert await parts.database.run(work) == (0, None)
