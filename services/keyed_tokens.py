"""Opaque tokens whose form shows that they are ours, so that others cost no look-up.

The checksum is an HMAC-SHA256 (RFC 2104), truncated to 128 bits, under a key derived from
JWT_SECRETS with HKDF (RFC 5869). It proves only that the token was made here: whether it still
counts is for whoever keeps its hash. Nothing is lost when a secret leaks: the random part alone
is what cannot be guessed.
"""

from __future__ import annotations

import base64
import hmac
import secrets as random
from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.opaque import TOKEN_BYTES
from services.secret import Secret

CHECKSUM_BYTES = 16
CHECKSUM_LENGTH = 22
"""Characters."""
KEY_ID_BYTES = 4
MAX_LENGTH = 512


class Ours(msgspec.Struct, frozen=True):
    """A token of our form.

    Attributes:
        subject: whom it was made for.
        key_id: names the secret behind its checksum.
    """

    subject: str
    key_id: str


class Checksums:
    """Signs texts for one purpose, and knows its own signatures.

    Args:
        secrets: JWT_SECRETS, newest first: the first signs, all verify.
        purpose: keeps signatures of different kinds apart.
    """

    def __init__(self, secrets: Sequence[Secret], purpose: str) -> None:
        self._keys = [_derived_key(secret, purpose) for secret in secrets]

    def sign(self, text: str) -> str:
        """The checksum of a text: 22 URL-safe characters."""
        return _checksum(self._keys[0], text)

    def verify(self, text: str, checksum: str) -> bool:
        """Whether a checksum was made here, for this text."""
        given = checksum.encode("utf-8", "surrogatepass")
        return any(hmac.compare_digest(given, _checksum(key, text).encode()) for key in self._keys)


class KeyedTokens:
    """Makes tokens `PREFIX.KEY_ID.SUBJECT.RANDOM.CHECKSUM`, and knows them again.

    Args:
        secrets: JWT_SECRETS, newest first: the first makes, all know.
        purpose: keeps keys of different kinds of tokens apart.
        prefix: fixed text before them, so that secret scanners find leaked ones.
    """

    def __init__(self, secrets: Sequence[Secret], purpose: str, prefix: str) -> None:
        self._prefix = prefix
        keys = [_derived_key(secret, purpose) for secret in secrets]
        self._keys = {_key_id(key): key for key in keys}
        self.key_id = _key_id(keys[0])
        """Of the secret that makes tokens now."""

    def make(self, subject: str) -> Secret:
        """A new token.

        Args:
            subject: URL-safe, without a dot.
        """
        parts = (self._prefix, self.key_id, subject, random.token_urlsafe(TOKEN_BYTES))
        text = ".".join(parts)
        return Secret(f"{text}.{_checksum(self._keys[self.key_id], text)}")

    def read(self, token: str) -> Ours | None:
        """What stands in a token that was made here; None for any other. Looks nothing up."""
        found = self.outline(token)
        key = self._keys.get(found.key_id) if found is not None else None
        if key is None:
            return None
        text, _, checksum = token.rpartition(".")
        return found if hmac.compare_digest(checksum, _checksum(key, text)) else None

    def outline(self, token: str) -> Ours | None:
        """The same for whatever has the form of one: its checksum is not looked at."""
        parts = token.split(".") if len(token) <= MAX_LENGTH and token.isascii() else []
        if len(parts) != 5 or parts[0] != self._prefix:
            return None
        return Ours(parts[2], parts[1])

    @property
    def key_ids(self) -> frozenset[str]:
        """Of the secrets whose checksums can be verified."""
        return frozenset(self._keys)


def _derived_key(secret: Secret, purpose: str) -> bytes:
    info = f"usher/{purpose}/1".encode()
    return HKDF(SHA256(), 32, salt=None, info=info).derive(secret.reveal().encode())


def _url_safe(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _checksum(key: bytes, text: str) -> str:
    return _url_safe(
        hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256")[:CHECKSUM_BYTES]
    )


def _key_id(key: bytes) -> str:
    # Of the derived key, not of the secret: it is shown to whoever holds a token.
    return _url_safe(hmac.digest(key, b"key id", "sha256")[:KEY_ID_BYTES])
