"""Stored provider tokens: only ciphertext, and a wrong key loses nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from models.identity import Identity
from models.oauth_token import OAuthToken
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.providers.identity_rows import insert as insert_identity
from services.providers.tokens import AHEAD_SECONDS, LEAST_SECONDS, ProviderTokens, TokenSet
from services.secret import Secret
from services.sessions.session_views import SignedIn
from services.storage.encryption import DecryptionFailed, Encryption, generate_key
from tests.support.parts import LIFETIME, Parts, node

SECRETS = ("the-access-token", "the-refresh-token", "the-id-token")
IDENTITY = ("idp", "ada")


def grant(ends_at: float | None = None, suffix: str = "", refresh: bool = True) -> Grant:
    access, refresh_token, id_token = (Secret(secret + suffix) for secret in SECRETS)
    return Grant(access, refresh_token if refresh else None, id_token, "openid email", ends_at)


@asynccontextmanager
async def linked(database_url: str) -> AsyncIterator[tuple[Parts, SignedIn]]:
    """A node, and somebody with a linked account at `idp`."""
    async with node(database_url) as parts:
        ada = await parts.signed_in()
        who = ProviderProfile("https://idp.example", "ada", None, "", False, "Ada", {})
        await parts.database.run(insert_identity, "idp", who, ada.user.id, parts.clock())
        yield parts, ada


async def keep(parts: Parts, ada: SignedIn, session: str | None, given: Grant) -> TokenSet:
    """Insert a set, and give it as it is read."""
    tokens = parts.oauth.tokens
    before = set(await parts.database.run(ids))
    await parts.database.run(tokens.insert, ada.user.id, IDENTITY, session, given)
    (new,) = set(await parts.database.run(ids)) - before
    return await read(parts, new)


async def read(parts: Parts, tokens_id: str) -> TokenSet:
    found = await parts.database.run(parts.oauth.tokens.get, tokens_id)
    assert found is not None
    return found


def ids(db: peewee.Database) -> list[str]:
    return [row.id for row in OAuthToken.select().execute(db)]


def raw(db: peewee.Database) -> list[dict[str, Any]]:
    query: Any = OAuthToken.select().order_by(OAuthToken.id).dicts()
    return list(query.execute(db))


def revealed(given: Grant) -> tuple[str | None, ...]:
    texts = given.access_token, given.refresh_token, given.id_token
    return tuple(None if text is None else text.reveal() for text in texts)


# ---- at rest -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_what_was_kept_is_read_as_it_was(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        for session in (ada.claims.sid, None):
            given = grant(parts.clock() + 3600.0)
            found = await keep(parts, ada, session, given)
            assert revealed(found.grant) == SECRETS
            assert (found.provider, found.subject, found.user_id) == (*IDENTITY, ada.user.id)
            assert found.login_session_id == session
            assert (found.grant.scopes, found.grant.expires_at) == (
                "openid email",
                given.expires_at,
            )
            assert (found.version, found.failures, found.try_at) == (1, 0, None)


@pytest.mark.gen_test
async def test_only_ciphertext_lies_in_the_database_and_the_end_in_the_clear(
    database_url: str,
) -> None:
    async with linked(database_url) as (parts, ada):
        await keep(parts, ada, ada.claims.sid, grant(parts.clock() + 3600.0))
        (row,) = await parts.database.run(raw)
        assert not any(secret in repr(row) for secret in SECRETS)
        assert row["access_token"].startswith("gAAAA")
        assert row["expires_at"] == parts.clock() + 3600.0
        again = await keep(parts, ada, None, grant())
        both = await parts.database.run(raw)
        assert len({found["access_token"] for found in both}) == 2, "the same text, another time"
        assert "the-" not in f"{again!r}{again}"


@pytest.mark.gen_test
async def test_what_a_provider_does_not_give_is_not_there(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        bare = Grant(Secret("the-access-token"), None, None, "", None)
        found = await keep(parts, ada, ada.claims.sid, bare)
        assert revealed(found.grant) == ("the-access-token", None, None)
        assert (found.grant.expires_at, found.refresh_at) == (None, None)
        (row,) = await parts.database.run(raw)
        assert (row["refresh_token"], row["id_token"]) == (None, None)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("lives", "due"),
    [
        (3600.0, 3600.0 - AHEAD_SECONDS),
        (60.0, 30.0),
        (2 * AHEAD_SECONDS, AHEAD_SECONDS),
        (5.0, LEAST_SECONDS),
        (0.0, LEAST_SECONDS),
    ],
)
async def test_they_are_to_be_refreshed_some_time_before_their_end(
    database_url: str, lives: float, due: float
) -> None:
    async with linked(database_url) as (parts, ada):
        found = await keep(parts, ada, ada.claims.sid, grant(parts.clock() + lives))
        assert found.refresh_at == parts.clock() + due


@pytest.mark.gen_test
async def test_a_linking_has_one_set_and_each_sign_in_its_own(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        other = await parts.signed_in(ada.user.id)
        await keep(parts, ada, ada.claims.sid, grant())
        await keep(parts, ada, other.claims.sid, grant())
        first = await keep(parts, ada, None, grant(suffix="-1"))
        second = await keep(parts, ada, None, grant(suffix="-2"))
        kept = await parts.database.run(ids)
        assert (first.id in kept, second.id in kept, len(kept)) == (False, True, 3)


# ---- with a wrong key ----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_wrong_key_reads_nothing_and_deletes_nothing(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        found = await keep(parts, ada, ada.claims.sid, grant())
        before = await parts.database.run(raw)
        other_keys = ProviderTokens(Encryption((generate_key(),)), parts.clock)
        reads: tuple[Callable[[peewee.Database, str], object], ...] = (
            lambda db, _: other_keys.get(db, found.id),
            lambda db, _: other_keys.of_login_session(db, ada.claims.sid),
        )
        for read_it in reads:
            with pytest.raises(DecryptionFailed):
                await parts.database.run(read_it, "")
        assert await parts.database.run(other_keys.newest, ada.user.id, "idp") == found.id
        assert await parts.database.run(raw) == before
        assert revealed((await read(parts, found.id)).grant) == SECRETS


@pytest.mark.gen_test
async def test_a_ciphertext_that_was_changed_is_not_read(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        found = await keep(parts, ada, ada.claims.sid, grant())
        (row,) = await parts.database.run(raw)

        def swap(db: peewee.Database) -> None:
            # Not even for another ciphertext of ours, cut short.
            changed = {OAuthToken.refresh_token: row["refresh_token"][:-8]}
            OAuthToken.update(changed).execute(db)

        await parts.database.run(swap)
        with pytest.raises(DecryptionFailed):
            await read(parts, found.id)


@pytest.mark.gen_test
async def test_an_account_is_deleted_even_if_no_key_decrypts_its_tokens(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        await keep(parts, ada, ada.claims.sid, grant())
        other_keys = ProviderTokens(Encryption((generate_key(),)), parts.clock)
        assert await parts.database.run(other_keys.take, ada.user.id) == []
        assert await parts.database.run(raw) == []


# ---- in the place of others ----------------------------------------------------------------


@pytest.mark.gen_test
async def test_refreshed_tokens_take_the_place_of_those_that_were_refreshed(
    database_url: str,
) -> None:
    async with linked(database_url) as (parts, ada):
        old = await keep(parts, ada, ada.claims.sid, grant(parts.clock() + 60.0))
        parts.clock.forward(50.0)
        new = grant(parts.clock() + 3600.0, "-new")
        assert await parts.database.run(parts.oauth.tokens.replace, old, new)
        found = await read(parts, old.id)
        assert revealed(found.grant) == tuple(secret + "-new" for secret in SECRETS)
        assert found.grant.expires_at == new.expires_at
        assert found.refresh_at == parts.clock() + 3600.0 - AHEAD_SECONDS
        assert found.version == 2
        assert not await parts.database.run(parts.oauth.tokens.replace, old, grant())
        assert revealed((await read(parts, old.id)).grant) == revealed(new)


@pytest.mark.gen_test
async def test_an_id_token_stays_where_no_new_one_comes(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        old = await keep(parts, ada, ada.claims.sid, grant())
        new = Grant(Secret("at"), Secret("rt"), None, "", None)
        assert await parts.database.run(parts.oauth.tokens.replace, old, new)
        assert revealed((await read(parts, old.id)).grant) == ("at", "rt", "the-id-token")


@pytest.mark.gen_test
async def test_nothing_takes_the_place_of_what_is_gone(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        old = await keep(parts, ada, ada.claims.sid, grant())
        await parts.database.run(parts.oauth.tokens.take, ada.user.id)
        assert not await parts.database.run(parts.oauth.tokens.replace, old, grant())
        assert await parts.database.run(raw) == []


# ---- found and taken -----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_newest_live_set_is_found(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        newest, database = parts.oauth.tokens.newest, parts.database
        assert await database.run(newest, ada.user.id, "idp") is None
        link = await keep(parts, ada, None, grant())
        parts.clock.forward(1.0)
        first = await keep(parts, ada, ada.claims.sid, grant())
        parts.clock.forward(1.0)
        other = await parts.signed_in(ada.user.id)
        second = await keep(parts, ada, other.claims.sid, grant())
        assert await database.run(newest, ada.user.id, "idp") == second.id
        await parts.session_ends.end(ada.user.id, other.claims.sid, "logout")
        assert await database.run(newest, ada.user.id, "idp") == first.id
        parts.clock.forward(LIFETIME)
        assert await database.run(newest, ada.user.id, "idp") == link.id
        assert await database.run(newest, ada.user.id, "other") is None
        assert await database.run(newest, "nobody", "idp") is None


@pytest.mark.gen_test
async def test_one_that_has_ended_and_can_not_be_refreshed_comes_last(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        newest, database = parts.oauth.tokens.newest, parts.database
        first = await keep(parts, ada, None, grant(parts.clock() + 60.0))
        parts.clock.forward(1.0)
        second = await keep(parts, ada, ada.claims.sid, grant(parts.clock() + 60.0, refresh=False))
        assert await database.run(newest, ada.user.id, "idp") == second.id
        parts.clock.forward(60.0)
        assert await database.run(newest, ada.user.id, "idp") == first.id
        await database.run(
            lambda db: OAuthToken.delete().where(OAuthToken.id == first.id).execute(db)
        )
        assert await database.run(newest, ada.user.id, "idp") == second.id


@pytest.mark.gen_test
async def test_the_set_of_a_login_session_is_found(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        of, database = parts.oauth.tokens.of_login_session, parts.database
        assert await database.run(of, ada.claims.sid) is None
        await keep(parts, ada, None, grant())
        kept = await keep(parts, ada, ada.claims.sid, grant())
        found = await database.run(of, ada.claims.sid)
        assert found == kept


@pytest.mark.gen_test
async def test_sets_are_accepted_out_of_one_provider_or_of_all(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        who = ProviderProfile("https://second.example", "ada", None, "", False, "Ada", {})
        await parts.database.run(insert_identity, "second", who, ada.user.id, parts.clock())
        tokens, database = parts.oauth.tokens, parts.database
        await keep(parts, ada, None, grant())
        await keep(parts, ada, ada.claims.sid, grant())
        await database.run(tokens.insert, ada.user.id, ("second", "ada"), None, grant())
        taken = await database.run(tokens.take, ada.user.id, "idp")
        assert {one.login_session_id for one in taken} == {None, ada.claims.sid}
        assert [one.provider for one in await database.run(tokens.take, ada.user.id)] == ["second"]
        assert await database.run(tokens.take, ada.user.id) == []


@pytest.mark.gen_test
async def test_they_go_with_the_link_and_with_the_user(database_url: str) -> None:
    async with linked(database_url) as (parts, ada):
        await parts.user("Root", "admin")
        await keep(parts, ada, None, grant())
        await parts.database.run(lambda db: Identity.delete().execute(db))
        assert await parts.database.run(raw) == []
