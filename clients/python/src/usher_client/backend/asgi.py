"""Middleware for ASGI: FastAPI, Starlette and others.

    app = FastAPI()
    app.add_middleware(UsherMiddleware, checks=Introspection(url, key))

    @app.post("/posts")
    async def post(request: Request) -> …:
        caller = caller_of(request)

A request without a valid token reaches the app too, unless `required` is set: `scope["usher"]` is
the Caller or None. The app decides what unauthenticated callers may do.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from usher_client.backend.caller import Caller, Checks, bearer
from usher_client.errors import UsherError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
KEY = "usher"


class UsherMiddleware:
    """Sets the caller in `scope["usher"]`.

    Args:
        app: the wrapped app.
        checks: Introspection or AppTokens. It is closed when the server stops (ASGI's lifespan).
        required: whether a request without a valid token gets 401.
        open_paths: paths that need no token even if `required`.
    """

    def __init__(
        self, app: App, checks: Checks, required: bool = False, open_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._checks = checks
        self._required = required
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                await self._checks.close()
            return
        token = bearer(_authorization(scope))
        try:
            found = None if token is None else await self._checks.check(token)
        except UsherError:  # it cannot be determined: neither accepted nor refused
            await _refuse(scope, send, 503, "The caller cannot be identified now. Try again.")
            return
        must = self._required and scope["path"] not in self._open_paths
        # The preflight request of a browser, without a credential.
        if found is None and must and scope.get("method") != "OPTIONS":
            await _refuse(scope, send, 401, "Sign in first.")
            return
        await self._app({**scope, KEY: found}, receive, send)


def caller_of(request: Any) -> Caller | None:
    """The caller of a Starlette or FastAPI request; None if unauthenticated."""
    found = request.scope.get(KEY)
    return found if isinstance(found, Caller) else None


def _authorization(scope: Scope) -> str | None:
    found = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    return str(found[0].decode("latin-1")) if len(found) == 1 else None


async def _refuse(scope: Scope, send: Send, status: int, title: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4401 if status == 401 else 4503})
        return
    body = json.dumps({"status": status, "title": title}).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else [(b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
