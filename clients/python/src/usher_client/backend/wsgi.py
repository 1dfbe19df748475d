"""Middleware for WSGI: Flask and others.

    app.wsgi_app = UsherMiddleware(app.wsgi_app, checks)

`environ["usher"]` is the Caller or None. WSGI is synchronous, so tokens are checked on an event
loop in a separate thread, which all threads of the server share.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from usher_client.backend.caller import Caller, Checks, bearer
from usher_client.errors import UsherError

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]
KEY = "usher"
CHECK_SECONDS = 30.0
"""Longer than a check takes: `timeout` of the checks is the actual limit."""
TITLES = {401: "Sign in first.", 503: "The caller cannot be identified now. Try again."}
REASONS = {401: "401 Unauthorized", 503: "503 Service Unavailable"}


class UsherMiddleware:
    """Sets the caller in `environ["usher"]`.

    Args:
        app: the wrapped app.
        checks: Introspection or AppTokens.
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
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        token = bearer(environ.get("HTTP_AUTHORIZATION"))
        try:
            found = None if token is None else self._check(token)
        # It cannot be determined: neither accepted nor refused.
        except (UsherError, FutureTimeoutError):
            return _refuse(start_response, 503)
        must = self._required and environ.get("PATH_INFO", "") not in self._open_paths
        # The preflight request of a browser, without a credential.
        if found is None and must and environ.get("REQUEST_METHOD") != "OPTIONS":
            return _refuse(start_response, 401)
        return self._app({**environ, KEY: found}, start_response)

    def close(self) -> None:
        """Close `checks`, and end the thread."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(self._checks.close(), loop).result(CHECK_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _check(self, token: str) -> Caller | None:
        asked: Future[Caller | None] = asyncio.run_coroutine_threadsafe(
            self._checks.check(token), self._running()
        )
        try:
            return asked.result(CHECK_SECONDS)
        finally:
            asked.cancel()

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop; created by the first check, because servers fork before that."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="usher-client", daemon=True
                )
                self._thread.start()
            return self._loop


def caller_of(environ: Environ) -> Caller | None:
    """The caller of a WSGI environment (Flask: `request.environ`); None if unauthenticated."""
    found = environ.get(KEY)
    return found if isinstance(found, Caller) else None


def _refuse(start_response: StartResponse, status: int) -> Iterable[bytes]:
    body = json.dumps({"status": status, "title": TITLES[status]}).encode()
    headers = [
        ("Content-Type", "application/problem+json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    headers += [("WWW-Authenticate", "Bearer")] if status == 401 else [("Retry-After", "1")]
    start_response(REASONS[status], headers)
    return [body]
