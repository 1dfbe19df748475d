"""Valid provider tokens: refreshed in advance, by one caller at a time, ended only by the
provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from models.oauth_token import OAuthToken
from services.errors import DatabaseUnavailable, NotFound
from services.oauth import http as oauth_http
from services.oauth.errors import ProviderUnavailable
from services.providers.refresh import (
    WAIT_SECONDS,
    ProviderToken,
)
from services.providers.refresh_rows import CLAIM_SECONDS, KEEP_BATCH, SEEN_SECONDS
from services.providers.tokens import AHEAD_SECONDS
from services.sessions.session_views import SignedIn
from services.storage.encryption import DecryptionFailed
from services.websocket.protocol import CloseCode
from tests.support.oauth import NAME, came_to, finished, real_clock, settings_of
from tests.support.parts import LIFETIME, Parts, node, open_socket, session_row, settings_of_tests
from tests.support.provider import Provider, provider
from tests.support.redis import until, within

WHILE = 3600.0
"""As long as an access token lives in these tests."""
ENDS = ("invalid_grant", "sub_changed")


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider(expires_in=int(WHILE)) as running:
        yield running


@asynccontextmanager
async def a_node(database_url: str, *ops: Provider, **more: Any) -> AsyncIterator[Parts]:
    names = (NAME, *(f"other-{number}" for number in range(1, len(ops))))
    chosen = settings_of_tests(
        *(settings_of(op, name, **more) for op, name in zip(ops, names, strict=True))
    )
    async with node(database_url, clock=real_clock(), settings=chosen) as parts:
        yield parts


@asynccontextmanager
async def two_nodes(database_url: str, op: Provider) -> AsyncIterator[tuple[Parts, Parts]]:
    shared = settings_of_tests(settings_of(op))
    async with (
        node(database_url, clock=real_clock(), settings=shared) as here,
        node(database_url, clock=here.clock, settings=shared, name="other") as there,
    ):
        yield here, there


async def sign_in(parts: Parts, name: str = NAME) -> SignedIn:
    done = await finished(parts, await came_to(parts, name))
    assert done.signed_in is not None
    return done.signed_in


async def valid(parts: Parts, who: SignedIn, name: str = NAME) -> ProviderToken:
    return await parts.oauth.refresh.valid(who.user.id, name)


async def text(parts: Parts, who: SignedIn) -> str:
    return (await valid(parts, who)).access_token.reveal()


def sets(db: peewee.Database) -> list[dict[str, Any]]:
    query: Any = OAuthToken.select().order_by(OAuthToken.created_at, OAuthToken.id).dicts()
    return list(query.execute(db))


async def only_set(parts: Parts) -> dict[str, Any]:
    (row,) = await parts.database.run(sets)
    return row


def change(db: peewee.Database, values: dict[Any, Any]) -> None:
    OAuthToken.update(values).execute(db)


async def over(parts: Parts, who: SignedIn) -> str | None:
    """Why a login session has ended; None while it has not."""
    row = await parts.database.run(session_row, who.claims.sid)
    reason: str | None = row["end_reason"]
    return reason


def calls(op: Provider) -> int:
    """How often the provider was asked for new tokens."""
    return sum(seen.form.get("grant_type") == "refresh_token" for seen in op.at("token"))


# ---- when it is time -----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_token_is_given_as_it_is_until_it_is_time(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        token = await valid(parts, ada)
        assert token.access_token.reveal() == op.access_tokens[-1]
        assert token.expires_at == parts.clock() + WHILE
        assert set(token.scopes.split()) == {"openid", "email", "profile"}
        parts.clock.forward(WHILE - AHEAD_SECONDS - 1.0)
        assert await valid(parts, ada) == token
        assert calls(op) == 0


@pytest.mark.gen_test
async def test_it_is_refreshed_ahead_of_its_end_and_kept(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        for times in (1, 2, 3):
            parts.clock.forward(WHILE - AHEAD_SECONDS)
            token = await valid(parts, ada)
            assert token.access_token.reveal() == op.access_tokens[-1]
            assert token.expires_at == parts.clock() + WHILE
            assert await valid(parts, ada) == token
            assert calls(op) == times, "and the refresh token that was rotated is the one in use"
            row = await only_set(parts)
            assert (row["version"], row["claimed_until"], row["failures"]) == (times + 1, None, 0)
        assert parts.count("usher_oauth_refreshes_total", outcome="refreshed") == 3


@pytest.mark.gen_test
async def test_a_refresh_token_that_is_not_rotated_continues(
    database_url: str, op: Provider
) -> None:
    op.refresh_tokens = "kept"
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        for times in (1, 2):
            parts.clock.forward(WHILE)
            await valid(parts, ada)
            assert calls(op) == times


@pytest.mark.gen_test
async def test_a_token_without_an_end_is_not_refreshed(database_url: str, op: Provider) -> None:
    op.expires_in = None
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        parts.clock.forward(LIFETIME - 1.0)
        assert (await valid(parts, ada)).expires_at is None
        await parts.oauth.refresh.keep()
        assert calls(op) == 0


@pytest.mark.gen_test
async def test_a_short_lived_token_is_not_refreshed_at_every_call(
    database_url: str, op: Provider
) -> None:
    op.expires_in = 60
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        for _ in range(5):
            await valid(parts, ada)
            await parts.oauth.refresh.keep()
        assert calls(op) == 0
        parts.clock.forward(31.0)
        for _ in range(5):
            await valid(parts, ada)
            await parts.oauth.refresh.keep()
        assert calls(op) == 1


@pytest.mark.gen_test
async def test_without_a_refresh_token_it_is_valid_until_its_expiry(
    database_url: str, op: Provider
) -> None:
    op.refresh_tokens = "none"
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        parts.clock.forward(WHILE - 1.0)
        assert await text(parts, ada) == op.access_tokens[-1]
        parts.clock.forward(2.0)
        with pytest.raises(ProviderUnavailable):
            await valid(parts, ada)
        assert await over(parts, ada) is None
        assert calls(op) == 0


@pytest.mark.gen_test
async def test_a_user_without_valid_tokens_gets_an_error(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada, bare = await sign_in(parts), await parts.signed_in()
        for user_id, name in ((bare.user.id, NAME), (ada.user.id, "other"), ("nobody", NAME)):
            with pytest.raises(NotFound):
                await parts.oauth.refresh.valid(user_id, name)
        await parts.session_ends.end(ada.user.id, ada.claims.sid, "logout")
        with pytest.raises(NotFound):
            await valid(parts, ada)


# ---- one at a time -------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("lives", [WHILE, 60.0, 5.0])
async def test_of_fifty_callers_on_two_nodes_one_asks_the_provider(
    database_url: str, op: Provider, lives: float
) -> None:
    op.expires_in = int(lives)
    async with two_nodes(database_url, op) as both:
        ada = await sign_in(both[0])
        both[0].clock.forward(lives)
        op.misbehave(refresh="slow")
        op.delay = 0.5
        found = await within(asyncio.gather(*(text(both[n % 2], ada) for n in range(50))))
        assert set(found) == {op.access_tokens[-1]}
        assert calls(op) == 1
        assert (await only_set(both[0]))["version"] == 2


@pytest.mark.gen_test
async def test_two_sets_are_refreshed_beside_each_other(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        op.user = {"sub": "ada", "email": "ada@example.org", "name": "Ada"}
        ada = await sign_in(parts)
        op.user = {"sub": "grace", "email": "grace@example.org", "name": "Grace"}
        grace = await sign_in(parts)
        parts.clock.forward(WHILE)
        op.misbehave(refresh="held")
        asked = [asyncio.ensure_future(text(parts, who)) for who in (ada, grace)]
        await until(lambda: calls(op) == 2)
        op.behave()
        assert set(await within(asyncio.gather(*asked))) == set(op.access_tokens[-2:])


@pytest.mark.gen_test
async def test_a_cancelled_caller_does_not_cancel_the_others(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        parts.clock.forward(WHILE)
        op.misbehave(refresh="held")
        callers = [asyncio.ensure_future(text(parts, ada)) for _ in range(3)]
        await until(lambda: calls(op) == 1)
        callers[0].cancel()
        op.behave()
        assert await within(callers[1]) == await within(callers[2]) == op.access_tokens[-1]
        with pytest.raises(asyncio.CancelledError):
            await callers[0]


@pytest.mark.gen_test
async def test_a_refresh_whose_every_caller_has_left_is_kept(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        parts.clock.forward(WHILE)
        op.misbehave(refresh="held")
        caller = asyncio.ensure_future(text(parts, ada))
        await until(lambda: calls(op) == 1)
        caller.cancel()
        op.behave()
        await within(parts.oauth.refresh.close())
        assert (await only_set(parts))["version"] == 2
        assert await text(parts, ada) == op.access_tokens[-1]
        assert calls(op) == 1


@pytest.mark.gen_test
async def test_a_node_that_holds_a_set_is_waited_for_and_not_for_ever(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        parts.clock.forward(WHILE)
        claim = {OAuthToken.claimed_until: parts.clock() + CLAIM_SECONDS}
        await parts.database.run(change, claim)
        caller = asyncio.ensure_future(text(parts, ada))
        await until(lambda: parts.oauth.refresh._flights)
        parts.clock.forward(WAIT_SECONDS + 1.0)
        with pytest.raises(ProviderUnavailable, match="another node"):
            await within(caller)
        assert calls(op) == 0


@pytest.mark.gen_test
async def test_a_node_that_died_while_it_held_a_set_is_waited_out(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        parts.clock.forward(WHILE)
        claim = {OAuthToken.claimed_until: parts.clock() + CLAIM_SECONDS}
        await parts.database.run(change, claim)
        parts.clock.forward(CLAIM_SECONDS)
        assert await text(parts, ada) == op.access_tokens[-1]
        assert calls(op) == 1


@pytest.mark.gen_test
async def test_what_another_node_refreshed_meanwhile_is_accepted(
    database_url: str, op: Provider
) -> None:
    async with two_nodes(database_url, op) as both:
        ada = await sign_in(both[0])
        both[0].clock.forward(WHILE)
        op.misbehave(refresh="held")
        here = asyncio.ensure_future(text(both[0], ada))
        await until(lambda: calls(op) == 1)
        there = asyncio.ensure_future(text(both[1], ada))
        await until(lambda: both[1].oauth.refresh._flights)
        op.behave()
        assert await within(here) == await within(there) == op.access_tokens[-1]
        assert calls(op) == 1


@pytest.mark.gen_test
async def test_a_late_refresh_does_not_replace_that_of_another_node(
    database_url: str, op: Provider
) -> None:
    async with two_nodes(database_url, op) as both:
        ada = await sign_in(both[0])
        both[0].clock.forward(WHILE)
        op.misbehave(refresh=("invalid_grant", "held"), times=1)
        late = asyncio.ensure_future(text(both[0], ada))
        await until(lambda: calls(op) == 1)
        both[0].clock.forward(CLAIM_SECONDS)
        fresh = await text(both[1], ada)
        op.release()
        assert await within(late) == fresh
        assert await over(both[0], ada) is None
        assert calls(op) == 2


@pytest.mark.gen_test
async def test_nor_does_it_release_the_binding_of_another_node(
    database_url: str, op: Provider
) -> None:
    async with two_nodes(database_url, op) as both:
        ada = await sign_in(both[0])
        both[0].clock.forward(WHILE)
        op.misbehave(refresh=("temporarily_unavailable", "held"), times=1)
        late = asyncio.ensure_future(text(both[0], ada))
        await until(lambda: calls(op) == 1)
        both[0].clock.forward(CLAIM_SECONDS)
        theirs = both[0].clock() + CLAIM_SECONDS
        await both[1].database.run(change, {OAuthToken.claimed_until: theirs})
        op.release()
        with pytest.raises(ProviderUnavailable):
            await within(late)
        row = await only_set(both[0])
        assert (row["claimed_until"], row["failures"]) == (theirs, 0)


# ---- the end -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_providers_no_ends_the_session_and_its_sockets_on_every_node(
    database_url: str, op: Provider
) -> None:
    async with two_nodes(database_url, op) as both:
        ada, other = await sign_in(both[0]), await sign_in(both[1])
        by_password = await both[0].signed_in(ada.user.id)
        gone = [await open_socket(parts, ada) for parts in both]
        stays = [await open_socket(both[0], one) for one in (other, by_password)]
        ended_sid, _ = op.sids
        op.end_sessions(sid=ended_sid)
        both[0].clock.forward(WHILE - AHEAD_SECONDS)
        await within(both[0].oauth.refresh.keep())
        await both[1].revocations.sweep()
        for socket in gone:
            assert await socket.close_code() == CloseCode.SESSION_REVOKED
        assert await over(both[0], ada) == "provider_session_ended"
        for one in (other, by_password):
            assert await over(both[0], one) is None
        assert all(socket.client.connection.is_open for socket in stays)
        (row,) = await both[0].database.run(sets)
        assert row["login_session"] == other.claims.sid
        assert both[0].count("usher_oauth_refreshes_total", outcome="ended") == 1


@pytest.mark.gen_test
async def test_fifty_concurrent_callers_all_get_the_end(database_url: str, op: Provider) -> None:
    async with two_nodes(database_url, op) as both:
        ada = await sign_in(both[0])
        op.end_sessions()
        both[0].clock.forward(WHILE)
        asked = [text(both[n % 2], ada) for n in range(50)]
        outcomes = await within(asyncio.gather(*asked, return_exceptions=True))
        assert {type(one) for one in outcomes} == {NotFound}
        assert calls(op) == 1
        assert await both[0].database.run(sets) == []


@pytest.mark.gen_test
async def test_tokens_of_a_link_end_without_a_session(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        await parts.database.run(change, {OAuthToken.login_session: None})
        op.end_sessions()
        parts.clock.forward(WHILE)
        with pytest.raises(NotFound):
            await valid(parts, ada)
        assert await parts.database.run(sets) == []
        assert await over(parts, ada) is None


@pytest.mark.gen_test
async def test_tokens_that_came_for_what_was_unlinked_meanwhile_are_given_back(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        parts.clock.forward(WHILE)
        op.misbehave(refresh="held")
        caller = asyncio.ensure_future(text(parts, ada))
        await until(lambda: len(op.given_refresh_tokens) == 2)
        taken = await parts.database.run(parts.oauth.tokens.take, ada.user.id)
        assert len(taken) == 1
        op.behave()
        with pytest.raises(NotFound):
            await within(caller)
        assert op.revoked == [(op.given_refresh_tokens[-1], "refresh_token")]


# ---- kept valid ----------------------------------------------------------------------------


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
