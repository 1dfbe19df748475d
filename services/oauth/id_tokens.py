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
"""How far a provider's clock may be off. OIDC Core leaves it to us; sign-ins that fail for a
clock help nobody, and what `exp` guards here is used up within seconds."""
MAX_TOKEN_LENGTH = 32_768
"""Characters. ID tokens with many groups have some thousands."""
MAX_AGE_SECONDS = 600
"""A sign-in takes no longer (authorization_requests.py), so no honest `iat` is older."""
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_TYPES = frozenset(("logout+jwt", "application/logout+jwt"))
UNTYPED = frozenset(("", "jwt", "application/jwt"))
"""`typ` of ID tokens, which need none. Whatever has a type of its own is something else (RFC 8725
section 3.11)."""
_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""What PyJWT lets through of claims that it does not expect."""
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
LATEST = 2.0**40
"""Epoch seconds that no honest token names: they have to fit into a row."""
_CHECKS: Options = {
    "require": ["iss", "aud", "exp", "iat"],
    # Compared by ourselves: Microsoft's has a place for the tenant.
    "verify_iss": False,
    # Looked at by ourselves, with words of our own.
    "verify_sub": False,
    "verify_jti": False,
    "enforce_minimum_key_length": True,
}
_CHECKS_OF_USERINFO: Options = {**_CHECKS, "require": [], "verify_aud": False}
_CHECKS_WITHOUT_EXP: Options = {**_CHECKS, "require": ["iss", "aud", "iat"]}
MAX_SUBJECT_LENGTH = 255
"""Characters of `sub` (OIDC Core section 2). `sid` and `jti` have no bound but the token's."""
MAX_SID_LENGTH = 255
"""Characters of a `sid` that is kept as it is: longer ones fit into no index of a database."""
LOGOUT_SECONDS = 120.0
"""How long a logout token without `exp` counts after its `iat`: as long as one with `exp` should
at most (OIDC Back-Channel Logout section 2.4)."""


class IdToken(msgspec.Struct, frozen=True):
    """An ID token that has been checked.

    Attributes:
        sid: the provider's session, as `sid_of` has it, or None where it does not name it.
        claims: all of them.
    """

    issuer: str
    subject: str
    sid: str | None
    claims: dict[str, Any]


class LogoutToken(msgspec.Struct, frozen=True):
    """A logout token that has been checked. One of `subject` and `sid` is there at least.
    `expires_at`: epoch seconds."""

    token_id: str
    subject: str | None
    sid: str | None
    expires_at: float


class ProviderTokensVerifier:
    """Checks the tokens of one provider. Blocks where keys have to be fetched.

    Args:
        client_id: `aud` of what is meant for us.
    """

    def __init__(self, client_id: str, clock: Callable[[], float] = time.time) -> None:
        self._client_id, self._clock = client_id, clock

    def id_token(
        self, token: str, metadata: Metadata, keys: ProviderKeys, access_token: str
    ) -> IdToken:
        """A checked ID token, save for what a refresh need not have: see `check_sign_in`.

        Raises:
            SignInRefused: it is not to be trusted.
            ProviderUnavailable: the keys can't be fetched.
        """
        header, claims = self._verified(token, metadata, keys, unauthenticated=False)
        if _typ(header) not in UNTYPED:
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
        """A checked logout token, save that it may have been used before.

        Args:
            untyped: whether the header may lack the `typ` of its own.
            without_exp: whether `exp` may be missing; then it counts for LOGOUT_SECONDS.

        Raises:
            SignInRefused: it is none, or not to be trusted.
            ProviderUnavailable: the keys can't be fetched.
        """
        header, claims = self._verified(
            token, metadata, keys, unauthenticated=True, without_exp=without_exp
        )
        if _typ(header) not in (LOGOUT_TYPES | UNTYPED if untyped else LOGOUT_TYPES):
            raise _untrusted("logout token: wrong typ")
        if "nonce" in claims:
            raise _untrusted("logout token: has a nonce, as ID tokens do")
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
            raise _untrusted("logout token: not the event")
        token_id, subject, sid = _text(claims, "jti"), _subject(claims), sid_of(claims)
        if token_id is None or (subject is None and sid is None):
            raise _untrusted("logout token: no jti, or neither sub nor sid")
        ends_at = float(claims.get("exp", claims["iat"] + LOGOUT_SECONDS))
        if ends_at <= self._clock() - CLOCK_SKEW_SECONDS:
            raise _untrusted("logout token: issued long ago")
        return LogoutToken(token_id, subject, sid, ends_at)

    def userinfo(self, token: str, metadata: Metadata, keys: ProviderKeys) -> dict[str, Any]:
        """The claims of a signed answer of the userinfo endpoint (OIDC Core section 5.3.2). It came
        for our access token; `iss` and `aud` need not be there, and may not be others'.

        Raises:
            SignInRefused: it is not to be trusted.
            ProviderUnavailable: the keys can't be fetched.
        """
        header = _header(token)
        taken = (
            *metadata.userinfo_signing_alg_values_supported,
            *metadata.id_token_signing_alg_values_supported,
        )
        algorithm = _algorithm(header, taken)
        if _typ(header) not in UNTYPED:
            raise _untrusted("userinfo: wrong typ")
        tried = keys.candidates(header.get("kid"), algorithm, unauthenticated=False)
        opened = self._opened(token, algorithm, tried, _CHECKS_OF_USERINFO)
        if opened is None:
            raise _untrusted("userinfo: no key of the provider fits")
        claims = opened[1]
        audience = claims.get("aud", self._client_id)
        if self._client_id not in (audience if isinstance(audience, list) else [audience]):
            raise _untrusted("userinfo: for another client")
        issuer = claims.get("iss", metadata.issuer)
        if issuer != metadata.issuer and not metadata.takes_issuer(str(issuer), claims.get("tid")):
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
        """Header and claims: signature, `iss`, `aud`, `exp`, `iat` and `nbf` are right."""
        header = _header(token)
        algorithm = _algorithm(header, metadata.id_token_signing_alg_values_supported)
        checks = _CHECKS_WITHOUT_EXP if without_exp else _CHECKS
        tried = keys.candidates(header.get("kid"), algorithm, unauthenticated)
        opened = self._opened(token, algorithm, tried, checks)
        if opened is None and header.get("kid") is None:
            others = keys.renewed(tried, algorithm, unauthenticated)
            opened = self._opened(token, algorithm, others, checks)
        if opened is None:
            raise _untrusted("token: no key of the provider fits")
        key, claims = opened
        if not all(_is_time(claims[name]) for name in ("exp", "iat") if name in claims):
            raise _untrusted("token: a time that is no number")
        issuer, tenant = str(claims["iss"]), claims.get("tid")
        if not metadata.takes_issuer(issuer, tenant):
            raise _untrusted("token: another issuer")
        if TENANT in metadata.issuer and not keys.is_for(key, issuer, tenant):
            raise _untrusted("token: signed with the key of another tenant")
        return header, claims

    def _opened(
        self, token: str, algorithm: str, keys: Sequence[PyJWK], checks: Options
    ) -> tuple[PyJWK, dict[str, Any]] | None:
        """The key that a token was signed with, and its claims; None where none of these is it."""
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
                continue  # without a `kid`, another key may be the one
            except (jwt.PyJWTError, *_UNREADABLE) as error:
                raise _untrusted(f"token: {type(error).__name__}") from error
        return None


