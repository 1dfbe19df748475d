"""Linking accounts at providers: to whose account, and in whose login session."""

from __future__ import annotations

import pytest

from models.user import User
from services.errors import NotFound
from services.oauth.errors import Reason, SignInRefused
from services.providers.authorization_requests import Link, proof_of
from tests.providers.links import (
    grant,
    identity_rows,
    link,
    linked,
    profile,
    refused,
    sign_in,
    token_sets,
    unlink,
    with_password,
)
from tests.providers.sign_ins import settings
from tests.support.parts import LIFETIME, node, session_row

# ---- linking -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_linked_account_is_listed_and_opens_the_account(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await with_password(parts)
        await link(parts, ada)
        (account,) = await parts.oauth.linked_accounts.linked(ada.user.id, str.upper)
        assert (account.provider, account.title) == ("idp", "IDP")
        assert account.email == "at-the-provider@example.com"
        assert account.linked_at == account.last_used_at == parts.clock()
        assert (await sign_in(parts, profile())).user.id == ada.user.id
        assert await linked(parts, (await with_password(parts)).user.id) == []


@pytest.mark.gen_test
async def test_linking_needs_no_address_at_all(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await with_password(parts)
        await link(parts, ada, profile(email="", verified=False))
        (account,) = await parts.oauth.linked_accounts.linked(ada.user.id, str.upper)
        assert account.email == ""


@pytest.mark.gen_test
async def test_linking_again_keeps_one_link_and_the_newest_tokens(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await with_password(parts)
        await link(parts, ada)
        parts.clock.forward(60.0)
        await link(parts, ada, profile(email="new@example.com"), given=grant(2))
        (account,) = await parts.oauth.linked_accounts.linked(ada.user.id, str.upper)
        assert account.email == "new@example.com"
        assert account.last_used_at - account.linked_at == 60.0
        (tokens,) = await unlink(parts, ada.user.id)
        assert tokens.grant.access_token.reveal() == "access-2"


@pytest.mark.gen_test
async def test_each_provider_has_one_account_and_each_account_one_user(database_url: str) -> None:
    async with node(database_url) as parts:
        ada, eve = await with_password(parts), await with_password(parts, "Eve")
        await link(parts, ada)
        await link(parts, ada, provider=settings("second"))
        elsewhere = Reason.LINKED_ELSEWHERE
        await refused(parts, elsewhere, ada, profile("another"), settings())
        await refused(parts, elsewhere, eve, profile(), settings())
        await link(parts, eve, profile("eve"))
        assert await linked(parts, ada.user.id) == ["idp", "second"]
        assert await linked(parts, eve.user.id) == ["idp"]


@pytest.mark.gen_test
async def test_the_same_subject_of_another_issuer_is_another_account(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await with_password(parts)
        await link(parts, ada)
        other = profile(issuer="https://other.example")
        await refused(parts, Reason.LINKED_ELSEWHERE, ada, other, settings())
        await unlink(parts, ada.user.id)
        await link(parts, ada, other)
        assert (await sign_in(parts, other)).user.id == ada.user.id


@pytest.mark.gen_test
async def test_a_user_who_may_not_sign_in_cannot_link_an_account(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await with_password(parts)
        domains = settings(email_domains=("example.org",))
        roles = settings(role_claim="groups", roles=(("staff", "user"),))
        await refused(parts, Reason.NOT_ALLOWED, ada, profile(), domains)
        await refused(parts, Reason.NOT_ALLOWED, ada, profile(groups=["guests"]), roles)
        await link(parts, ada, profile(groups=["staff"]), roles)


@pytest.mark.gen_test
async def test_linking_changes_neither_role_nor_login_session(database_url: str) -> None:
    roles = settings(role_claim="groups", roles=(("ops", "admin"),))
    async with node(database_url) as parts:
        ada = await with_password(parts)
        await link(parts, ada, profile(groups=["ops"]), roles)
        session = await parts.database.run(session_row, ada.claims.sid)
        assert (session["method"], session["provider"]) == ("password", None)
        state = await parts.admission.login_states.of(ada.claims)
        assert state is not None
        assert state.role == "user"
        assert await parts.database.run(token_sets) == [("idp", None)]


@pytest.mark.gen_test
async def test_linking_makes_their_own_address_verified_where_it_is_the_same(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        ada = await with_password(parts)

        async def verified() -> bool:
            found = await parts.database.run(lambda db: User.select().get(db).email_verified)
            return bool(found)

        await link(parts, ada, profile(email=ada.user.email, verified=False))
        assert not await verified()
        await link(parts, ada, profile(email="other@example.com"))
        assert not await verified()
        await link(parts, ada, profile(email=ada.user.email.upper()))
        assert await verified()


# ---- whose login session -------------------------------------------------------------------


@pytest.mark.gen_test
async def test_only_a_live_login_session_of_the_user_links(database_url: str) -> None:
    async with node(database_url) as parts:
        ada, eve = await with_password(parts), await with_password(parts, "Eve")
        links = parts.oauth.linked_accounts
        proof = proof_of("a hash")
        for wrong in (
            Link(ada.user.id, "nobody", proof),
            Link("nobody", ada.claims.sid, proof),
            Link(ada.user.id, eve.claims.sid, proof),
            Link(eve.user.id, ada.claims.sid, proof),
            Link("", "", proof),
            Link(ada.user.id, ada.claims.sid, proof_of("an older hash")),
            Link(ada.user.id, ada.claims.sid, proof_of(None)),
        ):
            with pytest.raises(SignInRefused) as caught:
                await links.link(settings(), profile(), grant(), wrong)
            assert caught.value.reason is Reason.SIGNED_OUT
        assert await parts.database.run(identity_rows) == []
        await link(parts, ada)


@pytest.mark.gen_test
async def test_a_login_session_that_has_ended_links_nothing(database_url: str) -> None:
    async with node(database_url) as parts:
        ended, late, disabled = [await with_password(parts) for _ in range(3)]
        await parts.session_ends.end(ended.user.id, ended.claims.sid, "logout")
        await refused(parts, Reason.SIGNED_OUT, ended, profile(), settings())
        await parts.administration.update(disabled.user.id, None, True)
        await refused(parts, Reason.SIGNED_OUT, disabled, profile(), settings())
        parts.clock.forward(LIFETIME)
        await refused(parts, Reason.SIGNED_OUT, late, profile(), settings())


@pytest.mark.gen_test
async def test_a_linked_account_gives_tokens_while_its_user_may_sign_in(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.user("Root", "admin")
        ada = await with_password(parts)
        await link(parts, ada)
        for disabled in (False, True, False):
            await parts.administration.update(ada.user.id, None, disabled)
            if disabled:
                with pytest.raises(NotFound):
                    await parts.oauth.refresh.valid(ada.user.id, "idp")
            else:
                found = await parts.oauth.refresh.valid(ada.user.id, "idp")
                assert found.access_token.reveal() == "access-1"
