"""What the tests' OpenID provider is at this moment: everything about it that a test may set."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.support.faults import FaultyService
from tests.support.provider_faults import FAULTS
from tests.support.provider_grants import Grants, RefreshTokens
from tests.support.provider_keys import Algorithm, Key, Signer, Signing

PATHS: Mapping[str, str] = {
    "discovery": "/.well-known/openid-configuration",
    "authorize": "/authorize",
    "token": "/token",
    "userinfo": "/userinfo",
    "jwks": "/jwks",
    "revoke": "/revoke",
    "end_session": "/end_session",
    "foreign_jwks": "/foreign-jwks",
}
"""Place to path under the issuer. `foreign_jwks` is where forged tokens point."""


BASIC = ("client_secret_basic",)
BOTH = ("client_secret_basic", "client_secret_post")


class State(FaultyService):
    """A provider without its endpoints.

    Args:
        path: of the issuer; "/" gives it a trailing slash, as Auth0's has.
        algorithm: of its keys.
        tenant: a GUID makes it like Microsoft's `common`: the metadata have the template
            `{tenantid}`, tokens the issuer of this tenant, and keys an issuer of their own.

    Attributes:
        issuer: what a client is configured with; metadata_issuer and token_issuer are the same
            but for a tenant.
        client_id, client_secret: of the only client.
        redirect_uris, post_logout_redirect_uris: the registered ones; None allows any.
        user: who is signed in here, as claims. /authorize needs no click.
        claims_in: which of ID token and userinfo have more than the sub.
        signed_userinfo: claims written over those of user info that is a JWT; None for JSON.
        userinfo_signer: who signs that.
        id_token_claims: written over the claims of an ID token; LEFT_OUT removes one.
        metadata_claims: the same for the discovery document.
        keys: the published ones; the first one signs.
        key_issuer: that they name with a tenant; None for the metadata's.
        sid: of the last session; each /authorize makes one, kept in sids.
        auth_methods: client authentication that the metadata offer at /token; None says nothing.
        revocation_auth_methods: the same at /revoke; None says nothing.
        registered_auth: the one that the client is registered for; None for any that is offered.
        demands_pkce: whether /authorize refuses requests without S256.
        refresh_tokens: see RefreshTokens.
        expires_in: the lifetime in token responses, seconds; None to omit it.
        lifetime: seconds of an ID token.
        discovery_cache, jwks_cache: Cache-Control of these documents; None sends none.
        revoked: tokens that came to /revoke, with their hints.
        ended: parameters that came to /end_session.
        id_tokens, access_tokens, given_refresh_tokens: what was given out, oldest first.
    """

    def __init__(
        self, *, path: str = "", algorithm: Algorithm = "RS256", tenant: str | None = None
    ) -> None:
        super().__init__(FAULTS)
        path = "/common/v2.0" if tenant is not None else path
        self.base = self.origin + path.rstrip("/")
        self.issuer = self.metadata_issuer = self.token_issuer = self.origin + path
        self.tenant = tenant
        if tenant is not None:
            self.metadata_issuer = f"{self.origin}/{{tenantid}}/v2.0"
            self.token_issuer = f"{self.origin}/{tenant}/v2.0"
        self.client_id = "usher-at-the-provider"
        self.client_secret = secrets.token_urlsafe(24)
        self.redirect_uris: frozenset[str] | None = None
        self.post_logout_redirect_uris: frozenset[str] | None = None
        self.user: dict[str, Any] = {
            "sub": secrets.token_hex(8),
            "email": "ada@example.com",
            "email_verified": True,
            "name": "Ada Lovelace",
        }
        self.claims_in: Literal["both", "id_token", "userinfo"] = "both"
        self.signed_userinfo: dict[str, object] | None = None
        self.userinfo_signer: Signer = "honest"
        self.id_token_claims: dict[str, object] = {}
        self.metadata_claims: dict[str, object] = {}
        self.keys = [Key(algorithm, 0)]
        self.key_issuer: str | None = None
        self.sids: list[str] = []
        self.auth_methods: tuple[str, ...] | None = BOTH
        self.revocation_auth_methods: tuple[str, ...] | None = None
        self.registered_auth: str | None = None
        self.demands_pkce = True
        self.refresh_tokens: RefreshTokens = "rotating"
        self.expires_in: int | None = 3600
        self.lifetime = 3600
        self.discovery_cache: str | None = "public, max-age=3600"
        self.jwks_cache: str | None = "public, max-age=3600"
        self.revoked: list[tuple[str, str | None]] = []
        self.ended: list[dict[str, str]] = []
        self.id_tokens: list[str] = []
        self.access_tokens: list[str] = []
        self.given_refresh_tokens: list[str] = []
        self.grants = Grants()

    @property
    def sid(self) -> str:
        """Raises: IndexError before the first /authorize."""
        return self.sids[-1]

    def url(self, place: str) -> str:
        return self.base + PATHS[place]

    def path(self, place: str) -> str:
        """For `wait_for`, `came` and `peak`."""
        return urlsplit(self.url(place)).path

    def takes_auth(self, offered: tuple[str, ...] | None) -> tuple[str, ...]:
        """Client authentication that is taken where the metadata offer this."""
        if self.registered_auth is None:
            return BASIC if offered is None else offered
        return (self.registered_auth,)

    def rotate(self) -> None:
        """From now on a new key signs, and only that one is published."""
        last = self.keys[0]
        self.keys = [Key(last.algorithm, last.number + 1)]

    def signing(self) -> Signing:
        return Signing(self.keys[0], self.client_secret, self.url("foreign_jwks"))
