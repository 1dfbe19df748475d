"""Verifies tokens that a provider signs, with PyJWT. Only asymmetric keys are accepted.

ID tokens: OIDC Core section 3.1.3.7. Logout tokens: OIDC Back-Channel Logout section 2.6.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jwt
import msgspec
from jwt import PyJWK
from jwt.types import Options

from services.oauth.discovery import TENANT, Metadata
from services.oauth.errors import Reason, SignInRefused
from services.oauth.jwks import KEY_TYPES, ProviderKeys
from services.opaque import token_hash
from services.secret import Secret

CLOCK_SKEW_SECONDS = 60
"""Accepted difference to a provider's clock. OIDC Core leaves it to the client. The tokens are used
within seconds, so a generous value costs little security."""
MAX_TOKEN_LENGTH = 32_768
"""Characters. ID tokens with many groups have several thousand."""
MAX_AGE_SECONDS = 600
"""Maximum age of `iat`: the lifetime of an authorization request (authorization_requests.py)."""
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_TYPES = frozenset(("logout+jwt", "application/logout+jwt"))
UNTYPED_TYPES = frozenset(("", "jwt", "application/jwt"))
"""Values of `typ` in ID tokens. A token with an explicit type is another kind of token (RFC 8725
section 3.11)."""
_PARSE_ERRORS = (ValueError, TypeError, OverflowError, RecursionError)
"""Exceptions that PyJWT does not wrap, for claims of unexpected types."""
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
MAX_TIMESTAMP = 2.0**40
"""Upper bound of timestamps, in epoch seconds, so that they fit into a database column."""
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
MAX_SUBJECT_LENGTH = 255
"""Characters of `sub` (OIDC Core section 2). `sid` and `jti` are limited only by the token."""
MAX_SID_LENGTH = 255
"""Characters of a `sid` that is stored as it is. A longer one is stored as a hash, as it would not
fit into a database index."""
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
        if _typ(header) not in UNTYPED_TYPES:
            raise _untrusted("ID token: wrong typ")
        _check_authorized_party(claims, self._client_id)
        _check_access_token_hash(claims, str(header["alg"]), access_token)
        subject = _subject(claims)
        if subject is None:
            raise _untrusted("ID token: no sub")
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
        if _typ(header) not in (LOGOUT_TYPES | UNTYPED_TYPES if untyped else LOGOUT_TYPES):
            raise _untrusted("logout token: wrong typ")
        if "nonce" in claims:
            raise _untrusted("logout token: has a nonce")
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
            raise _untrusted("logout token: no logout event")
        token_id, subject, sid = _text(claims, "jti"), _subject(claims), sid_of(claims)
        if token_id is None or (subject is None and sid is None):
            raise _untrusted("logout token: no jti, or neither sub nor sid")
        ends_at = float(claims.get("exp", claims["iat"] + LOGOUT_SECONDS))
        if ends_at <= self._clock() - CLOCK_SKEW_SECONDS:
            raise _untrusted("logout token: expired")
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
        header = _header(token)
        accepted = (
            *metadata.userinfo_signing_alg_values_supported,
            *metadata.id_token_signing_alg_values_supported,
        )
        algorithm = _algorithm(header, accepted)
        if _typ(header) not in UNTYPED_TYPES:
            raise _untrusted("userinfo: wrong typ")
        tried = keys.candidates(header.get("kid"), algorithm, unauthenticated=False)
        opened = self._decode_with(token, algorithm, tried, _CHECKS_OF_USERINFO)
        if opened is None:
            raise _untrusted("userinfo: no matching key")
        claims = opened[1]
        audience = claims.get("aud", self._client_id)
        if self._client_id not in (audience if isinstance(audience, list) else [audience]):
            raise _untrusted("userinfo: for another client")
        issuer = claims.get("iss", metadata.issuer)
        if issuer != metadata.issuer and not metadata.accepts_issuer(
            str(issuer), claims.get("tid")
        ):
            raise _untrusted("userinfo: another issuer")
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
        header = _header(token)
        algorithm = _algorithm(header, metadata.id_token_signing_alg_values_supported)
        checks = _CHECKS_WITHOUT_EXP if without_exp else _CHECKS
        tried = keys.candidates(header.get("kid"), algorithm, unauthenticated)
        opened = self._decode_with(token, algorithm, tried, checks)
        if opened is None and header.get("kid") is None:
            others = keys.renewed(tried, algorithm, unauthenticated)
            opened = self._decode_with(token, algorithm, others, checks)
        if opened is None:
            raise _untrusted("token: no matching key")
        key, claims = opened
        if not all(_is_time(claims[name]) for name in ("exp", "iat") if name in claims):
            raise _untrusted("token: exp or iat is not a valid time")
        issuer, tenant = str(claims["iss"]), claims.get("tid")
        if not metadata.accepts_issuer(issuer, tenant):
            raise _untrusted("token: another issuer")
        if TENANT in metadata.issuer and not keys.may_sign_for(key, issuer, tenant):
            raise _untrusted("token: signed with the key of another tenant")
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
            except (jwt.PyJWTError, *_PARSE_ERRORS) as error:
                raise _untrusted(f"token: {type(error).__name__}") from error
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
        raise _untrusted("ID token: wrong nonce")
    if token.claims["iat"] < now - MAX_AGE_SECONDS - CLOCK_SKEW_SECONDS:
        raise _untrusted("ID token: issued long ago")


def claimed_subject(token: Secret) -> str | None:
    """The `sub` of an unverified ID token; None if it can't be read."""
    try:
        claims = jwt.decode(token.reveal(), options={"verify_signature": False})
    except (jwt.PyJWTError, *_PARSE_ERRORS):
        return None
    subject = claims.get("sub")
    return subject if isinstance(subject, str) else None


