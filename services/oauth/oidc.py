"""A provider that supports OpenID Connect Discovery."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from services.oauth.discovery import TENANT, Discovery, Metadata
from services.oauth.errors import Reason, SignInRefused, SubjectChanged
from services.oauth.http import get_document, read_json
from services.oauth.id_tokens import (
    IdToken,
    LogoutToken,
    ProviderTokensVerifier,
    check_sign_in,
    claimed_subject,
)
from services.oauth.jwks import ProviderKeys
from services.oauth.provider import RequestBinding, text_of
from services.oauth.roles import first_part
from services.oauth.token_endpoint import Grant, OAuthClient
from services.oauth.userinfo import ProviderProfile
from services.secret import Secret
from services.settings.providers import OAuthProvider

GOOGLE = "https://accounts.google.com"
MICROSOFT = "https://login.microsoftonline.com/common/v2.0"
MICROSOFT_MULTI_TENANT = ("/common/v2.0", "/organizations/v2.0")
"""Ends of multi-tenant issuers, whose metadata have an issuer with `{tenantid}`. Only the ends,
because national clouds have other hosts."""
SCOPES = {"microsoft": ("openid", "email", "profile", "offline_access")}
DEFAULT_SCOPES = ("openid", "email", "profile")
PARAMETERS = {"google": {"access_type": "offline"}}
"""Without `access_type`, Google issues no refresh token."""


class OidcProvider:
    """An OpenID Connect provider, configured by discovery."""

    def __init__(self, settings: OAuthProvider, client: OAuthClient, title: str) -> None:
        self.settings, self._client = settings, client
        known = {"google": GOOGLE, "microsoft": MICROSOFT}
        issuer = settings.issuer or known[settings.name]
        expected = _multi_tenant_issuer(issuer) if settings.name == "microsoft" else issuer
        self._discovery = Discovery(issuer, expected, settings.metadata_url)
        self._verifier = ProviderTokensVerifier(settings.client_id)
        self._lock = threading.Lock()
        self._keys: ProviderKeys | None = None
        self.title = title

    def check(self) -> None:
        self._discovery.fetch()

    def authorization_url(self, start: RequestBinding, prompt: str | None) -> str:
        metadata = self._discovery.metadata()
        parameters = {**PARAMETERS.get(self.settings.name, {}), **dict(self.settings.parameters)}
        if prompts := self._prompts(prompt):
            parameters["prompt"] = prompts
        else:
            parameters.pop("prompt", None)
        scopes = self.settings.scopes or SCOPES.get(self.settings.name, DEFAULT_SCOPES)
        if "openid" not in scopes:  # without it, there is no ID token
            scopes = ("openid", *scopes)
        return self._client.authorization_url(
            metadata.authorization_endpoint,
            scopes,
            start.state,
            start.verifier,
            nonce=start.nonce,
            **parameters,
        )

    def _prompts(self, asked: str | None) -> str:
        """The `prompt` parameter (OIDC Core section 3.1.2.1).

        Combines the prompts in the settings, the one `asked` for, and the `consent` that
        `offline_access` needs (section 11).
        """
        chosen = dict(self.settings.parameters).get("prompt")
        wanted = (chosen or "").split()
        if chosen is None and "offline_access" in self.settings.scopes:
            wanted.append("consent")
        if asked is not None:
            # `none` cannot be combined with other values.
            wanted = [asked, *(word for word in wanted if word not in ("none", asked))]
        return " ".join(wanted)

    def check_issuer(self, issuer: str | None) -> None:
        metadata = self._discovery.metadata()
        if issuer is None:
            if metadata.authorization_response_iss_parameter_supported:
                raise SignInRefused(Reason.UNTRUSTED, "callback: iss is missing")
        elif TENANT not in metadata.issuer and issuer != metadata.issuer:
            raise SignInRefused(Reason.UNTRUSTED, "callback: iss of another provider")

    def exchange(self, code: str, start: RequestBinding) -> tuple[ProviderProfile, Grant]:
        metadata = self._discovery.metadata()
        method = metadata.token_auth(self.settings.client_auth)
        grant = self._client.exchange(metadata.token_endpoint, method, code, start.verifier)
        token = self._id_token(grant, metadata)
        if token is None:
            raise SignInRefused(Reason.UNTRUSTED, "token endpoint: no ID token")
        check_sign_in(token, start.nonce, self._client.now())
        claims = self._with_userinfo(token, grant, metadata)
        return self._profile(token, claims), grant

    def refresh(self, refresh_token: Secret, subject: str) -> Grant:
        metadata = self._discovery.metadata()
        # Fetched first: a refresh token may be usable only once, so its response must not be lost
        # because the keys cannot be fetched.
        self._keys_of(metadata).prefetch()
        method = metadata.token_auth(self.settings.client_auth)
        grant = self._client.refresh(metadata.token_endpoint, method, refresh_token)
        # The response came over TLS from the provider (OIDC Core section 3.1.3.7, item 6), so its
        # `sub` can be compared now. `check_refreshed` verifies the token later.
        if grant.id_token is not None and claimed_subject(grant.id_token) not in (None, subject):
            raise SubjectChanged
        return grant

    def check_refreshed(self, grant: Grant) -> None:
        self._id_token(grant, self._discovery.metadata())

    def revoke(self, grant: Grant) -> bool:
        metadata = self._discovery.metadata()
        if not metadata.revocation_endpoint:
            return False
        token, hint = grant.access_token, "access_token"
        if grant.refresh_token is not None:  # also revokes the access token (RFC 7009 section 2)
            token, hint = grant.refresh_token, "refresh_token"
        method = metadata.revocation_auth(self.settings.client_auth)
        self._client.revoke(metadata.revocation_endpoint, method, token, hint)
        return True

    def logout_token(self, token: str) -> LogoutToken | None:
        metadata = self._discovery.metadata(unauthenticated=True)
        untyped, without_exp = self.settings.untyped_logout, self.settings.logout_without_exp
        keys = self._keys_of(metadata)
        return self._verifier.logout_token(token, metadata, keys, untyped, without_exp)

    def end_session_url(self, id_token: Secret | None, back_to: str) -> str | None:
        metadata = self._discovery.known() or self._discovery.metadata()
        endpoint = metadata.end_session_endpoint
        if not endpoint:
            return None
        query = {"client_id": self.settings.client_id, "post_logout_redirect_uri": back_to}
        if id_token is not None:
            query["id_token_hint"] = id_token.reveal()
        query |= dict(self.settings.logout_parameters)
        query = {name: value for name, value in query.items() if value}
        return endpoint + ("&" if "?" in endpoint else "?") + urlencode(query)

    def _id_token(self, grant: Grant, metadata: Metadata) -> IdToken | None:
        if grant.id_token is None:
            return None
        return self._verifier.id_token(
            grant.id_token.reveal(), metadata, self._keys_of(metadata), grant.access_token.reveal()
        )

    def _keys_of(self, metadata: Metadata) -> ProviderKeys:
        with self._lock:
            if self._keys is None or self._keys.uri != metadata.jwks_uri:
                self._keys = ProviderKeys(metadata.jwks_uri)
            return self._keys

    def _with_userinfo(self, token: IdToken, grant: Grant, metadata: Metadata) -> Mapping[str, Any]:
        """The ID token's claims, completed from the userinfo endpoint if needed ones are missing
        (OIDC Core section 5.3)."""
        address, claim = self.settings.email_claim or "email", self.settings.role_claim
        needed = {address, "name"}
        if self.settings.name != "microsoft":  # see _profile
            needed |= {"email", "email_verified"}
        if claim and claim not in token.claims:
            needed.add(first_part(claim))
        if not metadata.userinfo_endpoint or needed <= token.claims.keys():
            return token.claims
        more = self._userinfo(grant, metadata)
        if not isinstance(more, dict) or more.get("sub") != token.subject:
            raise SignInRefused(Reason.UNTRUSTED, "userinfo: another sub")
        claims = {**more, **token.claims}
        if "email" not in token.claims or "email_verified" not in token.claims:
            # `email_verified` is taken from the source of the address.
            source = token.claims if more.get("email") != claims.get("email") else more
            claims["email_verified"] = source.get("email_verified")
        return claims

    def _userinfo(self, grant: Grant, metadata: Metadata) -> Any:
        """Fetch the userinfo response, as JSON or as a signed JWT (OIDC Core section 5.3.2)."""
        body, headers = get_document(
            metadata.userinfo_endpoint,
            {
                "Accept": "application/json, application/jwt",
                "Authorization": f"Bearer {grant.access_token.reveal()}",
            },
        )
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/jwt":
            return read_json(metadata.userinfo_endpoint, body or b"")
        text = (body or b"").decode("ascii", "replace").strip()
        return self._verifier.userinfo(text, metadata, self._keys_of(metadata))

    def _address(self, claims: Mapping[str, Any]) -> tuple[str, object]:
        """The e-mail address, and the value of `email_verified` for it.

        `email_verified` applies to `email` only. An address of another claim is verified only if it
        equals `email`.
        """
        address, verified = text_of(claims.get("email")), claims.get("email_verified")
        if not self.settings.email_claim:
            return address, verified
        found = claims.get(self.settings.email_claim)
        # Azure B2C's `emails` is a list.
        chosen = text_of(found[0] if isinstance(found, list) and found else found)
        return chosen, verified if chosen and chosen == address else None

    def _profile(self, token: IdToken, claims: Mapping[str, Any]) -> ProviderProfile:
        address, verified = self._address(claims)
        if self.settings.name == "microsoft":
            # Entra does not send `email_verified`, and a tenant can set any address as `email`. The
            # optional claim `xms_edov` says that the tenant owns the domain.
            verified = None if self.settings.email_claim else claims.get("xms_edov")
        return ProviderProfile(
            token.issuer,
            token.subject,
            token.sid,
            address,
            verified is True or verified in ("true", "1", 1),
            text_of(claims.get("name")) or text_of(claims.get("preferred_username")),
            claims,
            _auth_time(token),
        )


def _auth_time(token: IdToken) -> float | None:
    """`auth_time` (OIDC Core section 2), of the signed token and not of the user info."""
    found = token.claims.get("auth_time")
    if not isinstance(found, (int, float)) or isinstance(found, bool):
        return None
    return float(found)


def _multi_tenant_issuer(issuer: str) -> str:
    """The issuer in Microsoft's metadata: with `{tenantid}` if the configured one is
    multi-tenant."""
    whole = issuer.rstrip("/")
    for many in MICROSOFT_MULTI_TENANT:
        if whole.endswith(many):
            return f"{whole.removesuffix(many)}/{TENANT}/v2.0"
    return issuer
