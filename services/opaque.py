"""Opaque random credentials: refresh tokens, tickets, API keys.

They are stored only as a hash. A fast hash is sufficient: a token of 256 random bits cannot be
guessed, so a slow password hash would protect nothing (OWASP ASVS 2.9, 3.2.2).
"""

from __future__ import annotations

import binascii
import hashlib
import os
import secrets

from services.secret import Secret

TOKEN_BYTES = 32
_ID_BYTES = 16
_TO_URL = bytes.maketrans(b"+/", b"-_")


def opaque_token(prefix: str = "") -> Secret:
    """A new credential: `prefix` and 43 URL-safe characters, 256 bits from the system's source.

    Args:
        prefix: fixed text before the random part, so that secret scanners find leaked keys.
    """
    return Secret(prefix + secrets.token_urlsafe(TOKEN_BYTES))


def token_hash(token: str) -> str:
    """SHA-256 of a credential as 64 hex digits: the only form that is stored or looked up.

    A look-up by hash also takes the timing of string comparison out of an attacker's reach.
    Any text is accepted, because it comes from unauthenticated clients.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def random_id() -> str:
    """22 URL-safe characters, 128 bits from the system's source: `secrets.token_urlsafe(16)` in one
    call instead of five, for what every join needs."""
    text = binascii.b2a_base64(os.urandom(_ID_BYTES), newline=False)
    return text[:22].translate(_TO_URL).decode("ascii")
