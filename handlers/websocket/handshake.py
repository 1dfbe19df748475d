"""The opening handshake of RFC 6455 section 4.2, and the credentials presented in it."""

from __future__ import annotations

import binascii
import hashlib
import re
from http import HTTPStatus
from urllib.parse import parse_qs

from tornado.httputil import RequestStartLine, parse_cookie

from handlers.websocket.plain_head import Headers, PlainFields
from services.errors import BadRequest, RateLimited, Unavailable, UsherError
from services.rooms.joins import Credential
from services.websocket.protocol import SUBPROTOCOL

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64."""
_ANSWER = b"""\
HTTP/1.1 101 Switching Protocols\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Accept: %b\r
%b\r
"""
_ANSWERED_SUBPROTOCOL = f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode()
BEARER_PREFIX = "usher.bearer."
_USUAL_OFFER = f"{SUBPROTOCOL}, {BEARER_PREFIX}"
MAX_TARGET_LENGTH = 4096


class UpgradeRequired(UsherError):
    """Not a WebSocket handshake of version 13 (RFC 9110 section 15.5.22)."""

    status, code = 426, "upgrade_required"
    title = "This address speaks WebSocket, version 13."


def check_handshake(start: RequestStartLine, headers: Headers) -> str:
    """The `Sec-WebSocket-Accept` for a well-formed opening handshake.

    Raises:
        UpgradeRequired: the request is not a WebSocket handshake of version 13.
        BadRequest: the handshake is malformed.
    """
    if not isinstance(headers, PlainFields):  # of those, plain_head.py knows the form
        _check_form(start, headers)
    if len(start.path) > MAX_TARGET_LENGTH:
        raise BadRequest("handshake: length of the target")
    key = headers.get("Sec-WebSocket-Key", "")
    if _KEY.fullmatch(key) is None:
        raise BadRequest("handshake: key is not 16 bytes in base64")
    digest = hashlib.sha1(key.encode() + _GUID).digest()  # noqa: S324 - RFC 6455 section 4.2.2
    return binascii.b2a_base64(digest, newline=False).decode("ascii")


def _check_form(start: RequestStartLine, headers: Headers) -> None:
    """Check the request line and the headers, except for the key. Raises as `check_handshake`."""
    upgrade = _has_token(headers.get("Upgrade", ""), "websocket")
    connection = _has_token(headers.get("Connection", ""), "upgrade")
    if start.method != "GET" or not upgrade or not connection:
        raise UpgradeRequired("no WebSocket handshake")
    if start.version != "HTTP/1.1":
        raise BadRequest("handshake: HTTP version")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise UpgradeRequired("handshake: another version")
    if len(headers.get_list("Host")) != 1:
        raise BadRequest("handshake: not one Host")  # RFC 9112 section 3.2
    if headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers:
        raise BadRequest("handshake: with a body")


def answer(accept: str, headers: Headers) -> bytes:
    """The 101 response. Only `usher.v1` is echoed, never the subprotocol that carries a token."""
    offered = headers.get("Sec-WebSocket-Protocol", "")
    # As a rule it is offered first, with the token behind it.
    accepts = offered.startswith(f"{SUBPROTOCOL},") or SUBPROTOCOL in _list(offered)
    return _ANSWER % (accept.encode(), _ANSWERED_SUBPROTOCOL if accepts else b"")


def refusal(error: UsherError) -> tuple[int, str, dict[str, str]]:
    """Status, reason and headers of an HTTP response that refuses a handshake."""
    headers: dict[str, str] = {"Connection": "close", "Cache-Control": "no-store"}
    if error.status == HTTPStatus.UPGRADE_REQUIRED:
        # RFC 9110 section 7.8: who sends Upgrade names it in Connection, too.
        headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        headers["Connection"] = "Upgrade, close"
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RateLimited | Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    return error.status, HTTPStatus(error.status).phrase, headers


def explicit_credentials(start: RequestStartLine, headers: Headers) -> list[Credential]:
    """The credentials in header, subprotocol and query. More than one is an error."""
    found = [Credential("header", _bearer(value)) for value in headers.get_list("Authorization")]
    offered = headers.get("Sec-WebSocket-Protocol", "")
    if offered.startswith(_USUAL_OFFER) and "," not in (token := offered[len(_USUAL_OFFER) :]):
        found.append(Credential("subprotocol", token.strip()))
    elif BEARER_PREFIX in offered:
        found += [
            Credential("subprotocol", name.removeprefix(BEARER_PREFIX))
            for name in _list(offered)
            if name.startswith(BEARER_PREFIX)
        ]
    query = start.path.partition("?")[2]
    if "ticket" in query:
        try:
            tickets = parse_qs(query, keep_blank_values=True, max_num_fields=32).get("ticket", [])
        except ValueError as error:
            raise BadRequest("handshake: query with too many fields") from error
        found += [Credential("ticket", ticket) for ticket in tickets]
    return found


def cookie_credential(headers: Headers, name: str) -> Credential | None:
    """The access token in the cookie of this name."""
    value = headers.get("Cookie")
    text = parse_cookie(value).get(name) if value else None
    return Credential("cookie", text) if text else None


def _bearer(value: str) -> str:
    """The token of an `Authorization: Bearer` header (RFC 6750 section 2.1), or an invalid one."""
    scheme, _, token = value.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _list(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _has_token(value: str, token: str) -> bool:
    """Whether a comma-separated header value contains a token, which usually is its only one."""
    lowered = value.lower()
    return lowered == token or token in _list(lowered)
