"""Linking and unlinking accounts at providers, never the last sign-in method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from models.identity import Identity
from models.oauth_token import OAuthToken
from models.user import User
from services.accounts import account_rows
from services.errors import NotFound
from services.oauth.errors import LastWayIn, Reason, SignInRefused
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.providers.authorization_requests import Link, proof_of
from services.providers.identities import Identities
from services.providers.tokens import TokenSet
from services.secret import Secret
from services.sessions.session_views import SignedIn
from services.settings.providers import OAuthProvider
from services.websocket.protocol import CloseCode
from tests.support.parts import (
    DEVICE,
    LIFETIME,
    Parts,
    node,
    open_socket,
    session_row,
    settings_of_tests,
)
from tests.support.redis import within

IDP = "https://idp.example"
USABLE = frozenset(("idp", "second"))


def settings(name: str = "idp", **more: Any) -> OAuthProvider:
    return OAuthProvider(name, IDP, "client", Secret("secret"), **more)


def profile(
    subject: str = "ada",
    email: str = "at-the-provider@example.com",
    verified: bool = True,
    issuer: str = IDP,
    **claims: Any,
) -> ProviderProfile:
    return ProviderProfile(issuer, subject, None, email, verified, "Ada", claims)


def grant(number: int = 1) -> Grant:
    return Grant(Secret(f"access-{number}"), Secret(f"refresh-{number}"), None, "openid", None)


async def as_link(parts: Parts, signed_in: SignedIn) -> Link:
    user = await parts.database.run(account_rows.by_id, signed_in.claims.sub)
    proof = proof_of(user.password_hash if user else None)
    return Link(signed_in.claims.sub, signed_in.claims.sid, proof)


async def link(
    parts: Parts,
    signed_in: SignedIn,
    who: ProviderProfile | None = None,
    provider: OAuthProvider | None = None,
    given: Grant | None = None,
) -> None:
    await parts.oauth.linked_accounts.link(
        provider or settings(), who or profile(), given or grant(), await as_link(parts, signed_in)
    )


async def unlink(parts: Parts, user_id: str, provider: str = "idp") -> list[TokenSet]:
    return await parts.oauth.linked_accounts.unlink(user_id, provider, USABLE)


async def linked(parts: Parts, user_id: str) -> list[str]:
    found = await parts.oauth.linked_accounts.linked(user_id, str.upper)
    return [account.provider for account in found]


async def refused(
    parts: Parts, reason: Reason, signed_in: SignedIn, who: ProviderProfile, provider: OAuthProvider
) -> str:
    before = await parts.database.run(identities)
    with pytest.raises(SignInRefused) as caught:
        await link(parts, signed_in, who, provider)
    assert caught.value.reason is reason
    assert await parts.database.run(identities) == before
    return caught.value.evidence


async def sign_in(
    parts: Parts, who: ProviderProfile, provider: OAuthProvider | None = None
) -> SignedIn:
    service = Identities(
        parts.database,
        parts.login_sessions,
        parts.revocations,
        parts.oauth.tokens,
        parts.registration.rules,
        parts.registration.handovers,
        parts.clock,
    )
    return await service.sign_in(provider or settings(), who, grant(), DEVICE)


async def with_password(parts: Parts, name: str = "Ada") -> SignedIn:
    """Somebody who signed in with a password."""
    user_id = await parts.user(name)
    await parts.database.run(set_user, user_id, {"password_hash": "a hash"})
    return await parts.signed_in(user_id)


def set_user(db: peewee.Database, user_id: str, values: dict[str, Any]) -> None:
    User.update(values).where(User.id == user_id).execute(db)


def identities(db: peewee.Database) -> list[dict[str, Any]]:
    query: Any = Identity.select().order_by(Identity.provider, Identity.subject).dicts()
    return list(query.execute(db))


def token_sets(db: peewee.Database) -> list[tuple[str, str | None]]:
    found = [(row.provider, row.login_session_id) for row in OAuthToken.select().execute(db)]
    return sorted(found, key=repr)


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    shared = settings_of_tests()
    async with (
        node(database_url, settings=shared) as here,
        node(database_url, clock=here.clock, settings=shared) as there,
    ):
        yield here, there


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
        assert await parts.database.run(identities) == []
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


# ---- unlinking -----------------------------------------------------------------------------


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
        assert len(await both[0].database.run(identities)) == 1


@pytest.mark.gen_test
async def test_concurrent_links_of_one_account_create_one_link(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as both:
        ada = await with_password(both[0])
        await within(asyncio.gather(*(link(both[n % 2], ada) for n in range(8))))
        assert await linked(both[0], ada.user.id) == ["idp"]
        assert await both[0].database.run(token_sets) == [("idp", None)]
