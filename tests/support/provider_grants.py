"""What the tests' OpenID provider has given out, and the checks before it gives out more.

The checks are the ones of a real provider: client authentication, redirect_uri, PKCE, single use.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote_plus

from tests.support.http_service import Seen
from tests.support.provider_keys import encoded

RefreshTokens = Literal["rotating", "kept", "none"]
"""A new one at each use and the old one dead; the first one for ever; none at all."""


class Refused(Exception):
    """An error of RFC 6749 section 5.2.

    Args:
        code: the value of `error`; "" for an answer without a body.
        reason: for the reader of a failed test.
    """

    def __init__(self, code: str, reason: str, status: int = 400) -> None:
        super().__init__(code, reason)
        self.code, self.reason, self.status = code, reason, status


@dataclass
class Grant:
    """That a person let the client in, once."""

    user: Mapping[str, Any]
    sid: str
    scope: str
    redirect_uri: str
    nonce: str | None
    challenge: str | None
    auth_time: int = field(default_factory=lambda: int(time.time()))
    ended: bool = False


class Grants:
    """Codes and tokens, and whose they are. All in memory, all thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: dict[str, Grant] = {}
        self._used: dict[str, Grant] = {}
        self._access: dict[str, Grant] = {}
        self._refresh: dict[str, Grant] = {}

    def code_for(self, grant: Grant) -> str:
        with self._lock:
            code = secrets.token_urlsafe(16)
            self._codes[code] = grant
            return code

    def redeem(self, code: str, redirect_uri: str | None, verifier: str) -> Grant:
        """A code that was used before also ends what it gave (RFC 6749 section 4.1.2).

        Args:
            redirect_uri: None if it need not be repeated.

        Raises: Refused.
        """
        with self._lock:
            if code in self._used:
                self._used[code].ended = True
                raise Refused("invalid_grant", "the code was used before")
            grant = self._codes.get(code)
            if grant is None or grant.ended:
                raise Refused("invalid_grant", "no such code")
            if redirect_uri not in (None, grant.redirect_uri):
                raise Refused("invalid_grant", "another redirect_uri than at /authorize")
            if grant.challenge is not None and s256(verifier) != grant.challenge:
                raise Refused("invalid_grant", "the code_verifier does not fit")
            self._used[code] = self._codes.pop(code)
            return grant

    def refreshed(self, token: str, mode: RefreshTokens) -> Grant:
        """The grant of a refresh token, which is used up when they rotate.

        Raises: Refused.
        """
        with self._lock:
            grant = self._refresh.get(token)
            if grant is None or grant.ended:
                raise Refused("invalid_grant", "the refresh token is no good")
            if mode == "rotating":
                del self._refresh[token]
            return grant

    def access_token(self, grant: Grant, prefix: str = "at-") -> str:
        return self._given(self._access, prefix, grant)

    def refresh_token(self, grant: Grant, prefix: str = "rt-") -> str:
        return self._given(self._refresh, prefix, grant)

    def of_access_token(self, token: str) -> Grant | None:
        with self._lock:
            grant = self._access.get(token)
            return None if grant is None or grant.ended else grant

    def revoke(self, token: str) -> None:
        """RFC 7009 section 2.1: a refresh token takes the access tokens with it."""
        with self._lock:
            self._access.pop(token, None)
            if grant := self._refresh.pop(token, None):
                grant.ended = True

    def end_access(self, grant: Grant) -> None:
        """Ends the access tokens of a grant, which itself goes on."""
        with self._lock:
            self._access = {k: v for k, v in self._access.items() if v is not grant}

    def end(self, which: Callable[[Grant], bool]) -> None:
        """Ends grants, and every code and token of theirs."""
        with self._lock:
            for grant in (*self._refresh.values(), *self._access.values(), *self._codes.values()):
                grant.ended = grant.ended or which(grant)

    def _given(self, tokens: dict[str, Grant], prefix: str, grant: Grant) -> str:
        with self._lock:
            token = prefix + secrets.token_urlsafe(24)
            tokens[token] = grant
            return token


def s256(verifier: str) -> str:
    """RFC 7636 section 4.2."""
    return encoded(hashlib.sha256(verifier.encode()).digest())


def check_client(seen: Seen, known: tuple[str, str], methods: Collection[str]) -> None:
    """Client authentication (RFC 6749 section 2.3.1).

    Args:
        known: client ID and secret.
        methods: of `client_secret_basic` and `client_secret_post`, the ones allowed.

    Raises: Refused.
    """
    basic = basic_credentials(seen.headers.get("Authorization", ""))
    if basic is not None and "client_secret" in seen.form:
        raise Refused("invalid_request", "two ways of client authentication at once")
    if basic is not None:
        method, sent = "client_secret_basic", basic
    else:
        method = "client_secret_post"
        sent = (seen.form.get("client_id", ""), seen.form.get("client_secret", ""))
    if sent != known or method not in methods:
        raise Refused("invalid_client", f"{method} with wrong credentials or not allowed", 401)


def basic_credentials(header: str) -> tuple[str, str] | None:
    """What an Authorization header says; None if it is not Basic."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ("", "")
    return unquote_plus(name), unquote_plus(secret)
