"""Recognises plain opening handshakes: heads that no two HTTP parsers read differently.

A usual join is read here, which costs a tenth of what Tornado needs for a request. This is no HTTP
parser: it knows one form and gives None for everything else, which then goes to Tornado unread.
So a doubt is never decided here (RFC 9112 section 11.2, request smuggling lives on such doubts):
whitespace around names, folded lines, a line end without CR, a name that comes twice, a body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec
from tornado.httputil import HTTPHeaders, RequestStartLine

SOCKET_PATH = "/ws"
MAX_PLAIN_BYTES = 8 * 1024
"""A longer head is Tornado's. With a token and cookies they have one or two thousand."""

_BEGINNING = b"GET /ws"
_PRINTABLE = bytes(range(0x20, 0x7F))
_CONNECTION = frozenset({"upgrade", "keep-alive, upgrade"})
_USUAL = {
    name: name.lower()
    for name in (
        "Host",
        "Connection",
        "Upgrade",
        "Origin",
        "Cookie",
        "Authorization",
        "User-Agent",
        "Pragma",
        "Cache-Control",
        "Accept-Encoding",
        "Accept-Language",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
    )
}
"""Names as most clients write them: no need to look at their letters."""
_UNUSUAL = frozenset(
    {"content-length", "transfer-encoding", "content-encoding", "expect", "te", "trailer"}
)


class PlainFields(Mapping[str, str]):
    """The header fields of a plain head, by name in any case. Each is there once."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, str]) -> None:
        """`values`: by lower-case name."""
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_list(self, name: str) -> list[str]:
        """All values of this name: one, or none."""
        value = self._values.get(name.lower())
        return [] if value is None else [value]


Headers: TypeAlias = HTTPHeaders | PlainFields
"""Of a handshake, whoever has read it."""


class PlainHead(msgspec.Struct, frozen=True, gc=False):
    """A plain opening handshake. `size`: bytes, with the empty line behind it."""

    start: RequestStartLine
    fields: PlainFields
    size: int


def plain_head(data: bytes) -> PlainHead | None:
    """The opening handshake that these bytes begin with; None if it is not whole or not plain."""
    if not data.startswith(_BEGINNING):
        return None
    end = data.find(b"\r\n\r\n")
    head = data[:end]
    # Nothing but printable ASCII and whole line ends.
    if end < 0 or head.translate(None, _PRINTABLE) != b"\r\n" * head.count(b"\r\n"):
        return None
    first, *lines = head.decode("ascii").split("\r\n")
    _, target, version, *more = (*first.split(" "), "", "")
    if version != "HTTP/1.1" or more != ["", ""] or target.partition("?")[0] != SOCKET_PATH:
        return None
    values = _values(lines)
    if values is None or not _is_usual(values):
        return None
    return PlainHead(RequestStartLine("GET", target, version), PlainFields(values), end + 4)


def _values(lines: list[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for line in lines:
        written, colon, value = line.partition(": ")
        name = _USUAL.get(written) or written.lower()
        if not colon or name in values:
            return None
        if written not in _USUAL and not name.replace("-", "").isalnum():
            return None
        values[name] = value.strip(" ")
    return values


def _is_usual(values: dict[str, str]) -> bool:
    """Whether the fields ask for a WebSocket of version 13, and for nothing else."""
    return (
        values.get("upgrade", "").lower() == "websocket"
        and values.get("connection", "").lower() in _CONNECTION
        and values.get("sec-websocket-version") == "13"
        and "host" in values
        and "sec-websocket-key" in values
        and _UNUSUAL.isdisjoint(values)
    )
