"""Access tokens: short-lived JWTs that a server verifies locally.

RFC 7519 (JWT), RFC 7515 (compact form), RFC 9068 (`at+jwt`), RFC 8725 (best practice).

PyJWT signs and checks the keys; services/hmac_sha256.py verifies. The three parts
are split here because `verify` runs once per join: `jwt.decode` needs the key before it shows the
`kid`, so the header would be read twice, and it prepares the key each time (measured: 66 µs against
8 µs of CPU). tests/sessions/test_tokens.py compares this parser with PyJWT's own.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Callable, Sequence
from typing import Literal

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from services.claims import MAX_TTL_SECONDS, MIN_SECRET_BYTES, Acr, Claims, Role
from services.errors import TokenExpired, Unauthenticated
from services.hmac_sha256 import HmacSha256
from services.keyed_tokens import Checksums, KeyedTokens, Keyring
from services.secret import Secret

__all__ = [
    "ALGORITHM",
    "MAX_TOKEN_LENGTH",
    "MAX_TTL_SECONDS",
    "MIN_SECRET_BYTES",
    "Claims",
    "Role",
    "Tokens",
]

ALGORITHM = "HS256"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type
# RFC 9068 section 4 names both forms; media types are compared without regard to case.
TOKEN_TYPES = frozenset({TOKEN_TYPE, "application/at+jwt"})

REFRESH_PREFIX = "usher_rt"
"""Before refresh tokens, so that secret scanners find leaked ones."""

PURPOSES = ("refresh-token", "ticket", "device", "native-code", "api-key", "account-link", "factor")
"""Of keys that are derived from the secrets."""

MAX_TOKEN_LENGTH = 4096
"""Characters. Ours have about 400; more is not worth the hashing."""

CLOCK_SKEW_SECONDS = 5
"""How far ahead another node's clock may be. It never prolongs a token: `exp` has no leeway."""

# Base64url without padding or white space (RFC 7515 section 2), so that one token has exactly
# one spelling; 43 characters are the 32 bytes of HMAC-SHA-256.
_LETTERS = (string.ascii_letters + string.digits + "-_").encode()
_SIGNATURE_LENGTH = 43

_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")

# Ids become parts of Redis keys: no braces, colons or spaces, not even in a signed token. All three
# in one look, which costs a third of a pattern for each in the type.
_IDS = re.compile(r"[A-Za-z0-9_-]{1,64} [A-Za-z0-9_-]{1,64} [A-Za-z0-9_-]{1,64}")


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    """The whole header. `crit`, `b64`, `jku`, `jwk`, `x5u` and the like are refused unread:
    Usher issues none of them, and each has been a way in (RFC 8725 sections 3.9 and 3.10)."""

    alg: Literal["HS256"]
    kid: str
    typ: str


class _Payload(msgspec.Struct, gc=False):
    """The payload. Strict: no bool or string for a number; JSON has no NaN or infinity."""

    iss: str
    aud: str
    sub: str
    sid: str
    jti: str
    iat: float
    exp: float
    role: Role
    auth_time: float = 0.0
    acr: Acr = "1"
    nbf: float = 0.0


