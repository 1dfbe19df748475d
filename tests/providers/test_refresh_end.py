"""Provider tokens that end: by the provider, or because the account was unlinked."""

from __future__ import annotations

import asyncio

import pytest

from models.oauth_token import OAuthToken
from services.errors import NotFound
from services.providers.tokens import AHEAD_SECONDS
from services.websocket.protocol import CloseCode
from tests.providers.refreshes import (
    WHILE,
    a_node,
    calls,
    change,
    op,
    over,
    sets,
    sign_in,
    text,
    two_nodes,
    valid,
)
from tests.support.parts import open_socket
from tests.support.provider import Provider
from tests.support.redis import until, within

__all__ = ["op"]

ENDS = ("invalid_grant", "sub_changed")


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
