"""The cookies of a browser: their names and attributes.

HttpOnly keeps tokens from scripts on the page. SameSite keeps other sites from using them. The
name prefixes on https keep other hosts of the domain from setting them (ASVS 3.4). Where PUBLIC_URL
has a path, the access token's cookie still has the path "/", as `__Host-` requires: RFC 6265bis
(sections 4.1.2.4 and 8.5) gives no protection by paths, and what keeps two installations on one
host apart is the name (docs/adr/0009-path-prefix.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import ceil

from tornado.web import RequestHandler

REFRESH_PATH = "/api/auth"
_REQUEST_KEY = re.compile("[0-9a-f]{12}")
DEVICE_SECONDS = 400 * 86_400
"""The longest that browsers keep a cookie (RFC 6265bis section 5.5)."""


class CookieJar:
    """Names and attributes of the cookies.

    Args:
        secure: whether browsers reach this server by https.
        prefix: COOKIE_NAME_PREFIX. Cookies are not separated by port (RFC 6265 section 8.5), so
            two servers on one host would sign each other's users out.
        path: that of PUBLIC_URL, `/usher` say, or empty.
    """

    def __init__(self, secure: bool, prefix: str = "", path: str = "") -> None:
        self._secure, self._refresh_path = secure, path + REFRESH_PATH
        host, safe = ("__Host-", "__Secure-") if secure else ("", "")
        self.access = f"{host}{prefix}access_token"
        # __Host- requires the path "/", which a refresh token should not have.
        self.refresh = f"{safe}{prefix}refresh_token"
        self.device = f"{safe}{prefix}device"
        self.authorization_request = f"{host}{prefix}oauth_"

    def authorization_requests(self, names: Iterable[str]) -> list[str]:
        """Those of these cookie names that are of authorization requests of this installation.
        Another one on this host may have a COOKIE_NAME_PREFIX that begins alike."""
        stem = self.authorization_request
        return [
            name
            for name in names
            if name.startswith(stem) and _REQUEST_KEY.fullmatch(name, len(stem)) is not None
        ]

    def set_access(self, handler: RequestHandler, token: str, seconds: float) -> None:
        """Set the cookie of the access token, for a number of seconds."""
        handler.set_cookie(
            self.access,
            token,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=self._secure,
            max_age=ceil(seconds),
        )

    def set_refresh(self, handler: RequestHandler, token: str, seconds: float) -> None:
        """Set the cookie of the refresh token, for a number of seconds."""
        handler.set_cookie(
            self.refresh,
            token,
            path=self._refresh_path,
            httponly=True,
            samesite="Strict",
            secure=self._secure,
            max_age=ceil(seconds),
        )

    def set_device(self, handler: RequestHandler, kept: str) -> None:
        """Set the device cookie, which remains after a sign-out."""
        handler.set_cookie(
            self.device,
            kept,
            path=self._refresh_path,
            httponly=True,
            samesite="Strict",
            secure=self._secure,
            max_age=DEVICE_SECONDS,
        )

    def set_authorization_request(
        self, handler: RequestHandler, name: str, sealed: str, seconds: float
    ) -> None:
        """Set the cookie of an authorization request at a provider."""
        # Lax, because the provider's redirect comes from another site. The path is "/", as __Host-
        # requires, so that another host of the domain cannot set the cookie (login CSRF).
        handler.set_cookie(
            name,
            sealed,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=self._secure,
            max_age=ceil(seconds),
        )

    def clear_authorization_request(self, handler: RequestHandler, name: str) -> None:
        """Clear the cookie of an authorization request."""
        handler.clear_cookie(name, path="/", httponly=True, samesite="Lax", secure=self._secure)

    def clear(self, handler: RequestHandler) -> None:
        """Clear the cookies of both tokens."""
        # Not set_cookie with `max_age=0`, which Tornado omits, leaving an empty cookie.
        handler.clear_cookie(
            self.access, path="/", httponly=True, samesite="Lax", secure=self._secure
        )
        handler.clear_cookie(
            self.refresh,
            path=self._refresh_path,
            httponly=True,
            samesite="Strict",
            secure=self._secure,
        )
