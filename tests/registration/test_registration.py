"""Who may create an account, with a password and with a provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import peewee
import pytest

from models.invitation import Invitation
from models.mail import OutgoingMail
from models.user import User
from services.composition.upkeep import Upkeep
from services.errors import (
    EmailDomainRefused,
    InvitationNeeded,
    InvitationRefused,
    RateLimited,
    SignupClosed,
    SignupRefused,
)
from services.oauth.errors import Reason, SignInRefused
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.opaque import token_hash
from services.providers.identities import Identities
from services.registration.invitations import DEFAULT_SECONDS, NewInvitation
from services.secret import Secret
from services.sessions.session_views import SignedIn
from services.settings.providers import OAuthProvider
from tests.support.parts import DEVICE, ISSUER, Parts, node, settings_of_tests
from tests.support.server import PASSWORD, address

IDP = OAuthProvider("idp", "https://idp.example", "client", Secret("secret"))
GRANT = Grant(Secret("the access token"), None, None, "openid", None)


@asynccontextmanager
async def installation(
    database_url: str, signup: str = "open", **more: Any
) -> AsyncIterator[tuple[Parts, Parts]]:
    """Two nodes."""
    chosen = msgspec.structs.replace(settings_of_tests(), signup=signup, **more)
    async with (
        node(database_url, settings=chosen) as one,
        node(database_url, settings=chosen, clock=one.clock) as other,
    ):
        yield one, other


async def by_password(parts: Parts, email: str = "", invitation: str = "") -> SignedIn:
    return await parts.accounts.sign_up(email or address(), PASSWORD, "Ada", DEVICE, invitation)


def profile(email: str, verified: bool = True, subject: str = "") -> ProviderProfile:
    who = subject or email
    return ProviderProfile("https://idp.example", who, None, email, verified, "Ada", {})


async def by_provider(
    parts: Parts,
    email: str = "",
    invitation: str | None = None,
    verified: bool = True,
    subject: str = "",
) -> SignedIn:
    identities = Identities(
        parts.database,
        parts.login_sessions,
        parts.revocations,
        parts.oauth.tokens,
        parts.registration.rules,
        parts.registration.handovers,
        parts.clock,
    )
    who = profile(email or address(), verified, subject)
    hash_ = None if invitation is None else token_hash(invitation)
    return await identities.sign_in(IDP, who, GRANT, DEVICE, hash_)


async def by_provider_refused(parts: Parts, reason: Reason, *args: Any, **more: Any) -> None:
    with pytest.raises(SignInRefused) as error:
        await by_provider(parts, *args, **more)
    assert error.value.reason is reason


async def invited(
    parts: Parts, maker: str | None = None, email: str | None = None, **more: Any
) -> str:
    """The token of a new invitation."""
    made = await parts.registration.invitations.create(maker, email, **more)
    return token_of(made)


def token_of(made: NewInvitation) -> str:
    page, _, token = made.url.reveal().partition("#invitation=")
    assert page == f"{ISSUER}/sign-in"
    return token


async def people(parts: Parts) -> int:
    return await parts.database.run(lambda db: User.select().count(db))


async def invitations(parts: Parts) -> int:
    return await parts.database.run(lambda db: Invitation.select().count(db))


async def counted(outcomes: list[Any]) -> dict[type, int]:
    kinds = [type(one) for one in outcomes]
    return {kind: kinds.count(kind) for kind in set(kinds)}


# ---- SIGNUP --------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("signup", "refusal"), [("invite", InvitationNeeded), ("closed", SignupClosed)]
)
async def test_the_very_first_account_can_be_made_and_exactly_one_under_a_race(
    database_url: str, signup: str, refusal: type[Exception]
) -> None:
    async with installation(database_url, signup) as both:
        outcomes = await asyncio.gather(
            *(by_password(both[n % 2]) for n in range(12)), return_exceptions=True
        )
        assert await counted(outcomes) == {SignedIn: 1, refusal: 11}
        (first,) = [one for one in outcomes if isinstance(one, SignedIn)]
        assert first.user.role == "admin"
        with pytest.raises(refusal):
            await by_password(both[0])
        await by_provider_refused(both[1], Reason.NO_ACCOUNT)
        assert await people(both[0]) == 1


@pytest.mark.gen_test
async def test_by_a_provider_too_one_is_the_first_and_the_others_are_refused(
    database_url: str,
) -> None:
    async with installation(database_url, "closed") as both:
        outcomes = await asyncio.gather(
            *(by_provider(both[n % 2]) for n in range(12)), return_exceptions=True
        )
        assert await counted(outcomes) == {SignedIn: 1, SignInRefused: 11}
        assert await people(both[0]) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("signup", ["invite", "closed", "open"])
async def test_of_concurrent_sign_ups_with_confirmation_one_is_first_too(
    database_url: str, signup: str
) -> None:
    async with installation(database_url, signup, email_verification="required") as both:
        for number in range(3):
            sign_ups = both[number % 2].services.recovery.sign_ups
            await sign_ups.ask(address(), PASSWORD, "Ada", DEVICE.ip, "")
        assert await people(both[0]) == 0, "decided in the background"
        asked = await both[0].database.run(questions)
        for one in asked:
            sealed = both[0].services.mail.outbox.open(one.sealed)
            decide = both[0].services.recovery.sign_ups.decide
            await both[0].database.run(decide, sealed.to, sealed.values)
        assert await people(both[0]) == (3 if signup == "open" else 1)


def questions(db: peewee.Database) -> list[OutgoingMail]:
    return list(OutgoingMail.select().order_by(OutgoingMail.id).execute(db))


@pytest.mark.gen_test
async def test_existing_users_sign_in_in_every_mode(database_url: str) -> None:
    async with installation(database_url, "closed") as (parts, other):
        email = address()
        first = await by_provider(parts, email)
        assert (await by_provider(other, email)).user.id == first.user.id
        with pytest.raises(SignupClosed):
            await by_password(parts, email)


@pytest.mark.gen_test
async def test_closed_takes_no_invitation_either(database_url: str) -> None:
    async with installation(database_url, "closed") as (parts, _):
        admin = await by_password(parts)
        token = await invited(parts, admin.user.id)
        with pytest.raises(SignupClosed):
            await by_password(parts, invitation=token)
        await by_provider_refused(parts, Reason.INVITATION_REFUSED, invitation=token)
        assert (await people(parts), await invitations(parts)) == (1, 1)


@pytest.mark.gen_test
async def test_a_refused_sign_up_costs_no_hash_and_does_not_count(database_url: str) -> None:
    async with installation(database_url, "closed", limit_signups=2) as (parts, _):
        await by_password(parts)
        for _ in range(5):
            with pytest.raises(SignupClosed):
                await parts.accounts.sign_up(address(), "x", "Ada", DEVICE)


# ---- EMAIL_DOMAINS -------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_no_method_creates_an_account_of_another_domain(database_url: str) -> None:
    async with installation(database_url, email_domains=("example.org",)) as (parts, _):
        for email in ("ada@example.com", "ada@mail.example.org", "ada@example.org.evil"):
            with pytest.raises(EmailDomainRefused):
                await by_password(parts, email)
            await by_provider_refused(parts, Reason.NOT_ALLOWED, email)
            with pytest.raises(EmailDomainRefused):
                await parts.services.password_links.open_account(email, "Ada")
            with pytest.raises(EmailDomainRefused):
                await parts.registration.invitations.create(None, email)
        assert await people(parts) == 0
        await by_provider_refused(parts, Reason.NOT_ALLOWED, "a@example.org", verified=False)
        assert (await by_password(parts, "Ada@EXAMPLE.org")).user.email == "ada@example.org"
        assert (await by_provider(parts, "b@example.org")).user.email == "b@example.org"
        anybodys = await invited(parts)
        with pytest.raises(EmailDomainRefused):
            await by_password(parts, "c@example.com", anybodys)
        assert await invitations(parts) == 1


@pytest.mark.gen_test
async def test_an_account_follows_its_address_at_the_provider_into_no_other_domain(
    database_url: str,
) -> None:
    async with installation(database_url, email_domains=("example.org",)) as (parts, _):
        ada = await by_provider(parts, "ada@example.org", subject="ada")
        again = await by_provider(parts, "ada@example.com", subject="ada")
        assert (again.user.id, again.user.email) == (ada.user.id, "ada@example.org")


# ---- invitations ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("way", "tries"),
    [
        (by_password, 100),
        (by_provider, 100),
        pytest.param(by_provider, 1000, marks=pytest.mark.slow),
    ],
)
async def test_of_concurrent_uses_of_one_invitation_one_succeeds(
    database_url: str, way: Callable[..., Any], tries: int
) -> None:
    async with installation(database_url, "invite", limit_signups=0) as both:
        admin = await by_password(both[0])
        token = await invited(both[0], admin.user.id, role="admin")
        outcomes = await asyncio.gather(
            *(way(both[n % 2], invitation=token) for n in range(tries)), return_exceptions=True
        )
        (one,) = [one for one in outcomes if isinstance(one, SignedIn)]
        assert one.user.role == "admin"
        refusals = {type(other) for other in outcomes if other is not one}
        assert refusals <= {InvitationRefused, SignInRefused, RateLimited}
        assert await people(both[0]) == 2
        assert await invitations(both[0]) == 0


@pytest.mark.gen_test
async def test_an_invitation_with_an_address_is_for_that_one(database_url: str) -> None:
    async with installation(database_url, "invite") as (parts, _):
        admin = await by_password(parts)
        token = await invited(parts, admin.user.id, " Ada@Example.org ")
        with pytest.raises(InvitationRefused):
            await by_password(parts, "eve@example.org", token)
        await by_provider_refused(parts, Reason.INVITATION_REFUSED, "eve@example.org", token)
        assert (await by_password(parts, "ada@example.org", token)).user.role == "user"


@pytest.mark.gen_test
async def test_a_taken_address_leaves_the_invitation_valid(database_url: str) -> None:
    async with installation(database_url, "invite") as (parts, _):
        admin = await by_password(parts, "admin@example.org")
        token = await invited(parts, admin.user.id)
        with pytest.raises(SignupRefused):
            await by_password(parts, "admin@example.org", token)
        assert (await by_password(parts, invitation=token)).user.role == "user"


@pytest.mark.gen_test
async def test_an_invitation_is_valid_until_it_expires_is_revoked_or_its_creator_is_demoted(
    database_url: str,
) -> None:
    async with installation(database_url, "invite") as (parts, other):
        admin = await by_password(parts)
        second = await by_password(
            parts, invitation=await invited(parts, admin.user.id, role="admin")
        )
        maker = second.user.id
        kept, revoked, old, by_command = [
            await parts.registration.invitations.create(who, None, "user", seconds)
            for who, seconds in (
                (maker, DEFAULT_SECONDS),
                (maker, DEFAULT_SECONDS),
                (maker, 60.0),
                (None, DEFAULT_SECONDS),
            )
        ]
        listed = await other.registration.invitations.active("", 10)
        assert {row.id for row in listed} == {m.row.id for m in (kept, revoked, old, by_command)}
        await other.registration.invitations.revoke(revoked.row.id)
        parts.clock.forward(61.0)
        for made in (revoked, old):
            with pytest.raises(InvitationRefused):
                await by_password(parts, invitation=token_of(made))
        await parts.administration.update(maker, "user", None)
        with pytest.raises(InvitationRefused):
            await by_password(parts, invitation=token_of(kept))
        listed = await parts.registration.invitations.active("", 10)
        assert [row.id for row in listed] == [by_command.row.id]
        await Upkeep(parts.database, parts.clock).purge()
        assert await invitations(parts) == 2, "one may become good again"
        await parts.administration.delete(maker)
        with pytest.raises(InvitationRefused):
            await by_password(parts, invitation=token_of(kept))
        await by_password(parts, invitation=token_of(by_command))


@pytest.mark.gen_test
async def test_in_an_open_installation_only_a_valid_invitation_sets_the_role(
    database_url: str,
) -> None:
    async with installation(database_url) as (parts, _):
        admin = await by_password(parts)
        token = await invited(parts, admin.user.id, role="admin")
        assert (await by_password(parts, invitation=token)).user.role == "admin"
        for bad in (token, token[:-1] + "~", "x" * 10_000, "é\x00"):
            with pytest.raises(InvitationRefused) as error:
                await by_password(parts, invitation=bad)
            assert error.value.public == {}
        assert await people(parts) == 2


@pytest.mark.gen_test
async def test_a_known_user_to_the_provider_leaves_an_invitation_to_others(
    database_url: str,
) -> None:
    async with installation(database_url, "invite") as (parts, _):
        admin = await by_provider(parts, "admin@example.org")
        token = await invited(parts, admin.user.id)
        again = await by_provider(parts, "admin@example.org", token)
        assert again.user.id == admin.user.id
        assert (await by_provider(parts, "ada@example.org", token)).user.role == "user"
        assert await invitations(parts) == 0


@pytest.mark.gen_test
async def test_a_claimed_address_does_not_reveal_whether_it_is_in_use(
    database_url: str,
) -> None:
    async with installation(database_url, "invite") as (parts, _):
        admin = await by_password(parts, "admin@example.org")
        for email in ("admin@example.org", "nobody@example.org"):
            await by_provider_refused(parts, Reason.NO_ACCOUNT, email, verified=False)
            await by_provider_refused(
                parts, Reason.INVITATION_REFUSED, email, "invented", verified=False
            )
        token = await invited(parts, admin.user.id)
        await by_provider_refused(
            parts, Reason.NO_ACCOUNT, "admin@example.org", token, verified=False
        )


@pytest.mark.gen_test
async def test_invented_invitations_are_counted_for_their_address(database_url: str) -> None:
    async with installation(database_url, "invite", limit_wrong_signins=3) as (parts, _):
        admin = await by_password(parts)
        for _ in range(3):
            with pytest.raises(InvitationRefused):
                await by_password(parts, invitation="x")
        with pytest.raises(RateLimited):
            await by_password(parts, invitation="x")
        token = await invited(parts, admin.user.id)
        assert (await by_password(parts, invitation=token)).user.role == "user"


@pytest.mark.gen_test
async def test_a_token_is_stored_nowhere_but_as_a_hash(database_url: str) -> None:
    async with installation(database_url) as (parts, _):
        token = await invited(parts)

        def dump(db: peewee.Database) -> str:
            return repr(list(Invitation.select().tuples().execute(db)))

        found = await parts.database.run(dump)
        assert token not in found
        assert token_hash(token) in found
