"""Provider tokens that are refreshed in the background."""

from __future__ import annotations

import asyncio

import peewee
import pytest

from models.oauth_token import OAuthToken
from services.errors import DatabaseUnavailable, NotFound
from services.oauth import http as oauth_http
from services.providers.refresh_rows import CLAIM_SECONDS, KEEP_BATCH, SEEN_SECONDS
from services.providers.tokens import AHEAD_SECONDS
from services.sessions.session_views import SignedIn
from services.storage.encryption import DecryptionFailed
from tests.providers.refreshes import (
    WHILE,
    a_node,
    calls,
    change,
    only_set,
    op,
    over,
    sets,
    sign_in,
    two_nodes,
    valid,
)
from tests.support.parts import Parts
from tests.support.provider import Provider, provider
from tests.support.redis import until, within

__all__ = ["op"]


async def crowd(parts: Parts, op: Provider, size: int) -> SignedIn:
    """Somebody with many sign-ins, whose tokens are copies that a provider like this takes."""
    op.refresh_tokens = "kept"
    ada = await sign_in(parts)
    first = await only_set(parts)
    for number in range(1, size):
        session = await parts.signed_in(ada.user.id)
        copy = {**first, "id": f"copy-{number:03}", "login_session": session.claims.sid}
        await parts.database.run(lambda db, row=copy: OAuthToken.insert(row).execute(db))  # type: ignore[misc]
    return ada


@pytest.mark.gen_test
async def test_tokens_near_their_expiry_are_refreshed_in_the_background(
    database_url: str, op: Provider
) -> None:
    size = KEEP_BATCH + 5
    async with a_node(database_url, op) as parts:
        await crowd(parts, op, size)
        await parts.oauth.refresh.keep()
        assert calls(op) == 0
        parts.clock.forward(WHILE - AHEAD_SECONDS)
        await within(parts.oauth.refresh.keep())
        assert calls(op) == size
        assert {row["version"] for row in await parts.database.run(sets)} == {2}
        await parts.oauth.refresh.keep()
        assert calls(op) == size


@pytest.mark.gen_test
async def test_two_nodes_that_keep_them_share_the_work(database_url: str, op: Provider) -> None:
    async with two_nodes(database_url, op) as both:
        await crowd(both[0], op, 20)
        both[0].clock.forward(WHILE)
        await within(asyncio.gather(*(parts.oauth.refresh.keep() for parts in both)))
        assert calls(op) == 20
        assert {row["version"] for row in await both[0].database.run(sets)} == {2}


@pytest.mark.gen_test
async def test_some_are_left_until_they_are_asked_for(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        parts.clock.forward(WHILE)
        later = parts.clock() + 10.0
        for values in (
            {OAuthToken.try_at: later},
            {OAuthToken.claimed_until: later},
            {OAuthToken.refresh_token: None},
            {OAuthToken.login_session: None},
        ):
            row = await only_set(parts)
            await parts.database.run(change, values)
            await parts.oauth.refresh.keep()
            assert calls(op) == 0, values
            await parts.database.run(change, {name: row[name.name] for name in values})
        parts.clock.forward(SEEN_SECONDS)
        await parts.oauth.refresh.keep()
        assert calls(op) == 0, "nobody was seen for a day"
        await parts.login_sessions.touch({ada.claims.sid: parts.clock()})
        with pytest.raises(NotFound):
            await valid(parts, ada)  # the login session is over by now


@pytest.mark.gen_test
async def test_a_provider_that_is_down_blocks_no_other(database_url: str, op: Provider) -> None:
    with provider(expires_in=int(WHILE)) as sound:
        async with a_node(database_url, op, sound) as parts:
            await crowd(parts, op, KEEP_BATCH + 5)
            sound.user = {"sub": "grace", "email": "grace@example.org", "name": "Grace"}
            await sign_in(parts, "other-1")
            op.misbehave(refresh="held")
            parts.clock.forward(WHILE)
            keeping = asyncio.ensure_future(parts.oauth.refresh.keep())
            await until(lambda: calls(sound) == 1)
            assert not keeping.done(), "it was asked while the other had not answered"
            op.misbehave(refresh="http_503")
            op.hang_up()
            await within(keeping)
            assert calls(op) == KEEP_BATCH, "a whole page failed: the rest is left for later"
            op.behave()


@pytest.mark.gen_test
async def test_sets_that_no_key_fits_keep_no_others_from_it_and_stay(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await crowd(parts, op, KEEP_BATCH + 5)
        unreadable = OAuthToken.id.startswith("copy-")

        def spoil(db: peewee.Database) -> None:
            changes = {OAuthToken.access_token: "gAAAAA", OAuthToken.refresh_at: 0.5}
            OAuthToken.update(changes).where(unreadable).execute(db)

        await parts.database.run(spoil)
        parts.clock.forward(WHILE)
        await within(parts.oauth.refresh.keep())
        assert calls(op) == 1
        rows = await parts.database.run(sets)
        assert len(rows) == KEEP_BATCH + 5
        assert await over(parts, ada) is None


@pytest.mark.gen_test
async def test_with_a_wrong_key_nothing_is_asked_and_nothing_lost(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        before = await only_set(parts)
    async with a_node(database_url, op) as other_node:  # with keys of its own
        other_node.clock.forward(WHILE)
        with pytest.raises(DecryptionFailed):
            await valid(other_node, ada)
        await other_node.oauth.refresh.keep()
        assert await only_set(other_node) == before
        assert calls(op) == 0


@pytest.mark.gen_test
async def test_a_database_that_is_unavailable_is_said_to_be(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        await parts.database.close()
        with pytest.raises(DatabaseUnavailable):
            await parts.oauth.refresh.keep()
        with pytest.raises(DatabaseUnavailable):
            await valid(parts, ada)


def test_a_claim_outlives_every_call_that_it_is_made_for() -> None:
    from_queue_to_send = 2 * oauth_http.CALL_SECONDS + oauth_http.CALL_SECONDS
    assert from_queue_to_send + 10.0 <= CLAIM_SECONDS
