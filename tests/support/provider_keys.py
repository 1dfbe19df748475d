"""The signing keys of the tests' OpenID provider, and everything wrong one can do with a key.

RSA keys take long to make, so the private ones are made once per process; providers give them
key IDs of their own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

Algorithm = Literal["RS256", "ES256"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class _LeftOut:
    def __repr__(self) -> str:
        return "LEFT_OUT"  # the same in every process: it stands in the names of tests


LEFT_OUT: Final = _LeftOut()
"""As the value of a claim or header: it is not there at all."""
FOREIGN = -1
"""The number of a key that no provider publishes."""
HMAC_SECRET = b"an oct key that has no business in a public key set"
HMAC_KID = "oct"


_ONE_AT_A_TIME = threading.Lock()  # or two threads would each have a key of the same number


def private_key(algorithm: Algorithm, number: int) -> PrivateKey:
    """The process's key of this number, made at the first call."""
    with _ONE_AT_A_TIME:
        return _made(algorithm, number)


@cache
def _made(algorithm: Algorithm, number: int) -> PrivateKey:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class Key:
    """A signing key under a key ID."""

    algorithm: Algorithm
    number: int
    kid: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def private(self) -> PrivateKey:
        return private_key(self.algorithm, self.number)

    def sign(self, message: bytes) -> bytes:
        signer = get_default_algorithms()[self.algorithm]
        return bytes(signer.sign(message, self.private))

    def jwk(self, **more: object) -> dict[str, Any]:
        """The public half as RFC 7517 writes it."""
        signer: Any = get_default_algorithms()[self.algorithm]
        public = json.loads(signer.to_jwk(self.private.public_key()))
        public.pop("key_ops", None)
        return {**public, "kid": self.kid, "use": "sig", "alg": self.algorithm, **more}

    def pem(self) -> bytes:
        """The public half as a naive client would load it: bytes anybody has."""
        return self.private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    def raw(self) -> bytes:
        """The modulus of an RSA key, or the point of an EC one: also bytes anybody has."""
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            return public.public_numbers().n.to_bytes(public.key_size // 8, "big")
        return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def hmac_jwk() -> dict[str, str]:
    """A symmetric key as a JWK: whoever reads the key set can sign with it."""
    secret = encoded(HMAC_SECRET)
    return {"kty": "oct", "use": "sig", "alg": "HS256", "kid": HMAC_KID, "k": secret}


Signer = Literal[
    "honest",
    "none",
    "foreign",
    "pem",
    "raw",
    "oct",
    "client_secret",
    "jwk_embedded",
    "jku",
]
"""Who signs a token: the provider itself, or one of the known forgeries (RFC 8725 section 2)."""


@dataclass(frozen=True)
class Signing:
    """How to sign, in the eyes of one provider.

    Attributes:
        key: the provider's own.
        client_secret: of the client the token is for.
        foreign_keys: the URL of the foreign key set.
    """

    key: Key
    client_secret: str
    foreign_keys: str

    def token(
        self, header: Mapping[str, object], claims: Mapping[str, object], signer: Signer = "honest"
    ) -> str:
        """A compact JWS. The header is written over the one that the signer would choose."""
        own, sign = self._by(signer)
        return compact({**own, **header}, claims, sign)

    def _by(self, signer: Signer) -> tuple[dict[str, object], Callable[[bytes], bytes]]:
        foreign = Key(self.key.algorithm, FOREIGN, self.key.kid)
        honest: dict[str, object] = {
            "alg": self.key.algorithm,
            "typ": "JWT",
            "kid": self.key.kid,
        }
        if signer == "honest":
            return honest, self.key.sign
        if signer == "none":
            return {**honest, "alg": "none"}, lambda _: b""
        if signer == "foreign":
            return honest, foreign.sign
        if signer == "jwk_embedded":
            return {**honest, "jwk": foreign.jwk()}, foreign.sign
        if signer == "jku":
            return {**honest, "jku": self.foreign_keys}, foreign.sign
        secret = {
            "pem": self.key.pem(),
            "raw": self.key.raw(),
            "oct": HMAC_SECRET,
            "client_secret": self.client_secret.encode(),
        }[signer]
        kid = HMAC_KID if signer == "oct" else self.key.kid
        return {"alg": "HS256", "typ": "JWT", "kid": kid}, lambda message: _hs256(secret, message)


def compact(
    header: Mapping[str, object], claims: Mapping[str, object], sign: Callable[[bytes], bytes]
) -> str:
    """RFC 7515 section 3.1, without a check of anything. LEFT_OUT entries are left out."""
    parts = (
        encoded(json.dumps({k: v for k, v in part.items() if v is not LEFT_OUT}).encode())
        for part in (header, claims)
    )
    message = ".".join(parts)
    return f"{message}.{encoded(sign(message.encode()))}"


def encoded(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def half_hash(value: str) -> str:
    """`at_hash` of an access token (OIDC Core section 3.1.3.6); both algorithms have SHA-256."""
    return encoded(hashlib.sha256(value.encode()).digest()[:16])


def _hs256(secret: bytes, message: bytes) -> bytes:
    return hmac.new(secret, message, hashlib.sha256).digest()