def _header(token: str) -> Mapping[str, Any]:
    if len(token) > MAX_TOKEN_LENGTH:
        raise _untrusted("token: too long")
    try:
        header: Mapping[str, Any] = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, *_PARSE_ERRORS) as error:
        raise _untrusted("token: not a JWT") from error
    if "crit" in header:  # unknown critical extensions (RFC 7515 section 4.1.11)
        raise _untrusted("token: critical extensions")
    return header


def _algorithm(header: Mapping[str, Any], accepted: Sequence[str]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in KEY_TYPES or algorithm not in accepted:
        raise _untrusted("token: algorithm not accepted")
    return algorithm


def _typ(header: Mapping[str, Any]) -> str:
    typ = header.get("typ", "")
    return typ.lower() if isinstance(typ, str) else "not a text"


def _is_time(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 <= value < MAX_TIMESTAMP


def _check_authorized_party(claims: Mapping[str, Any], client_id: str) -> None:
    """Check `azp`, the client that the token was issued to (OIDC Core section 3.1.3.7, items 3 to
    5)."""
    audience = claims["aud"]
    several = isinstance(audience, list) and len(audience) > 1
    if (several or "azp" in claims) and claims.get("azp") != client_id:
        raise _untrusted("ID token: issued to another client")


def _check_access_token_hash(claims: Mapping[str, Any], algorithm: str, access_token: str) -> None:
    """Check `at_hash`, the hash of the access token (OIDC Core section 3.1.3.6)."""
    if "at_hash" not in claims:
        return
    # Ed25519 uses SHA-512 internally, and providers use it for `at_hash`.
    digest = _HASHES.get(algorithm[2:], hashlib.sha512)(access_token.encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if claims["at_hash"] != half:
        raise _untrusted("ID token: belongs to another access token")


def sid_of(claims: Mapping[str, Any]) -> str | None:
    """The `sid` claim as it is stored and compared; None if there is none.

    A long one is replaced by its hash. Those of idpyoidc have several hundred characters.

    Raises:
        SignInRefused: it is not a usable string.
    """
    sid = _text(claims, "sid")
    if sid is None or len(sid) <= MAX_SID_LENGTH:
        return sid
    return f"sha-256:{token_hash(sid)}"


def _subject(claims: Mapping[str, Any]) -> str | None:
    subject = _text(claims, "sub")
    if subject is not None and len(subject) > MAX_SUBJECT_LENGTH:
        raise _untrusted("token: sub is not a usable string")
    return subject


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim that must be a non-empty, printable string; None if it is missing.

    Raises:
        SignInRefused: it is anything else.
    """
    value = claims.get(name)
    if value is None:
        return None
    # Databases reject NUL characters and lone surrogates.
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise _untrusted(f"token: {name} is not a usable string")
    return value


def _untrusted(evidence: str) -> SignInRefused:
    return SignInRefused(Reason.UNTRUSTED, evidence)
