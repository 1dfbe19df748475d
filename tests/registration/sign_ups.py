"""Sign-ups with a password and with a provider, and invitations for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from models.invitation import Invitation
from models.user import User
from services.oauth.errors import Reason, SignInRefused
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.opaque import token_hash
from services.providers.identities import Identities
from services.registration.invitations import NewInvitation
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
