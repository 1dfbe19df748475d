"""The cookies of a browser: their names and attributes.

HttpOnly keeps tokens from scripts on the page. SameSite keeps other sites from using them. The
name prefixes on https keep other hosts of the domain from setting them (ASVS 3.4).
"""

from __future__ import annotations

from math import ceil

from tornado.web import RequestHandler

REFRESH_PATH = "/api/auth"
DEVICE_SECONDS = 400 * 86_400
"""The longest that browsers keep a cookie (RFC 6265bis section 5.5)."""


class CookieJar:
    """Names and attributes of the cookies.

    Args:
        secure: whether browsers reach this server by https.
        prefix: COOKIE_NAME_PREFIX. Cookies know no ports (RFC 6265 section 8.5): two servers on
            one host would sign each other's users out.
    """

    def __init__(self, secure: bool, prefix: str = "") -> None:
        self._secure = secure
        host, safe = ("__Host-", "__Secure-") if secure else ("", "")
        self.access = f"{host}{prefix}access_token"
        # __Host- asks for path "/", which a refresh token should not have.
        self.refresh = f"{safe}{prefix}refresh_token"
        self.device = f"{safe}{prefix}device"
        self.authorization_request = f"{host}{prefix}oauth_"

    def set_access(self, handler: RequestHandler, token: str, seconds: float) -> None:
        """Give the access token for so many seconds."""
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
        """Give the refresh token for so many seconds."""
        handler.set_cookie(
            self.refresh,
            token,
            path=REFRESH_PATH,
            httponly=True,
            samesite="Strict",
            secure=self._secure,
            max_age=ceil(seconds),
        )

    def set_device(self, handler: RequestHandler, kept: str) -> None:
        """Let the browser keep that somebody has signed in on it. It outlives the sign-in."""
        handler.set_cookie(
            self.device,
            kept,
            path=REFRESH_PATH,
            httponly=True,
            samesite="Strict",
            secure=self._secure,
            max_age=DEVICE_SECONDS,
        )

    def set_authorization_request(
        self, handler: RequestHandler, name: str, sealed: str, seconds: float
    ) -> None:
        """Let the browser keep a sign-in at a provider that is under way."""
        # Lax: the provider sends the browser back, from another site. Path "/", as __Host- asks:
        # a neighbour host must not plant a sign-in of its own (login CSRF).
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
        """Take one away."""
        handler.clear_cookie(name, path="/", httponly=True, samesite="Lax", secure=self._secure)

    def clear(self, handler: RequestHandler) -> None:
        """Take both away."""
        # Not set_cookie with a `max_age` of 0: Tornado leaves that out, and an empty cookie stays.
        handler.clear_cookie(
            self.access, path="/", httponly=True, samesite="Lax", secure=self._secure
        )
        handler.clear_cookie(
            self.refresh, path=REFRESH_PATH, httponly=True, samesite="Strict", secure=self._secure
        )
