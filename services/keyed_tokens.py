"""Opaque tokens with a checksum, so that forged ones are refused without a look-up.

The checksum is an HMAC-SHA256 (RFC 2104), truncated to 128 bits, under a key derived from
JWT_SECRETS with HKDF (RFC 5869). It proves only that the token was issued here. Whether it is still
valid is decided by the service that stores its hash. A leaked secret does not weaken the tokens:
the random part alone makes them unguessable.
"""

from __future__ import annotations

import base64
import hmac
import secrets as random
import time
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
    """The parts of a token.

    Attributes:
        subject: the subject that it was issued for.
        key_id: the id of the key of its checksum.
    """

    subject: str
    key_id: str


class Keyring:
    """The keys of one purpose, one derived from each of JWT_SECRETS.

    Args:
        secrets: newest first: the first signs, all verify.
        purpose: separates keys of different kinds.
    """

    def __init__(self, secrets: Sequence[Secret], purpose: str) -> None:
        self._purpose = purpose
        self.keys: dict[str, bytes] = {}
        """Every key that verifies, by its id; newest first."""
        self._signing, self._since = "", 0.0
        self.replace(secrets)

    def replace(self, secrets: Sequence[Secret], settle: float = 0.0) -> None:
        """Replace the secrets.

        Args:
            settle: seconds until a new first secret signs, so that other nodes can load it. It
                applies only if the currently signing one stays in the list.
        """
        signing = self.signing_id if self.keys else ""
        derived = [_derived_key(secret, self._purpose) for secret in secrets]
        self.keys = {_key_id(key): key for key in derived}
        self._signing = signing
        self._since = time.monotonic() + (settle if signing in self.keys else 0.0)

    @property
    def signing_id(self) -> str:
        """The id of the key that currently signs."""
        is_settling = self._signing in self.keys and time.monotonic() < self._since
        return self._signing if is_settling else next(iter(self.keys))


class Checksums:
    """Signs texts for one purpose, and verifies the signatures."""

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring

    def sign(self, text: str) -> str:
        """The checksum of a text: 22 URL-safe characters."""
        return _checksum(self.keyring.keys[self.keyring.signing_id], text)

    def verify(self, text: str, checksum: str) -> bool:
        """Whether a checksum is valid for this text."""
        given = checksum.encode("utf-8", "surrogatepass")
        return any(
            hmac.compare_digest(given, _checksum(key, text).encode())
            for key in self.keyring.keys.values()
        )

    def holds(self, token: str, prefix: str, most: int) -> bool:
        """Whether a token begins with a prefix, has at most so many characters, and ends with the
        checksum of what comes before."""
        text, checksum = token[:-CHECKSUM_LENGTH], token[-CHECKSUM_LENGTH:]
        return len(token) <= most and text.startswith(prefix) and self.verify(text, checksum)


class KeyedTokens:
    """Creates and verifies tokens `PREFIX.KEY_ID.SUBJECT.RANDOM.CHECKSUM`.

    Args:
        prefix: a fixed prefix, so that secret scanners find leaked tokens.
    """

    def __init__(self, keyring: Keyring, prefix: str) -> None:
        self.keyring, self._prefix = keyring, prefix

    def make(self, subject: str) -> Secret:
        """Create a token.

        Args:
            subject: URL-safe, without a dot.
        """
        key_id = self.keyring.signing_id
        parts = (self._prefix, key_id, subject, random.token_urlsafe(TOKEN_BYTES))
        text = ".".join(parts)
        return Secret(f"{text}.{_checksum(self.keyring.keys[key_id], text)}")

    def read(self, token: str) -> Ours | None:
        """Parse and verify a token; None if it was not issued here. Makes no look-up."""
        found = self.outline(token)
        key = self.keyring.keys.get(found.key_id) if found is not None else None
        if key is None:
            return None
        text, _, checksum = token.rpartition(".")
        return found if hmac.compare_digest(checksum, _checksum(key, text)) else None

    def outline(self, token: str) -> Ours | None:
        """Parse a token without verifying its checksum."""
        parts = token.split(".") if len(token) <= MAX_LENGTH and token.isascii() else []
        if len(parts) != 5 or parts[0] != self._prefix:
            return None
        return Ours(parts[2], parts[1])


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
    # Derived from the derived key, not the secret, because every token shows it.
    return _url_safe(hmac.digest(key, b"key id", "sha256")[:KEY_ID_BYTES])
