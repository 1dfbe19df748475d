"""Sign-ups with an invitation: who may use it, how often, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import peewee
import pytest

from models.invitation import Invitation
from services.composition.upkeep import Upkeep
from services.errors import InvitationRefused, RateLimited, SignupRefused
from services.oauth.errors import Reason, SignInRefused
from services.opaque import token_hash
from services.registration.invitations import DEFAULT_SECONDS
from services.sessions.session_views import SignedIn
from tests.registration.sign_ups import (
    by_password,
    by_provider,
    by_provider_refused,
    installation,
    invitations,
    invited,
    people,
    token_of,
)


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
