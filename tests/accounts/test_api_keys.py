"""Keys for backends, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import re

import peewee
import pytest

from models.backend import ApiKey
from services.accounts.api_key_rows import USED_EVERY_SECONDS
from services.accounts.api_keys import MAX_KEY_LENGTH, MAX_NAME_LENGTH, PREFIX, REFUSED_SECONDS
from services.errors import BadRequest, DatabaseUnavailable, Forbidden, NotFound, Unauthenticated
from services.opaque import token_hash
from services.secret import Secret
from tests.accounts.keys import SCOPES, make, rows
from tests.support.parts import Clock, database_away, node


@pytest.mark.gen_test
async def test_a_key_is_shown_once_and_kept_as_a_hash(database_url: str) -> None:
    async with node(database_url) as parts:
        root = await parts.user("Root", "admin")
        row, key = await parts.api_keys.create(" Billing ", ["read", "publish", "read"], root)
        assert re.fullmatch(PREFIX + r"[A-Za-z0-9_-]{65}", key.reveal())
        assert key.reveal() not in repr((row, key))
        assert (row.name, row.scopes) == ("Billing", ["publish", "read"])
        assert (row.created_at, row.last_used_at) == (parts.clock(), None)
        (kept,) = await parts.database.run(rows)
        assert key.reveal().removeprefix(PREFIX) not in str(kept)
        assert re.fullmatch(r"[0-9a-f]{64}", kept["hash"])
        assert kept["created_by"] == root
        assert await parts.api_keys.active() == [row]


@pytest.mark.gen_test
async def test_a_key_is_valid_for_its_scopes_only(database_url: str) -> None:
    async with node(database_url) as parts:
        for scope in SCOPES:
            key_id, key = await make(parts, scope)
            for wanted in SCOPES:
                if wanted == scope:
                    assert (await parts.api_keys.check(key, wanted)).id == key_id
                else:
                    with pytest.raises(Forbidden):
                        await parts.api_keys.check(key, wanted)


@pytest.mark.gen_test
async def test_a_key_without_a_scope_or_with_an_invalid_name_is_not_created(
    database_url: str,
) -> None:
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
async def test_a_key_becomes_invalid_with_the_rights_of_its_creator(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.user("Another", "admin")
        for change in ("role", "disabled", "deleted"):
            root = await parts.user("Root", "admin")
            row, key = await parts.api_keys.create("billing", ["read"], root)
            assert (await parts.api_keys.check(key.reveal(), "read")).maker == root
            if change == "role":
                await parts.administration.update(root, "user", None)
            elif change == "disabled":
                await parts.administration.update(root, None, True)
            else:
                await parts.administration.delete(root)
            with pytest.raises(Unauthenticated):
                await parts.api_keys.check(key.reveal(), "read")
            (listed,) = [one for one in await parts.api_keys.active() if one.id == row.id]
            assert listed.created_by == (None if change == "deleted" else root)
            with pytest.raises(Unauthenticated):
                await parts.api_keys.create("billing", ["read"], "nobody")


@pytest.mark.gen_test
async def test_a_key_of_the_command_line_has_no_creator_and_stays_valid(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        row, key = await parts.api_keys.create("ci", ["publish"], None)
        good = await parts.api_keys.check(key.reveal(), "publish")
        assert (good.id, good.maker, row.created_by) == (row.id, None, None)
        await parts.api_keys.revoke(row.id)
        with pytest.raises(Unauthenticated):
            await parts.api_keys.check(key.reveal(), "publish")


@pytest.mark.gen_test
async def test_a_key_ends_at_its_time_and_is_not_made_with_one_that_is_past(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        root = await parts.user("Root", "admin")
        now = parts.clock()
        for past in (now, now - 1, 0.0, -1.0):
            with pytest.raises(BadRequest):
                await parts.api_keys.create("billing", ["read"], root, past)
        row, key = await parts.api_keys.create("billing", ["read"], root, now + 60)
        assert row.expires_at == now + 60
        parts.clock.forward(59)
        await parts.api_keys.check(key.reveal(), "read")
        parts.clock.forward(1)
        with pytest.raises(Unauthenticated):
            await parts.api_keys.check(key.reveal(), "read")


# ---- what cannot be one --------------------------------------------------------------------


def _take_checksum(db: peewee.Database, key: str) -> str:
    """Make a key one of before the checksum."""
    old = key[: len(PREFIX) + 43]
    ApiKey.update({ApiKey.hash: token_hash(old)}).where(ApiKey.hash == token_hash(key)).execute(db)
    return old


@pytest.mark.gen_test
async def test_a_key_that_is_made_up_costs_no_query(database_url: str) -> None:
    async with node(database_url) as parts:
        _, key = await make(parts)
        other = "A" if key[-1] != "A" else "B"
        bare = key[: len(PREFIX) + 43]
        made_up = [bare, key[:-1], key[:-1] + other, key + "A", PREFIX, PREFIX + "x" * 65, "\ud800"]
        await database_away(parts)
        for text in made_up:
            with pytest.raises(Unauthenticated):
                await parts.api_keys.check(text, "read")
        with pytest.raises(DatabaseUnavailable):
            await parts.api_keys.check(key, "read")


@pytest.mark.gen_test
async def test_a_key_of_before_the_checksum_continues(database_url: str) -> None:
    async with node(database_url) as parts, node(database_url, clock=parts.clock) as upgraded:
        key_id, key = await make(parts)
        old = await parts.database.run(_take_checksum, key)
        await upgraded.api_keys.read()
        assert (await upgraded.api_keys.check(old, "read")).id == key_id
        await upgraded.api_keys.revoke(key_id)
        with pytest.raises(Unauthenticated):
            await upgraded.api_keys.check(old, "read")


@pytest.mark.gen_test
async def test_a_key_outlives_the_secret_that_it_was_made_with(database_url: str) -> None:
    async with node(database_url) as parts, node(database_url, clock=parts.clock) as other:
        key_id, key = await make(parts)
        for each in (parts, other):
            each.tokens.replace_secrets([Secret("another secret, 32 bytes or more of it")])
        await other.api_keys.read()
        for each in (parts, other):
            assert (await each.api_keys.check(key, "read")).id == key_id


@pytest.mark.gen_test
async def test_a_key_that_was_refused_is_looked_up_again_after_a_second(database_url: str) -> None:
    async with node(database_url) as parts:
        passed, (key_id, key) = Clock(0.0), await make(parts)
        parts.api_keys._monotonic = passed
        await parts.database.run(_revoke_silently, key_id, parts.clock())
        with pytest.raises(Unauthenticated):
            await parts.api_keys.check(key, "read")
        await parts.database.run(_revoke_silently, key_id, None)
        passed.forward(REFUSED_SECONDS - 0.01)
        with pytest.raises(Unauthenticated):
            await parts.api_keys.check(key, "read")
        passed.forward(0.02)
        assert (await parts.api_keys.check(key, "read")).id == key_id


def _revoke_silently(db: peewee.Database, key_id: str, at: float | None) -> None:
    ApiKey.update({ApiKey.revoked_at: at}).where(ApiKey.id == key_id).execute(db)


# ---- and so on -----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_revoked_key_is_refused_on_every_node(database_url: str) -> None:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        key_id, key = await make(here)
        other_id, other = await make(here)
        assert (await there.api_keys.check(key, "read")).id == key_id
        await here.api_keys.revoke(key_id)
        for parts in (here, there):
            with pytest.raises(Unauthenticated):
                await parts.api_keys.check(key, "read")
            assert [row.id for row in await parts.api_keys.active()] == [other_id]
            with pytest.raises(NotFound):
                await parts.api_keys.revoke(key_id)
        assert (await there.api_keys.check(other, "read")).id == other_id
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
            (row,) = await parts.api_keys.active()
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
        assert parts.clock() in [row.last_used_at for row in await parts.api_keys.active()]


@pytest.mark.gen_test
async def test_keys_are_listed_newest_first(database_url: str) -> None:
    async with node(database_url) as parts:
        for name in ("a", "b", "c"):
            await make(parts, name=name)
            parts.clock.forward(1)
        assert [row.name for row in await parts.api_keys.active()] == ["c", "b", "a"]


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
async def test_without_a_database_no_key_is_valid(database_url: str) -> None:
    async with node(database_url) as parts:
        _, key = await make(parts)
        await database_away(parts)
        with pytest.raises(DatabaseUnavailable):
            await parts.api_keys.check(key, "read")
