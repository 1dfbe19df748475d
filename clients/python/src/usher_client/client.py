"""The client for apps: signing in, calls, the connection, and rooms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from usher_client import browser
from usher_client.closing import Closable
from usher_client.credentials import (
    ApiKey,
    Credentials,
    GetToken,
    LoginSession,
    OwnTokens,
    Renewed,
)
from usher_client.errors import Misuse, SecondFactorNeeded, SignInNeeded, Unreachable
from usher_client.events import Session, User, user
from usher_client.http import Answer, Http, base_of
from usher_client.life import State
from usher_client.link import Link
from usher_client.rooms import Room
from usher_client.socket import Times
from usher_client.wire import number

BROWSER_SECONDS = 300.0
APP_TOKEN_AHEAD_SECONDS = 30.0
RENEWABLE = frozenset(("unauthenticated", "token_expired"))


@dataclass(frozen=True)
class Options:
    """Timeouts and limits of a client. In seconds, unless stated otherwise.

    Args:
        timeout: for a reply, an HTTP call, received data, and from opening a socket to `joined`.
        heartbeat: mean interval of heartbeats, ± 20 %.
        backoff: the upper limit of the first pause between attempts; it doubles each time.
        max_backoff: the highest upper limit.
        max_pending: the number of requests that may wait for a reply at once.
        room_limit: the number of events of a room that may be queued for the app.
    """

    timeout: float = 10.0
    heartbeat: float = 12.5
    backoff: float = 0.5
    max_backoff: float = 30.0
    max_pending: int = 256
    room_limit: int = 1000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise Misuse(f"{name}: a number above 0")


class Usher(Closable):
    """A client of one server.

        async with Usher("https://usher.example") as usher:
            await usher.sign_in("ada@example.org", password)
            await usher.connect()
            room = usher.room("channel:…")
            await room.send("hello")
            async for message in room:
                print(message.sender, message.data)

    Args:
        url: the server, including the path prefix, if any.
        get_token: returns access tokens, instead of a sign-in; see credentials.GetToken. It raises
            SignInNeeded if the user has to sign in.
        key: an API key, instead of a sign-in. It is for calls and cannot open a socket.
        on_state: called with each state of the connection.
        on_refresh_token: called with each new refresh token, which `resume` accepts later. It is a
            secret that gives full access to the account.

    Raises:
        Misuse: the URL or an option is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        get_token: GetToken | None = None,
        key: str | None = None,
        on_state: Callable[[State], object] = lambda _: None,
        on_refresh_token: Renewed | None = None,
        options: Options = Options(),
    ) -> None:
        self._base = base_of(url)
        self._http = Http(self._base, options.timeout)
        self._renewed = on_refresh_token
        self._device = ""
        self._app_tokens: dict[str, tuple[str, float]] = {}
        self._login: Credentials | None = None
        if get_token is not None and key is not None:
            raise Misuse("get_token or key: one of the two")
        if get_token is not None:
            self._login = OwnTokens(get_token, options.timeout)
        if key is not None:
            self._login = ApiKey(key)
        times = Times(options.heartbeat, options.timeout, options.backoff, options.max_backoff)
        self._link = Link(self._base, times, on_state, options.max_pending, options.room_limit)

    def __repr__(self) -> str:
        return f"Usher({self._base!r}, state={self.state.name!r})"

    async def aclose(self) -> None:
        """Close the socket and all connections. The login session on the server continues."""
        await self._link.close()
        self._link.rooms.finish(None)
        if isinstance(self._login, LoginSession):
            await self._login.settle()
        await self._http.close()

    async def _end(self) -> None:
        await self.aclose()

    # ---- signing in ----------------------------------------------------------------------------

    @property
    def user(self) -> User | None:
        """The signed-in user, if known to this client."""
        if self._link.session is not None:
            return self._link.session.user
        return self._login.user if isinstance(self._login, LoginSession) else None

    @property
    def refresh_token(self) -> str | None:
        """The token for `resume`, which signs in without user interaction. A secret."""
        return self._login.refresh_token if isinstance(self._login, LoginSession) else None

    async def sign_in(self, email: str, password: str) -> User:
        """Sign in with a password.

        Raises:
            SecondFactorNeeded: continue with `second_factor`.
            SignInNeeded: e-mail address or password is wrong; the server does not say which.
            RateLimited: retry after `retry_after`.
        """
        body = {"email": email, "password": password, "client": "native"}
        if self._device:
            body["device"] = self._device
        return await self._signed_in("/api/auth/login", body)

    async def second_factor(self, asked: SecondFactorNeeded, code: str) -> User:
        """Complete a sign-in with a code of the authenticator app, or a recovery code."""
        body = {"challenge": asked.challenge, "code": code, "client": "native"}
        return await self._signed_in("/api/auth/second-factor", body)

    async def step_up(
        self,
        *,
        password: str | None = None,
        code: str | None = None,
        credential: dict[str, Any] | None = None,
    ) -> None:
        """Authenticate again, for calls and rooms that raise StepUpNeeded. An open socket joins the
        rooms that require it.

        Args:
            code: of the authenticator app, or a recovery code, if the user has a second factor.
            credential: the response of a passkey in the JSON form of WebAuthn
                (`PublicKeyCredential.toJSON()`), with options of `/api/auth/passkey/options`.

        Raises:
            StepUpNeeded: it is not enough; `methods` lists what is.
            Refused: it is wrong: `wrong_password`, `wrong_code`, `passkey_refused`.
            RateLimited: too many wrong ones.
        """
        login = self._needed()
        if not isinstance(login, LoginSession):
            raise Misuse("step_up: a client with get_token or key has no login session of its own")
        given = {"password": password, "code": code, "credential": credential}
        proof = {name: value for name, value in given.items() if value is not None}
        login.stepped(await self.call("POST", "/api/auth/step-up", proof))
        await self._link.renew()

    async def sign_up(self, email: str, password: str, name: str) -> User | None:
        """Create an account, and sign in with it. Returns None if the server requires the address
        to be confirmed first, with a link in a mail."""
        body = {"email": email, "password": password, "name": name, "client": "native"}
        answer = await self._http.call("POST", "/api/auth/signup", body=body)
        return await self._enter(answer) if answer else None

    async def sign_in_with(
        self,
        provider: str | None = None,
        *,
        open_browser: browser.OpenBrowser = browser.open_system_browser,
        timeout: float = BROWSER_SECONDS,
    ) -> User:
        """Sign in with the system's browser.

        Args:
            provider: its name; None for the server's page, where the user chooses a method.
            open_browser: opens a URL. `print` shows it instead.
            timeout: seconds that the user has.

        Raises:
            SignInRefused: the user or the provider cancelled it.
            TimedOut: the browser did not return.
        """
        code = await browser.sign_in(self._base, provider, open_browser, timeout)
        return await self._signed_in("/api/auth/exchange", dict(vars(code)))

    async def resume(self, refresh_token: str) -> None:
        """Continue an earlier login session.

        Raises:
            SignInNeeded: it has ended.
        """
        login = LoginSession.resumed(self._http, refresh_token, self._renewed)
        await login.token()
        await self._become(login)

    async def sign_out(self) -> None:
        """End the login session. Its sockets are closed on every node.

        Raises:
            Unreachable, Unavailable: it could not be ended and continues: try again.
        """
        await self._link.close()
        if isinstance(self._login, LoginSession):
            await self._login.end()
            self._forget()
            self._login = None

    async def _signed_in(self, path: str, body: Mapping[str, Any]) -> User:
        return await self._enter(await self._http.call("POST", path, body=body))

    async def _enter(self, answer: Any) -> User:
        login = LoginSession(self._http, answer, self._renewed)
        if login.user is None:
            raise Unreachable("a response without a user")
        await self._become(login)
        return login.user

    async def _become(self, login: LoginSession) -> None:
        """Close the socket if it belongs to another user."""
        await self._link.close()
        self._forget()
        self._device = login.device or self._device
        self._login = login

    def _forget(self) -> None:
        self._app_tokens.clear()

    # ---- calls ---------------------------------------------------------------------------------

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Like `fetch`, but returns the JSON of the response.

        Raises:
            Refused: the server refused the call.
            Unreachable: no response, or not from Usher.
        """
        return (await self.fetch(method, path, body)).json()

    async def fetch(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Call the server as the signed-in user, and return the response, whatever its status. If
        the token is refused, it is refreshed and the call repeated once.

        Args:
            path: begins with a slash, because the credential is only sent to this server.

        Raises:
            SignInNeeded: no user is signed in.
            Unreachable: no response.
        """
        if not path.startswith("/") or path.startswith("//"):
            raise Misuse("path: must be a path on this server, such as /api/auth/me")
        login = self._needed()
        token = await login.token()
        answer = await self._http.fetch(method, path, token=token, body=body, headers=headers)
        if answer.status != 401 or answer.error().code not in RENEWABLE:
            return answer
        try:
            newer = await login.token(token)
        except SignInNeeded:
            return answer
        return await self._http.fetch(method, path, token=newer, body=body, headers=headers)

    async def me(self) -> User:
        """Ask the server for the signed-in user."""
        found = user(await self.call("GET", "/api/auth/me"))
        if found is None:
            raise Unreachable("a response without a user")
        return found

    async def app_token(self, audience: str) -> str:
        """A token for your own backend; cached until shortly before it expires.

        Args:
            audience: one of the installation's APP_AUDIENCES.
        """
        kept = self._app_tokens.get(audience)
        if kept is not None and monotonic() < kept[1]:
            return kept[0]
        asked = monotonic()
        answer = await self.call("POST", "/api/auth/app-token", {"audience": audience})
        token = answer.get("token") if isinstance(answer, dict) else None
        lives = number(answer.get("expires_in")) if isinstance(answer, dict) else None
        if not isinstance(token, str) or lives is None:
            raise Unreachable("a response without a token")
        ahead = min(APP_TOKEN_AHEAD_SECONDS, lives / 2)
        self._app_tokens[audience] = (token, asked + lives - ahead)
        return token

    # ---- the socket ----------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._link.state

    @property
    def session(self) -> Session | None:
        """The session of the joined socket; None while there is none."""
        return self._link.session

    def watch(self, notify: Callable[[State], object]) -> Callable[[], None]:
        """Call another function with each state of the connection, in addition to `on_state`.

        Returns:
            A function that stops this.
        """
        return self._link.watch(notify)

    async def connect(self) -> Session:
        """Connect, and stay connected until `disconnect`, or until the server forbids it. Returns
        when the socket has joined for the first time.

        Raises:
            SignInNeeded: no user is signed in.
            UsherError: the client gave up.
        """
        login = self._needed()
        if isinstance(login, ApiKey):
            raise Misuse("an API key cannot open a socket: sign in, or pass get_token")
        return await self._link.connect(login)

    async def disconnect(self) -> None:
        """Close the socket, and do not reconnect. The user stays signed in."""
        await self._link.close()

    def room(self, name: str) -> Room:
        """A room, such as `channel:ID` or `user:ID`. It queues events from now on."""
        return self._link.rooms.open(name)

    async def request(self, event: str, data: object = None, timeout: float | None = None) -> Any:
        """Send an event of the protocol over the joined socket. Returns the data of the reply."""
        return await self._link.request(event, data, timeout)

    def _needed(self) -> Credentials:
        if self._login is None:
            raise SignInNeeded("no user is signed in")
        return self._login
