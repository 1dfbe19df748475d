"""Keys for backends, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from typing import Any, cast

import peewee
import pytest

from models.backend import ApiKey
from services.accounts.api_keys import (
    MAX_KEY_LENGTH,
    MAX_NAME_LENGTH,
    PREFIX,
    USED_EVERY_SECONDS,
    Scope,
)
from services.errors import BadRequest, DatabaseUnavailable, Forbidden, NotFound, Unauthenticated
from tests.support.parts import Parts, database_away, node

SCOPES: tuple[Scope, ...] = ("publish", "disconnect", "read")


def rows(db: peewee.Database) -> list[dict[str, Any]]:
    return list(cast("Any", ApiKey.select().dicts()).execute(db))


async def make(parts: Parts, *scopes: Scope, name: str = "billing") -> tuple[str, str]:
    """A key: its id and what was shown."""
    row, key = await parts.api_keys.create(
        name, scopes or SCOPES, await parts.user("Root", "admin")
    )
    return row.id, key.reveal()


@pytest.mark.gen_test
async def test_a_key_is_shown_once_and_kept_as_a_hash(database_url: str) -> None:
    async with node(database_url) as parts:
        root = await parts.user("Root", "admin")
        row, key = await parts.api_keys.create(" Billing ", ["read", "publish", "read"], root)
        assert re.fullmatch(PREFIX + r"[A-Za-z0-9_-]{43}", key.reveal())
        assert key.reveal() not in repr((row, key))
        assert (row.name, row.scopes) == ("Billing", ["publish", "read"])
        assert (row.created_at, row.last_used_at) == (parts.clock(), None)
        (kept,) = await parts.database.run(rows)
        assert key.reveal().removeprefix(PREFIX) not in str(kept)
        assert re.fullmatch(r"[0-9a-f]{64}", kept["hash"])
        assert kept["created_by"] == root
        assert await parts.api_keys.living() == [row]


@pytest.mark.gen_test
async def test_a_key_is_good_for_its_scopes_and_no_other(database_url: str) -> None:
    async with node(database_url) as parts:
        for scope in SCOPES:
            key_id, key = await make(parts, scope)
            for wanted in SCOPES:
                if wanted == scope:
                    assert await parts.api_keys.check(key, wanted) == key_id
                else:
                    with pytest.raises(Forbidden):
                        await parts.api_keys.check(key, wanted)


@pytest.mark.gen_test
async def test_a_key_without_a_scope_or_with_a_bad_name_is_not_made(database_url: str) -> None:
    async with node(database_url) as parts:
        root = await parts.user("Root", "admin")
        with pytest.raises(BadRequest):
            await parts.api_keys.create("billing", [], root)
        for name in ("", "  ", "x" * (MAX_NAME_LENGTH + 1), "a\x00b", "a\nb", "\ud800"):
            with pytest.raises(BadRequest):
                await parts.api_keys.create(name, ["read"], root)
        assert await parts.database.run(rows) == []
        await parts.api_keys.create("ü" * MAX_NAME_LENGTH, ["read"], root)


@pytest.mark.gen_test
async def test_a_key_outlives_the_account_that_made_it_but_is_not_made_by_none(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        await parts.user("Another", "admin")
        root = await parts.user("Root", "admin")
        row, key = await parts.api_keys.create("billing", ["read"], root)
        await parts.accounts.delete(root)
        assert await parts.api_keys.check(key.reveal(), "read") == row.id
        assert (await parts.database.run(rows))[0]["created_by"] is None
        with pytest.raises(Unauthenticated):
            await parts.api_keys.create("billing", ["read"], root)


@pytest.mark.gen_test
async def test_a_key_that_is_revoked_is_good_for_nothing_on_any_node(database_url: str) -> None:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        key_id, key = await make(here)
        other_id, other = await make(here)
        assert await there.api_keys.check(key, "read") == key_id
        await here.api_keys.revoke(key_id)
        for parts in (here, there):
            with pytest.raises(Unauthenticated):
                await parts.api_keys.check(key, "read")
            assert [row.id for row in await parts.api_keys.living()] == [other_id]
            with pytest.raises(NotFound):
                await parts.api_keys.revoke(key_id)
        assert await there.api_keys.check(other, "read") == other_id
        with pytest.raises(NotFound):
            await here.api_keys.revoke("no-such-key")


@pytest.mark.gen_test
async def test_of_racing_revocations_one_succeeds(database_url: str) -> None:
    async with node(database_url) as parts:
        key_id, _ = await make(parts)
        outcomes = await asyncio.gather(
            *(parts.api_keys.revoke(key_id) for _ in range(5)), return_exceptions=True
        )
        assert outcomes.count(None) == 1
        assert sum(isinstance(outcome, NotFound) for outcome in outcomes) == 4


@pytest.mark.gen_test
async def test_the_last_use_is_noted_to_the_minute(database_url: str) -> None:
    async with node(database_url) as parts:
        _, key = await make(parts)

        async def last_use() -> float | None:
            (row,) = await parts.api_keys.living()
            return row.last_used_at

        first = parts.clock()
        await parts.api_keys.check(key, "read")
        assert await last_use() == first
        parts.clock.forward(USED_EVERY_SECONDS - 1)
        await parts.api_keys.check(key, "read")
        assert await last_use() == first, "not written on every call"
        parts.clock.forward(2)
        with pytest.raises(Forbidden):
            await parts.api_keys.check((await make(parts, "publish"))[1], "read")
        await parts.api_keys.check(key, "read")
        assert parts.clock() in [row.last_used_at for row in await parts.api_keys.living()]


@pytest.mark.gen_test
async def test_keys_are_listed_newest_first(database_url: str) -> None:
    async with node(database_url) as parts:
        for name in ("a", "b", "c"):
            await make(parts, name=name)
            parts.clock.forward(1)
        assert [row.name for row in await parts.api_keys.living()] == ["c", "b", "a"]


@pytest.mark.gen_test
async def test_what_is_no_key_is_refused(database_url: str) -> None:
    async with node(database_url) as parts:
        key_id, key = await make(parts)
        (kept,) = await parts.database.run(rows)
        guesses = [key[:-1], key + "x", key.upper(), key.removeprefix(PREFIX), kept["hash"], key_id]
        guesses += ["", PREFIX, PREFIX + "\x00", PREFIX + "\ud800", "ü", "' OR 1=1 --", " " + key]
        guesses += [PREFIX + "x" * MAX_KEY_LENGTH]
        for guess in guesses:
            with pytest.raises(Unauthenticated):
                await parts.api_keys.check(guess, "read")


@pytest.mark.gen_test
async def test_a_key_is_not_seen_in_an_error(database_url: str) -> None:
    async with node(database_url) as parts:
        key_id, key = await make(parts, "read")
        with pytest.raises(Forbidden) as refused:
            await parts.api_keys.check(key, "publish")
        assert key not in str(refused.value) + refused.value.evidence
        assert key_id in refused.value.evidence, "the log says which"


@pytest.mark.gen_test
async def test_without_a_database_no_key_is_good(database_url: str) -> None:
    async with node(database_url) as parts:
        _, key = await make(parts)
        await database_away(parts)
        with pytest.raises(DatabaseUnavailable):
            await parts.api_keys.check(key, "read")
