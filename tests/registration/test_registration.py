"""Who may create an account, with a password and with a provider: the modes, and the domains."""

from __future__ import annotations

import asyncio

import peewee
import pytest

from models.mail import OutgoingMail
from services.errors import EmailDomainRefused, InvitationNeeded, SignupClosed
from services.oauth.errors import Reason, SignInRefused
from services.sessions.session_views import SignedIn
from tests.registration.sign_ups import (
    by_password,
    by_provider,
    by_provider_refused,
    counted,
    installation,
    invitations,
    invited,
    people,
)
from tests.support.parts import DEVICE
from tests.support.server import PASSWORD, address

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
