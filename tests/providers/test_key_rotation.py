"""Re-encryption with the newest key, while tokens continue to be refreshed."""

from __future__ import annotations

import asyncio
from typing import Any

import peewee
import pytest

from models.installation import Installation
from models.oauth_token import OAuthToken
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.providers import key_rotation
from services.providers.identity_rows import insert as insert_identity
from services.providers.key_rotation import BATCH, Rotated, rotate_keys
from services.providers.tokens import ProviderTokens, TokenSet
from services.secret import Secret
from services.storage.database import Database
from services.storage.encryption import DecryptionFailed, Encryption, check_canary, generate_key
from tests.support.databases import look, on_postgresql, opened
from tests.support.parts import node

OLD, NEW = generate_key(), generate_key()
BEFORE, DURING, AFTER = Encryption((OLD,)), Encryption((NEW, OLD)), Encryption((NEW,))


def grant(name: str, refresh: bool = True) -> Grant:
    return Grant(
        Secret(f"access-{name}"),
        Secret(f"refresh-{name}") if refresh else None,
        None,
        "openid",
        None,
    )


async def filled(database_url: str, size: int) -> None:
    """A database with this many sets and a canary under the old key."""
    tokens = ProviderTokens(BEFORE)
    async with node(database_url) as parts:
        assert await check_canary(parts.database, BEFORE)
        ada = await parts.signed_in()
        who = ProviderProfile("https://idp.example", "ada", None, "", False, "Ada", {})
        await parts.database.run(insert_identity, "idp", who, ada.user.id, parts.clock())
        sid = ada.claims.sid

        def fill(db: peewee.Database) -> None:
            for number in range(size):
                given = grant(str(number), refresh=number % 3 > 0)
                tokens.insert(db, ada.user.id, ("idp", "ada"), sid, given)

        await parts.database.run(fill)


def raw(db: peewee.Database) -> list[Any]:
    sets: Any = OAuthToken.select().order_by(OAuthToken.id).tuples()
    canary: Any = Installation.select().tuples()
    return [*sets.execute(db), *canary.execute(db)]


async def read(database: Database, keys: Encryption) -> list[str]:
    """Every access token, as these keys read it."""
    tokens = ProviderTokens(keys)

    def work(db: peewee.Database) -> list[str]:
        found = [tokens.get(db, row.id) for row in OAuthToken.select().execute(db)]
        return sorted(one.grant.access_token.reveal() for one in found if one is not None)

    return await database.run(work)


@pytest.mark.gen_test
@pytest.mark.parametrize("size", [0, 1, BATCH, 2 * BATCH + 7])
async def test_all_of_it_comes_under_the_newest_key_and_the_old_one_can_go(
    database_url: str, size: int
) -> None:
    await filled(database_url, size)
    async with opened(database_url) as database:
        assert await rotate_keys(database, DURING) == Rotated(rotated=size, unreadable=0)
        assert await read(database, AFTER) == sorted(f"access-{n}" for n in range(size))
        assert await check_canary(database, AFTER)
        assert not await check_canary(database, BEFORE)
        assert await rotate_keys(database, AFTER) == Rotated(rotated=size, unreadable=0)


@pytest.mark.gen_test
async def test_what_is_not_encrypted_stays_as_it_is(database_url: str) -> None:
    await filled(database_url, 3)
    async with opened(database_url) as database:
        before: list[dict[str, Any]] = await database.run(plain)
        await rotate_keys(database, DURING)
        assert await database.run(plain) == before


def plain(db: peewee.Database) -> list[dict[str, Any]]:
    query: Any = OAuthToken.select().order_by(OAuthToken.id).dicts()
    rows = [dict(row) for row in query.execute(db)]
    for row in rows:
        for name in key_rotation.COLUMNS:
            row[name] = row[name] is not None
    return rows


@pytest.mark.gen_test
async def test_a_wrong_key_changes_nothing(database_url: str) -> None:
    await filled(database_url, 5)
    async with opened(database_url) as database:
        before = await database.run(raw)
        for wrong in (AFTER, Encryption((generate_key(), generate_key()))):
            with pytest.raises(DecryptionFailed):
                await rotate_keys(database, wrong)
            assert await database.run(raw) == before
        assert len(await read(database, BEFORE)) == 5


