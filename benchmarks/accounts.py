"""Users, login sessions and access tokens to load Usher with.

Login sessions are real: signed up and signed in over HTTP. Argon2 makes that slow on purpose, so
there are few users and many logins. Access tokens beyond the first of a session are signed here
with the secret that the benchmark gave the server: the session's own header and claims with a new
``jti``, just what a refresh would hand out. So no token is ever presented twice, and neither the
replay rule nor a cache of verified tokens can colour a figure.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

from benchmarks.http_load import call_all, request
from benchmarks.ws_load import Address

LOGINS_AT_ONCE = 4


@dataclass(frozen=True)
class Login:
    """One login session and the tokens its sign-in returned."""

    access_token: str
    refresh_token: str = ""


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class TokenMint:
    """Signs further access tokens of a login session (RFC 7515, HS256)."""

    def __init__(self, secret: str) -> None:
        self._key = secret.encode()

    def another(self, login: Login, **changed: str | float) -> str:
        """An access token of the same login session with a ``jti`` of its own.

        ``changed``: claims to say something else in, such as the ``sub`` and ``sid`` of another
        user.
        """
        header, body, _ = login.access_token.split(".")
        claims = {**json.loads(_decode(body)), "jti": secrets.token_urlsafe(16), **changed}
        body = _encode(json.dumps(claims, separators=(",", ":")).encode()).decode()
        signed = f"{header}.{body}".encode()
        signature = hmac.new(self._key, signed, hashlib.sha256).digest()
        return (signed + b"." + _encode(signature)).decode()

    def spread(self, logins: list[Login], count: int) -> Iterator[str]:
        """``count`` tokens, taken from the logins in turn."""
        for _, login in zip(range(count), cycle(logins)):
            yield self.another(login)


def sign_in(address: Address, users: int, logins: int) -> list[Login]:
    """Sign up ``users`` and sign them in until there are ``logins`` login sessions."""
    people = [
        {
            "email": f"bench-{number}-{secrets.token_hex(4)}@example.com",
            "password": secrets.token_urlsafe(18),
            "client": "native",
        }
        for number in range(users)
    ]
    signups = [
        request(address, "POST", "/api/auth/signup", {**person, "name": f"Bench {number}"})
        for number, person in enumerate(people)
    ]
    for answer in call_all(address, signups, connections=1):
        answer.data(201)
    requests = [
        request(address, "POST", "/api/auth/login", person)
        for _, person in zip(range(logins), cycle(people))
    ]
    answers = call_all(address, requests, LOGINS_AT_ONCE)
    bodies = [answer.data(200) for answer in answers]
    return [Login(str(body["access_token"]), str(body["refresh_token"])) for body in bodies]
