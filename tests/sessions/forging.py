"""Tokens as Usher signs them, and forged ones."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest

from services.errors import TokenExpired, Unauthenticated
from services.secret import Secret
from services.sessions.tokens import Tokens, key_id

NOW = 1_700_000_000.25
ISSUER = "https://usher.example"
NEW, OLD, FOREIGN = (Secret(letter * 32) for letter in "nof")
FAR = NOW + 30 * 86_400


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens([NEW, OLD], ISSUER, ttl=900, clock=clock)


def segment(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(
    header: dict[str, Any] | bytes | None = None,
    payload: object = None,
    secret: Secret = NEW,
    hash_name: str = "sha256",
    **claims: Any,
) -> str:
    """A token put together by hand and signed with a secret of ours: what the signature
    cannot refuse, the rest has to."""
    base = {"alg": "HS256", "kid": key_id(secret), "typ": "at+jwt"}
    signed = f"{segment(base if header is None else header)}.{segment(payload or good(**claims))}"
    digest = hmac.new(secret.reveal().encode(), signed.encode(), hash_name).digest()
    return f"{signed}.{segment(digest)}"


def good(**claims: Any) -> dict[str, object]:
    base: dict[str, object] = {
        "iss": ISSUER,
        "aud": "usher",
        "sub": "u1",
        "sid": "s1",
        "jti": "j1",
        "iat": NOW,
        "exp": NOW + 900,
        "role": "user",
    }
    return {name: value for name, value in {**base, **claims}.items() if value is not ...}


def head(secret: Secret = NEW, **changes: Any) -> dict[str, Any]:
    base: dict[str, object] = {"alg": "HS256", "kid": key_id(secret), "typ": "at+jwt"}
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


def refused(tokens: Tokens, token: str, evidence: str = "access token") -> None:
    with pytest.raises(Unauthenticated) as error:
        tokens.verify(token)
    assert not isinstance(error.value, TokenExpired)
    assert evidence in error.value.evidence
    assert not error.value.public
