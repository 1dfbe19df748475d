"""Recognises plain requests for a ticket, which all HTTP parsers read alike.

As plain_head.py does it for handshakes: one form is accepted, everything else is Tornado's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import msgspec

from handlers.websocket.plain_head import PlainFields, plain_lines

TICKET_PATH = "/api/ws/ticket"
MAX_BODY = 1024
"""The body means nothing in this call. Clients send none, or `{}`."""

_LENGTH = re.compile("[0-9]{1,4}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_BODY_FIELDS = frozenset({"content-length"})
_CONNECTION = frozenset({"", "keep-alive"})
_OTHER_PROTOCOLS = ("upgrade", "http2-settings")


class PlainCall(msgspec.Struct, frozen=True, gc=False):
    """A plain request. `size`: bytes, with its body."""

    fields: PlainFields
    size: int


ReadCall: TypeAlias = Callable[[bytes], PlainCall | None]
"""Parses the request for a ticket at the start of some bytes; None if it is incomplete or not
plain."""


def plain_calls_below(prefix: str = "") -> ReadCall:
    """Parses requests whose path begins with a prefix.

    Args:
        prefix: `/usher`, say; empty for none.
    """
    return partial(_plain_call, f"POST {prefix}{TICKET_PATH} HTTP/1.1\r\n".encode())


def _plain_call(beginning: bytes, data: bytes) -> PlainCall | None:
    if not data.startswith(beginning):
        return None
    parsed = plain_lines(data, _BODY_FIELDS)
    if parsed is None:
        return None
    _, values, size = parsed
    if (
        _HOST.fullmatch(values.get("host", "")) is None
        or values.get("connection", "").lower() not in _CONNECTION
        or any(name in values for name in _OTHER_PROTOCOLS)
    ):
        return None
    length = _body_length(values)
    if length is None or len(data) < size + length:
        return None
    return PlainCall(PlainFields(values), size + length)


def _body_length(values: dict[str, str]) -> int | None:
    """The length of the body; None if Tornado has to read it: a form, say, may be malformed."""
    text = values.get("content-length", "0")
    if _LENGTH.fullmatch(text) is None:
        return None
    length = int(text)
    if not length:
        return 0
    is_json = values.get("content-type", "application/json") == "application/json"
    return length if is_json and length <= MAX_BODY else None