@pytest.mark.slow
@pytest.mark.gen_test
async def test_until_the_end_a_key_that_was_dropped_too_early_is_noticed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(database_url, 2 * BATCH)
    done = iter((True,))
    rotate = key_rotation._rotate

    def once(*args: Any) -> tuple[int, int]:
        if not next(done, False):
            raise LookupError("the operator went away")
        return rotate(*args)

    async with opened(database_url) as database:
        with monkeypatch.context() as patch:
            patch.setattr(key_rotation, "_rotate", once)
            with pytest.raises(LookupError):
                await rotate_keys(database, DURING)
        assert not await check_canary(database, AFTER)
        assert len(await read(database, DURING)) == 2 * BATCH
        assert (await rotate_keys(database, DURING)).rotated == 2 * BATCH
        assert await check_canary(database, AFTER)
        assert len(await read(database, AFTER)) == 2 * BATCH


@pytest.mark.gen_test
async def test_a_set_that_no_key_decrypts_is_left_and_reported_and_the_canary_waits(
    database_url: str,
) -> None:
    await filled(database_url, 5)
    lost = Encryption((generate_key(),)).encrypt("lost")

    def spoil(db: peewee.Database) -> None:
        one = OAuthToken.select().where(OAuthToken.refresh_token.is_null(False)).get(db)
        OAuthToken.update({OAuthToken.refresh_token: lost}).where(OAuthToken.id == one.id).execute(
            db
        )

    async with opened(database_url) as database:
        await database.run(spoil)
        assert await rotate_keys(database, DURING) == Rotated(rotated=4, unreadable=1)
        rows: list[Any] = await database.run(raw)
        assert sum(lost in row for row in rows) == 1
        assert await check_canary(database, BEFORE)
        assert not await check_canary(database, AFTER)


@pytest.mark.slow
@pytest.mark.gen_test
async def test_tokens_that_are_refreshed_meanwhile_keep_what_is_new(database_url: str) -> None:
    size = 2 * BATCH
    await filled(database_url, size)
    tokens = ProviderTokens(DURING)
    async with opened(database_url) as operator, opened(database_url) as serving:
        ids = await serving.run(lambda db: [row.id for row in OAuthToken.select().execute(db)])

        def refresh(db: peewee.Database, tokens_id: str) -> None:
            found: TokenSet | None = tokens.get(db, tokens_id)
            assert found is not None
            new = Grant(Secret(f"new-{tokens_id}"), Secret("rt"), None, "", None)
            assert tokens.replace(db, found, new)

        async def all_refreshed() -> None:
            for tokens_id in ids:
                await serving.run(refresh, tokens_id)

        rotated, _ = await asyncio.gather(rotate_keys(operator, DURING), all_refreshed())
        assert rotated.unreadable == 0
        assert await read(serving, AFTER) == sorted(f"new-{tokens_id}" for tokens_id in ids)
        assert await check_canary(serving, AFTER)


class Meddled(Encryption):
    """Lets another node write to the row that is being rotated, between reading and writing."""

    url = ""
    written = ""

    def rotate(self, ciphertext: str) -> str:
        if not self.written:
            self.written = AFTER.encrypt("written meanwhile")
            look(
                self.url,
                "UPDATE oauth_tokens SET access_token = ? WHERE access_token = ?",
                self.written,
                ciphertext,
            )
        return super().rotate(ciphertext)


@on_postgresql  # SQLite has one writer: there nobody can come between
@pytest.mark.gen_test
async def test_what_comes_between_reading_and_writing_is_not_written_over(
    database_url: str,
) -> None:
    await filled(database_url, 1)
    keys = Meddled((NEW, OLD))
    keys.url = database_url
    async with opened(database_url) as database:
        await rotate_keys(database, keys)
        assert await read(database, AFTER) == ["written meanwhile"]
