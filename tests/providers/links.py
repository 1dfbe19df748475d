"""Accounts at providers that users link to theirs, below HTTP."""

from __future__ import annotations

from typing import Any

import peewee
import pytest

from models.identity import Identity
from models.oauth_token import OAuthToken
from services.accounts import account_rows
from services.oauth.errors import Reason, SignInRefused
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.providers.authorization_requests import Link, proof_of
from services.providers.tokens import TokenSet
from services.secret import Secret
from services.sessions.session_views import SignedIn
from services.settings.providers import OAuthProvider
from tests.providers.sign_ins import IDP, identities, set_user, settings
from tests.support.parts import DEVICE, Parts

USABLE = frozenset(("idp", "second"))


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
    before = await parts.database.run(identity_rows)
    with pytest.raises(SignInRefused) as caught:
        await link(parts, signed_in, who, provider)
    assert caught.value.reason is reason
    assert await parts.database.run(identity_rows) == before
    return caught.value.evidence


async def sign_in(
    parts: Parts, who: ProviderProfile, provider: OAuthProvider | None = None
) -> SignedIn:
    return await identities(parts).sign_in(provider or settings(), who, grant(), DEVICE)


async def with_password(parts: Parts, name: str = "Ada") -> SignedIn:
    """Somebody who signed in with a password."""
    user_id = await parts.user(name)
    await parts.database.run(set_user, user_id, {"password_hash": "a hash"})
    return await parts.signed_in(user_id)


def identity_rows(db: peewee.Database) -> list[dict[str, Any]]:
    query: Any = Identity.select().order_by(Identity.provider, Identity.subject).dicts()
    return list(query.execute(db))


def token_sets(db: peewee.Database) -> list[tuple[str, str | None]]:
    found = [(row.provider, row.login_session_id) for row in OAuthToken.select().execute(db)]
    return sorted(found, key=repr)
