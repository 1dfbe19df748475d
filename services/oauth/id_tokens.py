"""Verifies tokens that a provider signs, with PyJWT. Only asymmetric keys are accepted.

ID tokens: OIDC Core section 3.1.3.7. Logout tokens: OIDC Back-Channel Logout section 2.6.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jwt
import msgspec
from jwt import PyJWK
from jwt.types import Options

from services.oauth.discovery import TENANT, Metadata
from services.oauth.jwks import ProviderKeys
from services.oauth.token_claims import (
    PARSE_ERRORS,
    UNTYPED_TYPES,
    algorithm_of,
    check_access_token_hash,
    check_authorized_party,
    header_of,
    is_time,
    sid_of,
    subject_of,
    text_of,
    typ_of,
    untrusted,
)
from services.secret import Secret

CLOCK_SKEW_SECONDS = 60
"""Accepted difference to a provider's clock. OIDC Core leaves it to the client. The tokens are used
within seconds, so a generous value costs little security."""
MAX_AGE_SECONDS = 600
"""Maximum age of `iat`: the lifetime of an authorization request (authorization_requests.py)."""
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_TYPES = frozenset(("logout+jwt", "application/logout+jwt"))
_CHECKS: Options = {
    "require": ["iss", "aud", "exp", "iat"],
    # Checked in `_verified`, as Microsoft's issuer contains the tenant.
    "verify_iss": False,
    # Checked in this module, with its own error messages.
    "verify_sub": False,
    "verify_jti": False,
    "enforce_minimum_key_length": True,
}
_CHECKS_OF_USERINFO: Options = {**_CHECKS, "require": [], "verify_aud": False}
_CHECKS_WITHOUT_EXP: Options = {**_CHECKS, "require": ["iss", "aud", "iat"]}
LOGOUT_SECONDS = 120.0
"""How long a logout token without `exp` is valid after its `iat`: the recommended maximum of `exp`
(OIDC Back-Channel Logout section 2.4)."""


class IdToken(msgspec.Struct, frozen=True):
    """A verified ID token.

    Attributes:
        issuer: `iss`.
        subject: `sub`.
        sid: the provider's session as in `sid_of`, or None if the token has no `sid`.
        claims: all claims.
    """

    issuer: str
    subject: str
    sid: str | None
    claims: dict[str, Any]


class LogoutToken(msgspec.Struct, frozen=True):
    """A verified logout token. At least one of `subject` and `sid` is set.

    Attributes:
        token_id: `jti`.
        subject: `sub`, or None.
        sid: the provider's session as in `sid_of`, or None.
        expires_at: epoch seconds.
    """

    token_id: str
    subject: str | None
    sid: str | None
    expires_at: float


class ProviderTokensVerifier:
    """Verifies the tokens of one provider. Blocks if keys have to be fetched.

    Args:
        client_id: the client id, which `aud` must contain.
        clock: epoch seconds.
    """

    def __init__(self, client_id: str, clock: Callable[[], float] = time.time) -> None:
        self._client_id, self._clock = client_id, clock

    def id_token(
        self, token: str, metadata: Metadata, keys: ProviderKeys, access_token: str
    ) -> IdToken:
        """Verify an ID token, except for the checks in `check_sign_in`, which a refresh does not
        need.

        Raises:
            SignInRefused: the token is not valid.
            ProviderUnavailable: the keys can't be fetched.
        """
        header, claims = self._verified(token, metadata, keys, unauthenticated=False)
        if typ_of(header) not in UNTYPED_TYPES:
            raise untrusted("ID token: wrong typ")
        check_authorized_party(claims, self._client_id)
        check_access_token_hash(claims, str(header["alg"]), access_token)
        subject = subject_of(claims)
        if subject is None:
            raise untrusted("ID token: no sub")
        return IdToken(claims["iss"], subject, sid_of(claims), claims)

    def logout_token(
        self,
        token: str,
        metadata: Metadata,
        keys: ProviderKeys,
        untyped: bool,
        without_exp: bool = False,
    ) -> LogoutToken:
        """Verify a logout token. Does not check for replay.

        Args:
            untyped: whether the header may lack the `typ` of logout tokens.
            without_exp: whether `exp` may be missing; the token is then valid for LOGOUT_SECONDS.

        Raises:
            SignInRefused: the token is not a valid logout token.
            ProviderUnavailable: the keys can't be fetched.
        """
        header, claims = self._verified(
            token, metadata, keys, unauthenticated=True, without_exp=without_exp
        )
        if typ_of(header) not in (LOGOUT_TYPES | UNTYPED_TYPES if untyped else LOGOUT_TYPES):
            raise untrusted("logout token: wrong typ")
        if "nonce" in claims:
            raise untrusted("logout token: has a nonce")
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
            raise untrusted("logout token: no logout event")
        token_id, subject, sid = text_of(claims, "jti"), subject_of(claims), sid_of(claims)
        if token_id is None or (subject is None and sid is None):
            raise untrusted("logout token: no jti, or neither sub nor sid")
        ends_at = float(claims.get("exp", claims["iat"] + LOGOUT_SECONDS))
        if ends_at <= self._clock() - CLOCK_SKEW_SECONDS:
            raise untrusted("logout token: expired")
        return LogoutToken(token_id, subject, sid, ends_at)

    def userinfo(self, token: str, metadata: Metadata, keys: ProviderKeys) -> dict[str, Any]:
        """Verify a signed response of the userinfo endpoint (OIDC Core section 5.3.2).

        `iss` and `aud` may be missing. If they are present, they are checked.

        Returns:
            The claims.

        Raises:
            SignInRefused: the response is not valid.
            ProviderUnavailable: the keys can't be fetched.
        """
        header = header_of(token)
        accepted = (
            *metadata.userinfo_signing_alg_values_supported,
            *metadata.id_token_signing_alg_values_supported,
        )
        algorithm = algorithm_of(header, accepted)
        if typ_of(header) not in UNTYPED_TYPES:
            raise untrusted("userinfo: wrong typ")
        tried = keys.candidates(header.get("kid"), algorithm, unauthenticated=False)
        opened = self._decode_with(token, algorithm, tried, _CHECKS_OF_USERINFO)
        if opened is None:
            raise untrusted("userinfo: no matching key")
        claims = opened[1]
        audience = claims.get("aud", self._client_id)
        if self._client_id not in (audience if isinstance(audience, list) else [audience]):
            raise untrusted("userinfo: for another client")
        issuer = claims.get("iss", metadata.issuer)
        if issuer != metadata.issuer and not metadata.accepts_issuer(
            str(issuer), claims.get("tid")
        ):
            raise untrusted("userinfo: another issuer")
        return claims

    def _verified(
        self,
        token: str,
        metadata: Metadata,
        keys: ProviderKeys,
        unauthenticated: bool,
        without_exp: bool = False,
    ) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Verify the signature, `iss`, `aud`, `exp`, `iat` and `nbf`. Returns header and claims."""
        header = header_of(token)
        algorithm = algorithm_of(header, metadata.id_token_signing_alg_values_supported)
        checks = _CHECKS_WITHOUT_EXP if without_exp else _CHECKS
        tried = keys.candidates(header.get("kid"), algorithm, unauthenticated)
        opened = self._decode_with(token, algorithm, tried, checks)
        if opened is None and header.get("kid") is None:
            others = keys.renewed(tried, algorithm, unauthenticated)
            opened = self._decode_with(token, algorithm, others, checks)
        if opened is None:
            raise untrusted("token: no matching key")
        key, claims = opened
        if not all(is_time(claims[name]) for name in ("exp", "iat") if name in claims):
            raise untrusted("token: exp or iat is not a valid time")
        issuer, tenant = str(claims["iss"]), claims.get("tid")
        if not metadata.accepts_issuer(issuer, tenant):
            raise untrusted("token: another issuer")
        if TENANT in metadata.issuer and not keys.may_sign_for(key, issuer, tenant):
            raise untrusted("token: signed with the key of another tenant")
        return header, claims

    def _decode_with(
        self, token: str, algorithm: str, keys: Sequence[PyJWK], checks: Options
    ) -> tuple[PyJWK, dict[str, Any]] | None:
        """Decode a token with the key that signed it. Returns the key and the claims, or None if
        none of the keys matches."""
        for key in keys:
            try:
                return key, jwt.decode(
                    token,
                    key.key,
                    algorithms=[algorithm],
                    audience=self._client_id,
                    leeway=CLOCK_SKEW_SECONDS,
                    options=checks,
                )
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue  # without a `kid`, another key may match
            except (jwt.PyJWTError, *PARSE_ERRORS) as error:
                raise untrusted(f"token: {type(error).__name__}") from error
        return None


def check_sign_in(token: IdToken, nonce: str, now: float) -> None:
    """Check that an ID token belongs to this sign-in (OIDC Core section 3.1.3.7, items 10 and 11).

    Args:
        nonce: the nonce of the authorization request.
        now: epoch seconds.

    Raises:
        SignInRefused: the nonce is missing or wrong, or the token was issued too long ago.
    """
    found = token.claims.get("nonce")
    if not isinstance(found, str) or not hmac.compare_digest(
        found.encode("utf-8", "surrogatepass"), nonce.encode()
    ):
        raise untrusted("ID token: wrong nonce")
    if token.claims["iat"] < now - MAX_AGE_SECONDS - CLOCK_SKEW_SECONDS:
        raise untrusted("ID token: issued long ago")


def claimed_subject(token: Secret) -> str | None:
    """The `sub` of an unverified ID token; None if it can't be read."""
    try:
        claims = jwt.decode(token.reveal(), options={"verify_signature": False})
    except (jwt.PyJWTError, *PARSE_ERRORS):
        return None
    subject = claims.get("sub")
    return subject if isinstance(subject, str) else None
