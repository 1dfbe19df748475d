"""The header and the claims of a token that a provider signed: what they must be, one by one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from services.oauth.errors import Reason, SignInRefused
from services.oauth.jwks import KEY_TYPES
from services.opaque import token_hash

MAX_TOKEN_LENGTH = 32_768
"""Characters. ID tokens with many groups have several thousand."""
UNTYPED_TYPES = frozenset(("", "jwt", "application/jwt"))
"""Values of `typ` in ID tokens. A token with an explicit type is another kind of token (RFC 8725
section 3.11)."""
PARSE_ERRORS = (ValueError, TypeError, OverflowError, RecursionError)
"""Exceptions that PyJWT does not wrap, for claims of unexpected types."""
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
MAX_TIMESTAMP = 2.0**40
"""Upper bound of timestamps, in epoch seconds, so that they fit into a database column."""
MAX_SUBJECT_LENGTH = 255
"""Characters of `sub` (OIDC Core section 2). `sid` and `jti` are limited only by the token."""
MAX_SID_LENGTH = 255
"""Characters of a `sid` that is stored as it is. A longer one is stored as a hash, as it would not
fit into a database index."""


def header_of(token: str) -> Mapping[str, Any]:
    """The header of a token that is not verified yet.

    Raises:
        SignInRefused: it is no JWT, is too long, or has critical extensions.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise untrusted("token: too long")
    try:
        header: Mapping[str, Any] = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, *PARSE_ERRORS) as error:
        raise untrusted("token: not a JWT") from error
    if "crit" in header:  # unknown critical extensions (RFC 7515 section 4.1.11)
        raise untrusted("token: critical extensions")
    return header


def algorithm_of(header: Mapping[str, Any], accepted: Sequence[str]) -> str:
    """The `alg` of a header.

    Args:
        accepted: the algorithms that the provider says it signs with.

    Raises:
        SignInRefused: it is none of these, or not asymmetric.
    """
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in KEY_TYPES or algorithm not in accepted:
        raise untrusted("token: algorithm not accepted")
    return algorithm


def typ_of(header: Mapping[str, Any]) -> str:
    """The `typ` of a header in lower case; empty if there is none."""
    typ = header.get("typ", "")
    return typ.lower() if isinstance(typ, str) else "not a text"


def is_time(value: object) -> bool:
    """Whether a claim is a time in epoch seconds that fits into a database column."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 <= value < MAX_TIMESTAMP


def check_authorized_party(claims: Mapping[str, Any], client_id: str) -> None:
    """Check `azp`, the client that the token was issued to (OIDC Core section 3.1.3.7, items 3 to
    5).

    Raises:
        SignInRefused: it is another client.
    """
    audience = claims["aud"]
    several = isinstance(audience, list) and len(audience) > 1
    if (several or "azp" in claims) and claims.get("azp") != client_id:
        raise untrusted("ID token: issued to another client")


def check_access_token_hash(claims: Mapping[str, Any], algorithm: str, access_token: str) -> None:
    """Check `at_hash`, the hash of the access token (OIDC Core section 3.1.3.6).

    Raises:
        SignInRefused: it is the hash of another token.
    """
    if "at_hash" not in claims:
        return
    # Ed25519 uses SHA-512 internally, and providers use it for `at_hash`.
    digest = _HASHES.get(algorithm[2:], hashlib.sha512)(access_token.encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if claims["at_hash"] != half:
        raise untrusted("ID token: belongs to another access token")


def sid_of(claims: Mapping[str, Any]) -> str | None:
    """The `sid` claim as it is stored and compared; None if there is none.

    A long one is replaced by its hash. Those of idpyoidc have several hundred characters.

    Raises:
        SignInRefused: it is not a usable string.
    """
    sid = text_of(claims, "sid")
    if sid is None or len(sid) <= MAX_SID_LENGTH:
        return sid
    return f"sha-256:{token_hash(sid)}"


def subject_of(claims: Mapping[str, Any]) -> str | None:
    """The `sub` claim; None if it is missing.

    Raises:
        SignInRefused: it is not a usable string, or too long.
    """
    subject = text_of(claims, "sub")
    if subject is not None and len(subject) > MAX_SUBJECT_LENGTH:
        raise untrusted("token: sub is not a usable string")
    return subject


def text_of(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim that must be a non-empty, printable string; None if it is missing.

    Raises:
        SignInRefused: it is anything else.
    """
    value = claims.get(name)
    if value is None:
        return None
    # Databases reject NUL characters and lone surrogates.
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise untrusted(f"token: {name} is not a usable string")
    return value


def untrusted(evidence: str) -> SignInRefused:
    """The refusal of a token. `evidence` is for the log."""
    return SignInRefused(Reason.UNTRUSTED, evidence)
