"""Signing in as users of a provider, below HTTP: who they are there, and what is stored here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from models.identity import Identity
from models.login_session import LoginSession
from models.oauth_token import OAuthToken
from models.user import User
from services.oauth.errors import Reason, SignInRefused
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.providers.identities import Identities
from services.secret import Secret
from services.sessions.session_views import SignedIn
from services.settings.providers import OAuthProvider
from tests.support.parts import DEVICE, Parts, node, settings_of_tests

IDP = "https://idp.example"
PASSWORD = "a quiet heron at dusk 7"
GRANT = Grant(Secret("the access token"), Secret("the refresh token"), None, "openid", None)


def settings(name: str = "idp", **more: Any) -> OAuthProvider:
    return OAuthProvider(name, IDP, "client", Secret("secret"), **more)


def with_roles() -> OAuthProvider:
    return settings(role_claim="groups", roles=(("staff", "user"), ("ops", "admin")))


def profile(
    subject: str = "ada",
    email: str = "ada@example.org",
    verified: bool = True,
    name: str = "Ada",
    issuer: str = IDP,
    sid: str | None = None,
    **claims: Any,
) -> ProviderProfile:
    return ProviderProfile(issuer, subject, sid, email, verified, name, claims)


def identities(parts: Parts) -> Identities:
    return Identities(
        parts.database,
        parts.login_sessions,
        parts.revocations,
        parts.oauth.tokens,
        parts.registration.rules,
        parts.registration.handovers,
        parts.clock,
    )


async def sign_in(
    parts: Parts, who: ProviderProfile | None = None, provider: OAuthProvider | None = None
) -> SignedIn:
    return await identities(parts).sign_in(provider or settings(), who or profile(), GRANT, DEVICE)


async def refused(
    parts: Parts,
    reason: Reason,
    who: ProviderProfile | None = None,
    provider: OAuthProvider | None = None,
) -> str:
    """A sign-in that is refused and leaves everything as it was. Returns its evidence."""
    before = await parts.database.run(everything)
    with pytest.raises(SignInRefused) as caught:
        await sign_in(parts, who, provider)
    assert caught.value.reason is reason
    assert "@" not in caught.value.evidence
    assert await parts.database.run(everything) == before
    return caught.value.evidence


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    shared = settings_of_tests()
    async with (
        node(database_url, settings=shared) as here,
        node(database_url, clock=here.clock, settings=shared) as there,
    ):
        yield here, there


def everything(db: peewee.Database) -> list[list[Any]]:
    tables: tuple[type[peewee.Model], ...] = (User, Identity, LoginSession, OAuthToken)
    return [sorted(map(repr, table.select().tuples().execute(db))) for table in tables]


async def session_of(parts: Parts, user_id: str) -> str:
    found = await parts.database.run(rows, LoginSession)
    return next(str(row["id"]) for row in found if row["user"] == user_id)


def rows(db: peewee.Database, table: type[peewee.Model]) -> list[dict[str, Any]]:
    query: Any = table.select().dicts()
    return list(query.execute(db))


async def users(parts: Parts) -> list[dict[str, Any]]:
    return await parts.database.run(rows, User)


def set_user(db: peewee.Database, user_id: str, values: dict[str, Any]) -> None:
    User.update(values).where(User.id == user_id).execute(db)


async def account(
    parts: Parts, email: str = "ada@example.org", verified: bool = True, **values: Any
) -> str:
    """An account with a password, as far as a sign-in at a provider goes. Returns its id."""
    user_id = await parts.user()
    values = {"email": email, "email_verified": verified, "password_hash": "a hash", **values}
    await parts.database.run(set_user, user_id, values)
    return user_id


async def emails(parts: Parts) -> dict[str, tuple[str, bool]]:
    return {u["id"]: (u["email"], bool(u["email_verified"])) for u in await users(parts)}
