"""Sources of access tokens: a login session of this client, or a function of the app."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from usher_client.errors import Misuse, SignInNeeded, Unreachable, UsherError
from usher_client.events import User, user
from usher_client.http import Http

GetToken = Callable[[bool], "str | Awaitable[str]"]
"""Returns an access token. The argument: whether a newer one than the last is needed."""
Renewed = Callable[[str], object]
"""Called with each new refresh token, so that an app can store it."""


class Credentials(Protocol):
    """The interface of a source of access tokens."""

    async def token(self, stale: str | None = None) -> str:
        """An access token.

        Args:
            stale: a token that was refused or is about to expire; a different one is returned.

        Raises:
            SignInNeeded: the user has to sign in.
            UsherError: there is none at the moment.
        """
        ...


class SingleFlight:
    """A refresh shared by all who wait for it. It continues if one of them is cancelled, because a
    refresh token works only once, and the response must not be lost."""

    def __init__(self, renew: Callable[[], Awaitable[str]]) -> None:
        self._renew = renew
        self._flight: asyncio.Task[str] | None = None

    async def fly(self) -> str:
        """The new token."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.ensure_future(self._run())
            self._flight.add_done_callback(_heard)
        return await asyncio.shield(self._flight)

    async def _run(self) -> str:
        return await self._renew()

    async def settle(self) -> None:
        """Wait for the refresh in progress."""
        if self._flight is not None:
            await asyncio.gather(self._flight, return_exceptions=True)


def _heard(flight: asyncio.Task[str]) -> None:
    """Retrieve the error, because all who waited may be cancelled."""
    if not flight.cancelled():
        flight.exception()


class LoginSession:
    """A native client's login session: an access token, and the refresh token for the next one."""

    def __init__(self, http: Http, answer: Any, renewed: Renewed | None) -> None:
        self._http = http
        self._renewed = renewed
        self._access = self._refresh = self.device = ""
        self.user: User | None = None
        self._single = SingleFlight(self._exchange)
        self._take(answer)

    @classmethod
    def resumed(cls, http: Http, refresh_token: str, renewed: Renewed | None) -> LoginSession:
        """An earlier login session, of which only the refresh token was stored."""
        self = cls.__new__(cls)
        self._http, self._renewed = http, renewed
        self._access, self._refresh, self.device = "", refresh_token, ""
        self.user = None
        self._single = SingleFlight(self._exchange)
        return self

    def __repr__(self) -> str:
        return f"LoginSession(user={self.user!r})"

    @property
    def refresh_token(self) -> str:
        return self._refresh

    async def token(self, stale: str | None = None) -> str:
        if self._access and self._access != stale:
            return self._access
        return await self._single.fly()

    async def settle(self) -> None:
        """Wait for a refresh in progress, because its response must not be lost."""
        await self._single.settle()

    async def end(self) -> None:
        """Log out. Succeeds if the session has already ended."""
        await self._single.settle()
        try:
            token = await self.token()
            await self._http.call("POST", "/api/auth/logout", token=token)
        except SignInNeeded:
            pass

    async def _exchange(self) -> str:
        body = {"refresh_token": self._refresh}
        self._take(await self._http.call("POST", "/api/auth/refresh", body=body))
        return self._access

    def stepped(self, answer: Any) -> None:
        """Continue with the tokens of a step-up."""
        self._take(answer)

    def _take(self, answer: Any) -> None:
        access, refresh = _text(answer, "access_token"), _text(answer, "refresh_token")
        if not access or not refresh:
            raise Unreachable("a response without tokens")
        self._access, self._refresh = access, refresh
        self.device = _text(answer, "device") or self.device
        self.user = user(answer.get("user")) or self.user
        if self._renewed is not None:
            self._renewed(refresh)


def _text(answer: Any, name: str) -> str:
    value = answer.get(name) if isinstance(answer, dict) else None
    return value if isinstance(value, str) else ""


class OwnTokens:
    """Access tokens from a function of the app."""

    def __init__(self, get_token: GetToken, timeout: float) -> None:
        self._get_token = get_token
        self._timeout = timeout
        self._last = ""
        self._single = SingleFlight(self._newer)

    def __repr__(self) -> str:
        return "OwnTokens()"

    async def token(self, stale: str | None = None) -> str:
        if stale is None:
            return await self._ask(renew=False)
        if self._last and self._last != stale:
            return self._last
        return await self._single.fly()

    async def _newer(self) -> str:
        return await self._ask(renew=True)

    async def _ask(self, *, renew: bool) -> str:
        try:
            found = self._get_token(renew)
            if inspect.isawaitable(found):
                found = await asyncio.wait_for(found, self._timeout)
        except (UsherError, asyncio.CancelledError):
            raise
        except (OSError, asyncio.TimeoutError) as error:
            raise Unreachable(f"get_token: {type(error).__name__}") from error
        except Exception as error:  # the app's function: reported, and not retried
            raise Misuse(f"get_token threw {type(error).__name__}") from error
        if not isinstance(found, str) or not found:  # type: ignore[redundant-expr] # the app's
            raise Misuse(
                "get_token returned no token; raise SignInNeeded if the user has to sign in"
            )
        self._last = found
        return found


class ApiKey:
    """The API key of a backend. It is for calls and cannot open a socket."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "ApiKey()"

    async def token(self, stale: str | None = None) -> str:
        if stale is not None:
            raise SignInNeeded("the API key is refused")
        return self._key
