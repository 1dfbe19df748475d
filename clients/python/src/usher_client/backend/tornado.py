"""Authentication for Tornado handlers.

class Posts(UsherHandler):
    required = True

    def post(self) -> None:
        print(self.caller)

Application([("/posts", Posts)], usher_checks=Introspection(url, key))
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

from tornado import web

from usher_client.backend.caller import Caller, Checks, bearer
from usher_client.errors import UsherError


class UsherHandler(web.RequestHandler):
    """A handler whose `caller` is the signed-in user, or None.

    The application's setting `usher_checks` is Introspection or AppTokens. A class that overrides
    `prepare` has to await this one.
    """

    required = False
    """Whether a request without a valid token gets 401."""
    caller: Caller | None = None

    async def prepare(self) -> None:
        given = self.request.headers.get_list("Authorization")
        token = bearer(given[0]) if len(given) == 1 else None
        checks: Checks = self.application.settings["usher_checks"]
        try:
            self.caller = None if token is None else await checks.check(token)
        except UsherError:  # it cannot be determined: neither accepted nor refused
            self.set_header("Retry-After", "1")
            self.refuse(503, "The caller cannot be identified now. Try again.")
            return
        # The preflight request of a browser, without a credential.
        if self.caller is None and self.required and self.request.method != "OPTIONS":
            self.set_header("WWW-Authenticate", "Bearer")
            self.refuse(401, "Sign in first.")

    def refuse(self, status: int, title: str) -> None:
        """End the request with a problem document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/problem+json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"status": status, "title": title}))

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Bodies are not streamed."""
        return None

    def get_current_user(self) -> Any:
        return self.caller
