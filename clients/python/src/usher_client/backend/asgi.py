"""Middleware for ASGI: FastAPI, Starlette and others.

    app = FastAPI()
    app.add_middleware(UsherMiddleware, checks=Introspection(url, key))

    @app.post("/posts")
    async def post(request: Request) -> …:
        caller = caller_of(request)

A request without a good token reaches the app all the same, unless `required` says otherwise:
`scope["usher"]` is the Caller or None. The app decides what strangers may do.
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
        app: the app behind it.
        checks: Introspection or AppTokens. It is closed with the server (ASGI's lifespan).
        required: whether a request without a good token is answered 401 here.
        open_paths: paths that are open to everybody, where `required`.
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
        except UsherError:  # nobody can say who it is: neither in nor out
            await _refuse(scope, send, 503, "Nobody can say now who calls. Try again.")
            return
        must = self._required and scope["path"] not in self._open_paths
        # A browser asks before a call from another origin, and without a credential.
        if found is None and must and scope.get("method") != "OPTIONS":
            await _refuse(scope, send, 401, "Sign in first.")
            return
        await self._app({**scope, KEY: found}, receive, send)


def caller_of(request: Any) -> Caller | None:
    """Who calls, of a Starlette or FastAPI request; None for a stranger."""
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
