"""Token introspection (RFC 7662) with a short-lived cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from usher_client.backend.caller import Caller, caller
from usher_client.backend.webhooks import Webhook
from usher_client.client import Usher
from usher_client.closing import HttpOwner
from usher_client.errors import Refused, Unavailable, Unreachable
from usher_client.http import Http, base_of
from usher_client.life import State

MAX_KEPT = 10_000
MAX_TOKEN_LENGTH = 8192
ABOUT_USERS = ("user.changed", "user.disabled", "user.deleted")


@dataclass(frozen=True)
class _CachedCaller:
    caller: Caller
    until: float


class Introspection(HttpOwner):
    """Identifies callers by introspection of access tokens and app tokens.

    Args:
        url: the server.
        key: an API key with the scope `introspect`.
        cache_seconds: how long a response is cached. A logout takes effect after at most this time,
            or sooner with `heard`, `follow` or `forget`. 0 disables the cache.
        timeout: seconds for one introspection.
    """

    def __init__(
        self, url: str, key: str, *, cache_seconds: float = 5.0, timeout: float = 5.0
    ) -> None:
        self._http = Http(base_of(url), timeout)
        self._key = key
        self._cache_seconds = cache_seconds
        self._known: OrderedDict[bytes, _CachedCaller] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._forgotten = 0

    def __repr__(self) -> str:
        return f"Introspection({self._http.base!r})"

    async def close(self) -> None:
        """Close the connections."""
        for task in self._asking.values():
            task.cancel()
        await super().close()

    async def check(self, token: str) -> Caller | None:
        """The caller; None if the token is not valid.

        Raises:
            Refused: the key is invalid or lacks the scope.
            Unavailable, Unreachable: it cannot be determined now.
        """
        if not token or len(token) > MAX_TOKEN_LENGTH:
            return None
        name = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._known.get(name)
        if known is not None:
            if monotonic() < known.until:
                return known.caller
            del self._known[name]
        # Concurrent requests with one token share one introspection.
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.ensure_future(self._ask(name, token))
            asking.add_done_callback(lambda done: self._asked(name, done))
        return await asyncio.shield(asking)

    def _asked(self, name: bytes, done: asyncio.Task[Caller | None]) -> None:
        if self._asking.get(name) is done:
            del self._asking[name]
        if not done.cancelled():
            done.exception()  # whoever asked may be gone

    async def _ask(self, name: bytes, token: str) -> Caller | None:
        asked, forgotten = monotonic(), self._forgotten
        try:
            answer = await self._http.fetch(
                "POST", "/api/introspect", token=self._key, form={"token": token}
            )
            said = answer.json()
        except Refused as error:
            # 401 here is about the key. It must not be mistaken for a result about the token.
            if isinstance(error, Unavailable) or error.status not in {401, 403}:
                raise
            raise Refused(f"the API key is refused: {error.code}", code="key_refused") from None
        found = _active(said)
        # A response to a request sent before `forget` may be outdated.
        if found is not None and forgotten == self._forgotten:
            self._keep(name, found, asked, answer.date())
        return found

    def _keep(self, name: bytes, found: Caller, asked: float, now: float | None) -> None:
        """Cache a valid result, at most until the token expires by the server's clock."""
        seconds = self._cache_seconds
        if now is not None:
            seconds = min(seconds, found.expires_at - now)
        if seconds <= 0:
            return
        self._known[name] = _CachedCaller(found, asked + seconds)
        while len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)

    def forget(self, *, user_id: str | None = None, session_id: str | None = None) -> None:
        """Drop cached responses about a user or a login session, or all of them."""
        self._forgotten += 1
        self._asking.clear()
        if user_id is None and session_id is None:
            self._known.clear()
            return
        self._known = OrderedDict(
            (name, known)
            for name, known in self._known.items()
            if known.caller.id != user_id and known.caller.session_id != session_id
        )

    def heard(self, webhook: Webhook) -> None:
        """Drop the cached responses that a webhook affects: `session.ended`, and those about
        users."""
        data = webhook.data
        if webhook.type == "session.ended" and isinstance(data.get("session_id"), str):
            self.forget(session_id=data["session_id"])
        elif webhook.type == "session.ended":  # all of a user's at once
            self.forget(user_id=_text(data.get("user_id")))
        elif webhook.type in ABOUT_USERS:
            self.forget(user_id=_text(data.get("id")))

    def follow(self, usher: Usher) -> Callable[[], None]:
        """Drop cached responses about a user whenever the user's socket ends.

        The end of a socket (4401, 4410 if the login session has ended) concerns only its own user,
        and an API key cannot open a socket. So this is for backends that hold the sockets of their
        users; all others need webhooks.

        Args:
            usher: a client that is signed in as the user; connected now or later.

        Returns:
            A function that stops this.
        """
        user_id = None if usher.user is None else usher.user.id

        def notify(state: State) -> None:
            nonlocal user_id
            if usher.session is not None:
                user_id = usher.session.user.id
            # After a reconnect, the login session may have ended meanwhile.
            if state.name in {"waiting", "closed"} and user_id is not None:
                self.forget(user_id=user_id)

        return usher.watch(notify)


def _text(value: object) -> str | None:
    """A string; None for anything else, which makes `forget` drop everything."""
    return value if isinstance(value, str) else None


def _active(said: Any) -> Caller | None:
    if not isinstance(said, dict) or not isinstance(said.get("active"), bool):
        raise Unreachable("a response that is not an introspection")
    return caller(said) if said["active"] else None
