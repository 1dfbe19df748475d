"""Recognises plain opening handshakes: request heads that all HTTP parsers read alike.

Usual joins are parsed here, at a tenth of the cost of a request in Tornado. This is not an HTTP
parser: it accepts one form and returns None for everything else, which Tornado then parses. So
nothing ambiguous is interpreted here (RFC 9112 section 11.2, request smuggling): whitespace around
names, folded lines, a line end without CR, a repeated name, a body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, TypeAlias

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
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FORWARDED_FOR = re.compile(rb"^x-forwarded-for:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class PlainFields(Mapping[str, str]):
    """The header fields of a plain head, by case-insensitive name. Each occurs once."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, str]) -> None:
        """`values`: the values, by lower-case name."""
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """As of every mapping, at a third of the cost."""
        return self._values.get(_USUAL.get(name) or name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_list(self, name: str) -> list[str]:
        """The values of this name, as a list of at most one."""
        value = self._values.get(name.lower())
        return [] if value is None else [value]


ReadHead: TypeAlias = "Callable[[bytes], PlainHead | None]"
"""What parses the first bytes of a connection: `plain_head`, or one of `plain_head_below`."""

Headers: TypeAlias = HTTPHeaders | PlainFields
"""The headers of a handshake, parsed by Tornado or by this module."""


class PlainHead(msgspec.Struct, frozen=True, gc=False):
    """A plain opening handshake. `size`: bytes, including the empty line at its end."""

    start: RequestStartLine
    fields: PlainFields
    size: int


def plain_head(data: bytes) -> PlainHead | None:
    """Parse the opening handshake at the start of `data`; None if it is incomplete or not plain."""
    if not data.startswith(_BEGINNING):
        return None
    parsed = plain_lines(data)
    if parsed is None:
        return None
    first, values, size = parsed
    _, target, version, *more = (*first.split(" "), "", "")
    if version != "HTTP/1.1" or more != ["", ""] or target.partition("?")[0] != SOCKET_PATH:
        return None
    if not _is_usual(values):
        return None
    return PlainHead(RequestStartLine("GET", target, version), PlainFields(values), size)


def plain_lines(
    data: bytes, also: Set[str] = frozenset()
) -> tuple[str, dict[str, str], int] | None:
    """The parts of the request head at the start of `data`; None if it is incomplete, or all
    parsers might not read it alike.

    Args:
        also: names in lower case that are taken although a handshake may not have them.

    Returns:
        The first line, the values by lower-case name, and the size in bytes, with the empty line.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end]
    first, *lines = head.decode("latin-1").split("\r\n")
    # Nothing but printable ASCII and whole line ends.
    if head.translate(None, _PRINTABLE) != b"\r\n" * len(lines):
        return None
    values = _values(lines, also)
    return None if values is None else (first, values, end + 4)


def plain_head_below(prefix: str) -> ReadHead:
    """`plain_head` where the path of every request begins with a prefix. The target of the head
    that it returns does not.

    Args:
        prefix: `/usher`, say; empty for none.
    """
    if not prefix:
        return plain_head
    beginning = b"GET " + prefix.encode()

    def read(data: bytes) -> PlainHead | None:
        if not data.startswith(beginning):
            return None
        head = plain_head(b"GET " + data[len(beginning) :])
        return head and PlainHead(head.start, head.fields, head.size + len(prefix))

    return read


def forwarded_for(data: bytes) -> str:
    """The value of `X-Forwarded-For` in a request head that need not be plain or complete; several
    are joined by commas. It only decides the place in the rotation: Tornado parses the request."""
    head = _HEAD_END.split(data, 1)[0]
    return b",".join(_FORWARDED_FOR.findall(head)).decode("latin-1").strip()


def _values(lines: list[str], also: Set[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for line in lines:
        written, colon, value = line.partition(": ")
        name = _USUAL.get(written)
        if name is None:
            name = written.lower()
            if name in _UNUSUAL and name not in also:
                return None
            if not name.replace("-", "").isalnum():
                return None
        if not colon:
            return None
        values[name] = value.strip(" ")
    return values if len(values) == len(lines) else None  # else a name occurs twice


def _is_usual(values: dict[str, str]) -> bool:
    """Whether the fields request a WebSocket of version 13, and nothing else."""
    return (
        values.get("upgrade", "").lower() == "websocket"
        and values.get("connection", "").lower() in _CONNECTION
        and values.get("sec-websocket-version") == "13"
        and "host" in values
        and "sec-websocket-key" in values
    )
