"""Authorization requests in progress, stored encrypted in a cookie of the browser that began them.

The cookie holds `state`, `nonce`, the PKCE verifier and the page to return to, encrypted and
authenticated with ENCRYPTION_KEYS. So a request is bound to its browser, works on every node, needs
neither Redis nor a row until the callback, and cannot fill a store. Each request can be redeemed
once: `finish` records its `state` as used in the database.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

import msgspec
import peewee

from services.native.requests import NativeRequest
from services.oauth.errors import Reason, SignInRefused
from services.oauth.id_tokens import CLOCK_SKEW_SECONDS
from services.oauth.provider import RequestBinding
from services.oauth.token_endpoint import new_verifier
from services.opaque import token_hash
from services.secret import Secret
from services.storage.database import Database
from services.storage.encryption import DecryptionFailed, Encryption
from services.storage.one_time import use_once

AUTHORIZATION_REQUEST_SECONDS = 600
"""How long a user may take at the provider."""
MAX_SEALED_LENGTH = 4096
PURPOSE = "oauth-sign-in"
"""Other things are encrypted with the same keys, and must not pass for this."""


class Link(msgspec.Struct, frozen=True):
    """The user and login session that link an account.

    Attributes:
        proof: a hash of the stored password's hash, "" if there is no password. A change of the
            password invalidates the request, because the request may be the reason for the change.
    """

    user_id: str
    login_session_id: str
    proof: str = ""


class AuthorizationRequest(msgspec.Struct, frozen=True):
    """One sign-in or account linking in progress.

    Attributes:
        next: the page of this site to go to afterwards.
        link: set if an account is being linked.
        expires_at: epoch seconds.
        native: set if a native app requested it through the browser.
        invitation: the hash of an invitation's token, if there is one. It stands in the encrypted
            cookie and not in a URL, which proxies log.
    """

    purpose: str
    provider: str
    start: RequestBinding
    next: str
    link: Link | None
    expires_at: float
    native: NativeRequest | None = None
    invitation: str | None = None


_DECODER = msgspec.json.Decoder(AuthorizationRequest)


def proof_of(password_hash: str | None) -> str:
    """The `proof` of a Link, for a stored password's hash or None."""
    return "" if password_hash is None else token_hash(password_hash)


def request_key(state: str) -> str:
    """A short name of a request, so that each of several tabs can have its own."""
    return token_hash(state)[:12]


class AuthorizationRequests:
    """Starts authorization requests, and redeems each of them once."""

    def __init__(
        self, encryption: Encryption, database: Database, clock: Callable[[], float] = time.time
    ) -> None:
        self._encryption, self._database, self._clock = encryption, database, clock

    def begin(
        self,
        provider: str,
        next_: str,
        link: Link | None,
        native: NativeRequest | None = None,
        invitation: str | None = None,
    ) -> tuple[AuthorizationRequest, Secret]:
        """Start a request. Returns it, and its encrypted form for the browser."""
        start = RequestBinding(secrets.token_urlsafe(32), secrets.token_urlsafe(32), new_verifier())
        until = self._clock() + AUTHORIZATION_REQUEST_SECONDS
        request = AuthorizationRequest(
            PURPOSE, provider, start, next_, link, until, native, invitation
        )
        return request, Secret(self._encryption.encrypt(msgspec.json.encode(request)))

    async def take(
        self, sealed: str, provider: str, state: str, spend: bool = True
    ) -> AuthorizationRequest:
        """Redeem the request of a callback. It is used up, whatever the result.

        Args:
            sealed: the browser's cookie, "" if there is none.
            state: the callback's `state` (RFC 6749 section 10.12).
            spend: whether to record the request as used. Callbacks without a code do not need
                that, and anybody could send any number of them.

        Raises:
            SignInRefused: the request is of another browser or provider, expired or used.
            DatabaseUnavailable: the request cannot be recorded as used.
        """
        request = self.read(sealed, provider, state)
        if request is None:
            raise SignInRefused(
                Reason.STALE, "callback: no authorization request of this browser and state"
            )
        if request.expires_at <= self._clock():
            raise SignInRefused(Reason.STALE, "callback: request expired")
        if not spend:
            return request
        # Kept longer, because a node whose clock is ahead could delete it too early.
        if not await self._database.run(_use, state, request.expires_at + CLOCK_SKEW_SECONDS):
            raise SignInRefused(Reason.STALE, "callback: state already used")
        return request

    def read(self, sealed: str, provider: str, state: str) -> AuthorizationRequest | None:
        """The request of a callback, whether or not it may still be used. None if this browser has
        no request of this provider with this state. Does not use the request up."""
        request = self._opened(sealed)
        if request is None or request.purpose != PURPOSE or request.provider != provider:
            return None
        sent, came = request.start.state.encode(), state.encode("utf-8", "surrogatepass")
        return request if secrets.compare_digest(sent, came) else None

    def newest(self, kept: Sequence[str], provider: str) -> AuthorizationRequest | None:
        """The browser's newest request in progress at this provider, or None.

        Args:
            kept: all of the browser's request cookies.
        """
        opened = map(self._opened, kept)
        found = [
            request
            for request in opened
            if request is not None
            and (request.purpose, request.provider) == (PURPOSE, provider)
            and request.expires_at > self._clock()
        ]
        return max(found, key=lambda request: request.expires_at, default=None)

    def _opened(self, sealed: str) -> AuthorizationRequest | None:
        if not 0 < len(sealed) <= MAX_SEALED_LENGTH:
            return None
        try:
            return _DECODER.decode(self._encryption.decrypt(sealed))
        except (DecryptionFailed, msgspec.DecodeError):
            return None


def _use(db: peewee.Database, state: str, until: float) -> bool:
    return use_once(db, "state", state, until)
