"""Valid provider tokens: refreshed in advance, by one caller at a time."""

from __future__ import annotations

import asyncio

import pytest

from models.oauth_token import OAuthToken
from services.errors import NotFound
from services.oauth.errors import ProviderUnavailable
from services.providers.refresh import WAIT_SECONDS
from services.providers.refresh_rows import CLAIM_SECONDS
from services.providers.tokens import AHEAD_SECONDS
from tests.providers.refreshes import (
    WHILE,
    a_node,
    calls,
    change,
    only_set,
    op,
    over,
    sign_in,
    text,
    two_nodes,
    valid,
)
from tests.support.oauth import NAME
from tests.support.parts import LIFETIME
from tests.support.provider import Provider
from tests.support.redis import until, within

__all__ = ["op"]

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