def check_sign_in(token: IdToken, nonce: str, now: float) -> None:
    """Refuse an ID token of another sign-in (OIDC Core section 3.1.3.7, items 10 and 11).

    Args:
        nonce: that the sign-in began with.
        now: epoch seconds.

    Raises:
        SignInRefused: another nonce or none, or issued long ago.
    """
    found = token.claims.get("nonce")
    if not isinstance(found, str) or not hmac.compare_digest(
        found.encode("utf-8", "surrogatepass"), nonce.encode()
    ):
        raise _untrusted("ID token: wrong nonce")
    if token.claims["iat"] < now - MAX_AGE_SECONDS - CLOCK_SKEW_SECONDS:
        raise _untrusted("ID token: issued long ago")


def claimed_subject(token: Secret) -> str | None:
    """The `sub` of an ID token that nobody has checked; None where it can't be read."""
    try:
        claims = jwt.decode(token.reveal(), options={"verify_signature": False})
    except (jwt.PyJWTError, *_UNREADABLE):
        return None
    subject = claims.get("sub")
    return subject if isinstance(subject, str) else None


def _header(token: str) -> Mapping[str, Any]:
    if len(token) > MAX_TOKEN_LENGTH:
        raise _untrusted("token: too long")
    try:
        header: Mapping[str, Any] = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, *_UNREADABLE) as error:
        raise _untrusted("token: not a JWT") from error
    if "crit" in header:  # extensions that we do not know have to be known (RFC 7515 4.1.11)
        raise _untrusted("token: critical extensions")
    return header


def _algorithm(header: Mapping[str, Any], taken: Sequence[str]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in KEY_TYPES or algorithm not in taken:
        raise _untrusted("token: an algorithm that is not taken")
    return algorithm


def _typ(header: Mapping[str, Any]) -> str:
    typ = header.get("typ", "")
    return typ.lower() if isinstance(typ, str) else "not a text"


def _is_time(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 <= value < LATEST


def _check_authorized_party(claims: Mapping[str, Any], client_id: str) -> None:
    """`azp`: who the token was issued to (OIDC Core section 3.1.3.7, items 3 to 5)."""
    audience = claims["aud"]
    several = isinstance(audience, list) and len(audience) > 1
    if (several or "azp" in claims) and claims.get("azp") != client_id:
        raise _untrusted("ID token: issued to another client")


def _check_access_token_hash(claims: Mapping[str, Any], algorithm: str, access_token: str) -> None:
    """`at_hash`: the access token that belongs to it (OIDC Core section 3.1.3.6)."""
    if "at_hash" not in claims:
        return
    # EdDSA with Ed25519 hashes with SHA-512 inside; providers take that one.
    digest = _HASHES.get(algorithm[2:], hashlib.sha512)(access_token.encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if claims["at_hash"] != half:
        raise _untrusted("ID token: belongs to another access token")


def sid_of(claims: Mapping[str, Any]) -> str | None:
    """The provider's session as it is kept and compared: a long one (idpyoidc's has some hundreds
    of characters) as its hash. None where it is not named.

    Raises:
        SignInRefused: it is no text of use.
    """
    sid = _text(claims, "sid")
    if sid is None or len(sid) <= MAX_SID_LENGTH:
        return sid
    return f"sha-256:{token_hash(sid)}"


def _subject(claims: Mapping[str, Any]) -> str | None:
    subject = _text(claims, "sub")
    if subject is not None and len(subject) > MAX_SUBJECT_LENGTH:
        raise _untrusted("token: sub is no text of use")
    return subject


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim that is a text of use; None where it is left out.

    Raises:
        SignInRefused: it is something else.
    """
    value = claims.get(name)
    if value is None:
        return None
    # Control characters and halves of characters fit into no row.
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise _untrusted(f"token: {name} is no text of use")
    return value


def _untrusted(evidence: str) -> SignInRefused:
    return SignInRefused(Reason.UNTRUSTED, evidence)