class Tokens:
    """Issues and verifies the access tokens of one installation.

    Args:
        secrets: HS256 secrets, newest first: the first signs, all verify. Each at least 32
            bytes (RFC 7518 section 3.2).
        issuer: `iss`, the public URL.
        audience: `aud`.
        ttl: life of a token in seconds; fractions count.
        clock: epoch seconds.

    Raises:
        ValueError: no secret, or one that is too short or not fit for HMAC.
    """

    def __init__(
        self,
        secrets: Sequence[Secret],
        issuer: str,
        audience: str = "usher",
        ttl: float = 900.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not secrets:
            raise ValueError("at least one JWT secret is needed")
        self._hmac = HMACAlgorithm(HMACAlgorithm.SHA256)
        self._take_keys({key_id(secret): self._key(secret) for secret in secrets})
        self._next: tuple[str, float] | None = None
        """The secret that signs from a moment on, in seconds of the monotonic clock."""
        self.issuer, self.audience = issuer, audience
        self._ttl = ttl
        self._clock = clock
        self._signing_kid = key_id(secrets[0])
        self._keyrings = [Keyring(secrets, name) for name in PURPOSES]
        refresh, ticket, device, code, api_key, link, factor = self._keyrings
        self.refresh = KeyedTokens(refresh, REFRESH_PREFIX)
        """Makes refresh tokens, and knows them again."""
        self.tickets, self.devices = Checksums(ticket), Checksums(device)
        """Sign tickets, and what devices keep of a sign-in."""
        self.api_keys = Checksums(api_key)
        self.codes = Checksums(code)
        """Signs the codes of native sign-ins."""
        self.links = Checksums(link)
        """Signs the tokens of one-time links."""
        self.factors = Checksums(factor)
        """Signs the challenges of second factors and passkeys."""
        self._payload = msgspec.json.Decoder(_Payload)
        self._header = msgspec.json.Decoder(_Header)

    def replace_secrets(self, secrets: Sequence[Secret], settle: float = 0.0) -> None:
        """Replace the secrets. All of them verify at once.

        Args:
            secrets: newest first.
            settle: seconds until a new first secret signs, if the current one stays in the list. By
                then, the other nodes have to know it.

        Raises:
            ValueError: as the constructor; nothing is changed.
        """
        if not secrets:
            raise ValueError("at least one JWT secret is needed")
        keys = {key_id(secret): self._key(secret) for secret in secrets}
        newest, now = key_id(secrets[0]), time.monotonic()
        if self._signing_kid not in keys or settle <= 0:
            self._signing_kid, self._next = newest, None
        elif newest == self._signing_kid:
            self._next = None
        elif self._next is None or self._next[0] != newest:
            self._next = newest, now + settle
        for keyring in self._keyrings:
            keyring.replace(secrets, settle)
        self._take_keys(keys)

    def _take_keys(self, keys: dict[str, bytes]) -> None:
        self._keys = keys
        self._macs = {kid: HmacSha256(key) for kid, key in keys.items()}
        # The header of every token of ours is one of these few texts: no need to parse it.
        self._headers = {_header_segment(kid): mac for kid, mac in self._macs.items()}

    def _signer(self) -> str:
        if self._next is not None and time.monotonic() >= self._next[1]:
            self._signing_kid, self._next = self._next[0], None
        return self._signing_kid

    def issue(
        self,
        user_id: str,
        session_id: str,
        role: Role,
        not_after: float,
        auth_time: float | None = None,
        acr: Acr = "1",
    ) -> tuple[str, Claims]:
        """A new access token and its claims.

        Args:
            user_id: becomes `sub`.
            session_id: the login session, becomes `sid`.
            role: the user's role now.
            not_after: epoch seconds; the end of the login session, which no token outlives.
            auth_time: when the user last proved who they are, epoch seconds; now by default.
            acr: by how many factors.

        Raises:
            Unauthenticated: the login session is over already.
        """
        now = self._clock()
        # Milliseconds: short enough to read, fine enough for a TTL below a second.
        issued_at, expires_at = round(now, 3), round(min(now + self._ttl, not_after), 3)
        if expires_at <= issued_at:
            raise Unauthenticated("no token for a login session that is over")
        proven_at = issued_at if auth_time is None else round(auth_time, 3)
        token_id = secrets.token_urlsafe(16)
        claims = Claims(user_id, session_id, token_id, issued_at, expires_at, role, proven_at, acr)
        payload = {"iss": self.issuer, "aud": self.audience, **msgspec.structs.asdict(claims)}
        kid = self._signer()
        headers, key = {"kid": kid, "typ": TOKEN_TYPE}, self._keys[kid]
        return jwt.encode(payload, key, algorithm=ALGORITHM, headers=headers), claims

    def verify(self, token: str) -> Claims:
        """The claims of a genuine, active access token.

        Raises:
            TokenExpired: genuine in every other respect, only too old; carries `claims`.
            Unauthenticated: anything else. `evidence` names the part; the client is not told.
        """
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        if (
            len(token) > MAX_TOKEN_LENGTH
            # All letters and two dots: a third of the cost of a regular expression.
            or token.encode(errors="replace").translate(None, _LETTERS) != b".."
            or not (header and payload)
            or len(signature) != _SIGNATURE_LENGTH
        ):
            raise Unauthenticated("access token: not a compact JWS")
        self._check_signature(header, signed, signature)
        return self._check_claims(self._decode_payload(payload))

    def _key(self, secret: Secret) -> bytes:
        try:
            key = self._hmac.prepare_key(secret.reveal())
        except jwt.InvalidKeyError as error:
            raise ValueError("a JWT secret looks like another kind of key") from error
        if len(key) < MIN_SECRET_BYTES:
            raise ValueError("a JWT secret is shorter than 32 bytes")
        return key

    def _check_signature(self, header: str, signed: str, signature: str) -> None:
        mac = self._headers.get(header) or self._mac_for(header)
        expected = _base64url(mac.digest(signed.encode()))
        # Compared as text: the last character has spare bits, and a decoder that drops them
        # would take four spellings of one signature.
        if not hmac.compare_digest(expected, signature):
            raise Unauthenticated("access token: wrong signature")

    def _mac_for(self, segment: str) -> HmacSha256:
        """The MAC of the key for a header that is not spelt as ours are, but may be as good."""
        try:
            header = self._header.decode(_base64url_decode(segment))
        except (msgspec.DecodeError, ValueError) as error:
            raise Unauthenticated("access token: header not taken") from error
        if header.typ.lower() not in TOKEN_TYPES:
            # Keeps ID tokens and other JWT of the same secret out (RFC 8725 section 3.11).
            raise Unauthenticated("access token: wrong typ")
        mac = self._macs.get(header.kid)
        if mac is None:
            raise Unauthenticated("access token: unknown kid")
        return mac

    def _decode_payload(self, segment: str) -> _Payload:
        try:
            # As text first: of members that it passes over, the decoder does not look at bytes.
            payload = self._payload.decode(str(_base64url_decode(segment), "utf-8"))
        except (msgspec.DecodeError, ValueError) as error:
            raise Unauthenticated("access token: claims missing or of a wrong type") from error
        if _IDS.fullmatch(f"{payload.sub} {payload.sid} {payload.jti}") is None:
            raise Unauthenticated("access token: ids of a wrong form")
        return payload

    def _check_claims(self, payload: _Payload) -> Claims:
        now = self._clock()
        if payload.iss != self.issuer:
            raise Unauthenticated("access token: another issuer")
        if payload.aud != self.audience:
            raise Unauthenticated("access token: another audience")
        if max(payload.iat, payload.nbf) > now + CLOCK_SKEW_SECONDS:
            raise Unauthenticated("access token: not valid yet")
        if payload.exp - payload.iat > MAX_TTL_SECONDS:
            raise Unauthenticated("access token: a lifetime that is never issued")
        claims = Claims(
            payload.sub,
            payload.sid,
            payload.jti,
            payload.iat,
            payload.exp,
            payload.role,
            payload.auth_time,
            payload.acr,
        )
        if now >= payload.exp:
            raise TokenExpired("access token: expired", claims=claims)
        return claims


def key_id(secret: Secret) -> str:
    """`kid`: 16 characters of the secret's SHA-256, so that rotation needs no names.

    It tells no more about the secret than the signature beside it does; the prefix keeps it
    apart from every other hash of the same text.
    """
    digest = hashlib.sha256(b"usher jwt kid\0" + secret.reveal().encode()).digest()
    return _base64url(digest[:12])


def _header_segment(kid: str) -> str:
    # Spelt exactly as PyJWT spells it: sorted members, no spaces.
    header = {"alg": ALGORITHM, "kid": kid, "typ": TOKEN_TYPE}
    return _base64url(msgspec.json.encode(header))


def _base64url(data: bytes) -> str:
    text = binascii.b2a_base64(data, newline=False).rstrip(b"=")
    return text.translate(_TO_URL).decode("ascii")


def _base64url_decode(segment: str) -> bytes:
    """Raises ValueError (binascii.Error) for an impossible length; the alphabet is checked."""
    text = segment.encode("ascii").translate(_FROM_URL)
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
