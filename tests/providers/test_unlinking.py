"""Unlinking accounts at providers, never the last sign-in method."""

from __future__ import annotations

import asyncio

import pytest

from services.errors import NotFound
from services.oauth.errors import LastWayIn, Reason, SignInRefused
from services.websocket.protocol import CloseCode
from tests.providers.links import (
    identity_rows,
    link,
    linked,
    profile,
    sign_in,
    token_sets,
    unlink,
    with_password,
)
from tests.providers.sign_ins import settings, two_nodes
from tests.support.parts import node, open_socket, session_row
from tests.support.redis import within


@pytest.mark.gen_test
async def test_unlinking_ends_what_came_of_the_account_and_nothing_else(database_url: str) -> None:
    async with two_nodes(database_url) as both:
        ada = await with_password(both[0])
        await link(both[0], ada)
        await link(both[0], ada, profile("at-second"), settings("second"))
        by_idp = await sign_in(both[0], profile())
        by_second = await sign_in(both[1], profile("at-second"), settings("second"))
        sockets = [await open_socket(both[0], one) for one in (ada, by_idp, by_second)]
        given_back = await unlink(both[1], ada.user.id)
        assert {tokens.login_session_id for tokens in given_back} == {None, by_idp.claims.sid}
        assert {tokens.provider for tokens in given_back} == {"idp"}
        await both[0].revocations.sweep()
        assert await sockets[1].close_code() == CloseCode.SESSION_REVOKED
        alive = await both[0].login_sessions.active(ada.user.id)
        assert {row.id for row in alive} == {ada.claims.sid, by_second.claims.sid}
        assert await linked(both[0], ada.user.id) == ["second"]
        kept = await both[0].database.run(token_sets)
        assert set(kept) == {("second", None), ("second", by_second.claims.sid)}
        session = await both[0].database.run(session_row, by_idp.claims.sid)
        assert session["end_reason"] == "unlinked"


@pytest.mark.gen_test
async def test_what_was_unlinked_opens_the_account_no_more(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.user("Root", "admin")
        ada = await with_password(parts)
        await link(parts, ada)
        await unlink(parts, ada.user.id)
        assert (await sign_in(parts, profile())).user.id != ada.user.id


@pytest.mark.gen_test
async def test_nor_does_its_address_until_it_is_linked_again(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await with_password(parts)
        mine = profile(email=ada.user.email)
        await link(parts, ada, mine)
        await unlink(parts, ada.user.id)
        for who in (mine, profile("another", email=ada.user.email)):
            with pytest.raises(SignInRefused) as caught:
                await sign_in(parts, who)
            assert caught.value.reason is Reason.NO_ACCOUNT
        by_second = await sign_in(parts, mine, settings("second"))
        assert by_second.user.id == ada.user.id, "that one was not unlinked"
        await link(parts, ada, mine)
        assert (await sign_in(parts, mine)).user.id == ada.user.id
        await unlink(parts, ada.user.id)
        await unlink(parts, ada.user.id, "second")
        await parts.administration.delete(ada.user.id)
        assert (await sign_in(parts, mine)).user.id != ada.user.id


@pytest.mark.gen_test
async def test_the_last_sign_in_method_cannot_be_removed(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await sign_in(parts, profile())
        with pytest.raises(LastWayIn):
            await unlink(parts, ada.user.id)
        await link(parts, ada, profile("gone"), settings("gone"))
        with pytest.raises(LastWayIn):  # nobody can sign in there any more
            await unlink(parts, ada.user.id)
        await link(parts, ada, profile("at-second"), settings("second"))
        await unlink(parts, ada.user.id)
        with pytest.raises(LastWayIn):
            await unlink(parts, ada.user.id, "second")
        await unlink(parts, ada.user.id, "gone")
        assert await linked(parts, ada.user.id) == ["second"]
        assert len(await parts.login_sessions.active(ada.user.id)) == 0, "it came by idp"


@pytest.mark.gen_test
async def test_of_two_last_sign_in_methods_unlinked_concurrently_one_stays(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as both:
        for number in range(5):
            ada = await sign_in(both[0], profile(f"s-{number}", f"p{number}@example.org"))
            await link(both[0], ada, profile(f"s-{number}"), settings("second"))
            outcomes = await within(
                asyncio.gather(
                    unlink(both[0], ada.user.id, "idp"),
                    unlink(both[1], ada.user.id, "second"),
                    return_exceptions=True,
                )
            )
            assert sum(isinstance(one, LastWayIn) for one in outcomes) == 1, outcomes
            assert len(await linked(both[0], ada.user.id)) == 1


@pytest.mark.gen_test
async def test_a_user_can_unlink_only_their_own_accounts(database_url: str) -> None:
    async with node(database_url) as parts:
        ada, eve = await with_password(parts), await with_password(parts, "Eve")
        await link(parts, ada)
        for user_id, provider in (
            (eve.user.id, "idp"),
            (ada.user.id, "second"),
            (ada.user.id, ""),
            ("nobody", "idp"),
        ):
            with pytest.raises(NotFound):
                await unlink(parts, user_id, provider)
        assert await linked(parts, ada.user.id) == ["idp"]


@pytest.mark.gen_test
async def test_of_two_users_who_link_one_account_concurrently_one_succeeds(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as both:
        crowd = [await with_password(both[0]) for _ in range(8)]
        outcomes = await within(
            asyncio.gather(
                *(link(both[n % 2], one) for n, one in enumerate(crowd)), return_exceptions=True
            )
        )
        kept_out = [one for one in outcomes if isinstance(one, SignInRefused)]
        assert {one.reason for one in kept_out} == {Reason.LINKED_ELSEWHERE}
        assert outcomes.count(None) == 1
        assert len(await both[0].database.run(identity_rows)) == 1


@pytest.mark.gen_test
async def test_concurrent_links_of_one_account_create_one_link(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as both:
        ada = await with_password(both[0])
        await within(asyncio.gather(*(link(both[n % 2], ada) for n in range(8))))
        assert await linked(both[0], ada.user.id) == ["idp"]
        assert await both[0].database.run(token_sets) == [("idp", None)]
