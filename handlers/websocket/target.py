"""The request target: in absolute form (RFC 9112 section 3.2.2), as clients send it to a proxy, and
below the path of PUBLIC_URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders, RequestStartLine

from services.errors import BadRequest, NotFound

Target: TypeAlias = Callable[[RequestStartLine, HTTPHeaders], RequestStartLine]
"""What gives the start line as the routes know it."""

AT_THE_PORT = frozenset(("/healthz", "/readyz", "/metrics"))
"""What is asked at the port itself, and not through the proxy: it needs no prefix."""
SCHEMES = ("http://", "https://", "ws://", "wss://")


def origin_form(start: RequestStartLine, headers: HTTPHeaders) -> RequestStartLine:
    """The start line with the target in origin form. A server must accept both forms.

    The host of an absolute target replaces the Host header.

    Raises:
        BadRequest: an absolute target without a host, or with a user in it.
    """
    if not start.path.lower().startswith(SCHEMES):
        return start
    try:
        parts = urlsplit(start.path)
        host = parts.netloc
    except ValueError as error:
        raise BadRequest("absolute target: no URL") from error
    if not host or "@" in host:
        raise BadRequest("absolute target: its host")
    headers["Host"] = host
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return RequestStartLine(start.method, path, start.version)


def target_below(prefix: str) -> Target:
    """`origin_form` where the path of every request begins with a prefix, which the routes do not
    have. The prefix alone is left as it is: that is a route of its own, which adds the slash.

    Args:
        prefix: `/usher`, say; empty for none.
    """
    if not prefix:
        return origin_form
    begins = f"{prefix}/"

    def below(start: RequestStartLine, headers: HTTPHeaders) -> RequestStartLine:
        start = origin_form(start, headers)
        if start.path.startswith(begins):
            return RequestStartLine(start.method, start.path[len(prefix) :], start.version)
        path = start.path.partition("?")[0]
        if path != prefix and path not in AT_THE_PORT:
            raise NotFound(
                "not below the path of PUBLIC_URL; if the proxy strips that path, set "
                "USHER_PUBLIC_URL_PATH=stripped"
            )
        return start

    return below
