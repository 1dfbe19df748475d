"""Tokens that are given back to the provider, in the background."""

from __future__ import annotations

import pytest

from services.providers import logout as provider_logout
from services.providers.logout import GIVE_BACK_TRIES
from services.providers.tokens import TokenSet
from services.sessions.session_views import SignedIn
from tests.providers.logouts import a_node, op, sign_in
from tests.support.oauth import hurried, real_clock
from tests.support.parts import Parts, node
from tests.support.provider import Provider
from tests.support.redis import until, within

__all__ = ["op"]


async def taken(parts: Parts, who: SignedIn) -> list[TokenSet]:
    return await parts.database.run(parts.oauth.tokens.take, who.user.id)


def given_back(parts: Parts, outcome: str) -> float:
    return parts.count("usher_oauth_given_back_total", outcome=outcome)


@pytest.mark.gen_test
async def test_tokens_are_revoked_in_the_background(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        await sign_in(parts)
        op.misbehave(revoke="held")
        parts.oauth.logout.give_back(await taken(parts, ada))
        await until(lambda: op.count("revoke") == 2)
        assert given_back(parts, "done") == 0
        op.behave()
        await until(lambda: given_back(parts, "done") == 2)
        assert {token for token, _ in op.revoked} == set(op.given_refresh_tokens)
        await until(lambda: not parts.oauth.logout._giving_back)


@pytest.mark.gen_test
async def test_deleting_an_account_revokes_its_provider_tokens(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        await parts.user("Root", "admin")
        ada = await sign_in(parts)
        await parts.administration.delete(ada.user.id)
        await until(lambda: len(op.revoked) == 1)
        assert op.revoked == [(op.given_refresh_tokens[-1], "refresh_token")]


@pytest.mark.gen_test
@pytest.mark.parametrize("fault", ["http_500", "closes", "held", "redirect_elsewhere"])
async def test_a_provider_that_errs_is_asked_again(
    database_url: str, op: Provider, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_logout, "GIVE_BACK_AGAIN_SECONDS", 0.05)
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        op.misbehave(revoke=fault, times=2)
        with hurried(fault):
            parts.oauth.logout.give_back(await taken(parts, ada))
            await until(lambda: op.count("revoke") == 3)
        await until(lambda: given_back(parts, "done") == 1)
        assert op.count("revoke") == 3
        assert op.elsewhere.requests == []
        op.behave()


@pytest.mark.gen_test
async def test_and_is_left_alone_in_the_end(
    database_url: str, op: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_logout, "GIVE_BACK_AGAIN_SECONDS", 0.01)
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        op.misbehave(revoke="http_503")
        parts.oauth.logout.give_back(await taken(parts, ada))
        await until(lambda: given_back(parts, "failed") == 1)
        assert op.count("revoke") == GIVE_BACK_TRIES


@pytest.mark.gen_test
async def test_more_than_can_be_given_back_are_dropped_and_counted(
    database_url: str, op: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_logout, "MAX_GIVING_BACK", 3)
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        (one,) = await taken(parts, ada)
        op.misbehave(revoke="held")
        parts.oauth.logout.give_back([one] * 5)
        assert given_back(parts, "dropped") == 2
        op.behave()
        await until(lambda: given_back(parts, "done") == 3)


@pytest.mark.gen_test
async def test_what_a_provider_gave_that_is_set_no_more_is_forgotten(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        sets = await taken(parts, ada)
    async with node(database_url, clock=real_clock()) as without:
        without.oauth.logout.give_back(sets)
        assert not without.oauth.logout._giving_back


@pytest.mark.gen_test
async def test_closing_waits_for_no_provider(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        op.misbehave(revoke="held")
        parts.oauth.logout.give_back(await taken(parts, ada))
        await until(lambda: op.count("revoke") == 1)
        await within(parts.oauth.logout.close(), 5.0)
        assert not parts.oauth.logout._giving_back
        op.behave()


@pytest.mark.gen_test
async def test_nothing_counts_as_given_back_where_nothing_was_sent(
    database_url: str, op: Provider
) -> None:
    op.misbehave(discovery="no_revocation")
    async with a_node(database_url, op) as parts:
        who = await sign_in(parts)
        sets = await parts.database.run(parts.oauth.tokens.take, who.user.id)
        assert len(sets) == 1
        parts.oauth.logout.give_back(sets)
        await until(lambda: not parts.oauth.logout._giving_back)
        assert op.count("revoke") == 0
        assert [given_back(parts, outcome) for outcome in ("done", "failed", "dropped")] == [0] * 3
