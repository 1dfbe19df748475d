"""The request target in absolute form (RFC 9112 section 3.2.2), as clients send it to a proxy."""

from __future__ import annotations

from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders, RequestStartLine

from services.errors import BadRequest

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
