"""The PROXY protocol, versions 1 and 2: a header with the client's address, which a TCP proxy sends
before the client's bytes.

Such a proxy forwards bytes and cannot write X-Forwarded-For. If the client sent that header itself,
it would be taken for the proxy's. With PROXY_PROTOCOL=on, every connection of a trusted proxy has
to begin with a PROXY header, and counts as a connection of the address in it from then on.

The format is that of https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (sections 2.1 and
2.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import struct
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from services.settings.proxies import Proxies

HEADER_SECONDS = 5.0
"""How long a proxy may take for its header. The specification asks for 3 seconds or more, so that
one lost packet can be sent again."""
MAX_V1_BYTES = 107
"""The longest header of version 1, including CRLF."""
MAX_V2_BODY_BYTES = 4096
"""Addresses and TLVs of version 2. The longest are those of a client's certificate."""
UNKNOWN_CLIENT = ("0.0.0.0", 0)  # noqa: S104 - shown, not bound
"""The source of a connection whose proxy names no client, as Tornado has it for UNIX sockets. It is
not the proxy's own address: from that, X-Forwarded-For of such a client would be believed."""

_V1, _V2 = b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
"""By address family and transport; all others are invalid."""
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")

log = logging.getLogger("usher.proxy_protocol")


class BadProxyHeader(ValueError):
    """The bytes are not the beginning of a PROXY header."""


class ProxyHeader(NamedTuple):
    """A PROXY header.

    Attributes:
        size: its length in bytes; what follows is the client's.
        source: address and port of the client; None if the proxy names none.
    """

    size: int
    source: tuple[str, int] | None


def proxy_header(data: bytes) -> ProxyHeader | None:
    """Parse the header at the start of `data`. None if it is not complete yet: then all of `data`
    belongs to it.

    Raises:
        BadProxyHeader: it is none, or not one of the two versions, or too long.
    """
    if data.startswith(_V2):
        return _version_2(data)
    if data.startswith(_V1):
        return _version_1(data)
    if _V1.startswith(data) or _V2.startswith(data):
        return None
    raise BadProxyHeader("it does not begin with a PROXY header")


def _version_1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1_BYTES)
    if end < 0:
        if len(data) >= MAX_V1_BYTES:
            raise BadProxyHeader("its PROXY header is too long")
        return None
    words = data[:end].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":  # the rest of the line is to be ignored
        return ProxyHeader(end + 2, None)
    try:
        _, family, source, target, source_port, target_port = words
        ports = [_port(source_port), _port(target_port)]
        addresses = [_v1_address(family, source), _v1_address(family, target)]
    except ValueError as error:
        raise BadProxyHeader("its PROXY header is malformed") from error
    return ProxyHeader(end + 2, (addresses[0], ports[0]))


def _v1_address(family: str, text: str) -> str:
    if family == "TCP4":
        return str(IPv4Address(text))
    if family == "TCP6" and "%" not in text:
        return str(IPv6Address(text))
    raise ValueError(family)


def _port(text: str) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 65_535:
        raise ValueError(text)
    return int(text)


def _version_2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD.size:
        return None
    _, command, family, length = _V2_HEAD.unpack_from(data)
    if command not in {_LOCAL, _PROXY}:
        raise BadProxyHeader("its PROXY header has another version or command")
    if length > MAX_V2_BODY_BYTES:
        raise BadProxyHeader("its PROXY header is too long")
    if command == _PROXY and length < _ADDRESS_BYTES.get(family, length + 1):
        raise BadProxyHeader("its PROXY header is malformed")
    size = _V2_HEAD.size + length
    if len(data) < size:
        return None
    if command == _LOCAL:
        return ProxyHeader(size, None)
    # Behind the addresses are TLVs, which are skipped.
    return ProxyHeader(size, _v2_source(family >> 4, data[_V2_HEAD.size : size]))


def _v2_source(family: int, body: bytes) -> tuple[str, int] | None:
    if family == 1:
        return str(IPv4Address(body[:4])), int.from_bytes(body[8:10], "big")
    if family == 2:
        return str(IPv6Address(body[:16])), int.from_bytes(body[32:34], "big")
    return None  # UNSPEC, or a path of a UNIX socket


class ProxyHeaders:
    """Reads the PROXY header of new connections. Call it within a running event loop.

    Connections of other addresses than the trusted proxies are passed on untouched: a header that
    they send is not believed, and is not valid HTTP or TLS either.

    Args:
        proxies: the trusted proxies.
        accepted: handles a connection with its peer's address, as TCPServer's accept callback. Of
            a trusted proxy's connection it gets the address in the header, and the first unread
            byte is the one behind the header.
    """

    def __init__(
        self, proxies: Proxies, accepted: Callable[[socket.socket, tuple[Any, ...]], None]
    ) -> None:
        self._proxies, self._accepted = proxies, accepted
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[socket.socket, asyncio.TimerHandle] = {}
        """Connections whose header is not complete, and when they are closed."""
        self._parts: dict[socket.socket, bytes] = {}
        """What was read of incomplete headers."""

    def accepted(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Handle a new connection."""
        peer = str(address[0]) if address else ""
        if not self._proxies.is_trusted(peer):
            self._accepted(sock, address)
            return
        sock.setblocking(False)
        late = partial(self._refuse, sock, peer, "its PROXY header did not come in time")
        self._waiting[sock] = self._loop.call_later(HEADER_SECONDS, late)
        self._loop.add_reader(sock.fileno(), self._read, sock, peer)

    def close(self) -> None:
        """Close the connections that wait for their header."""
        for sock in tuple(self._waiting):
            self._forget(sock)
            sock.close()

    def _read(self, sock: socket.socket, peer: str) -> None:
        """Read more of a header, and not a byte beyond it: they are peeked at first."""
        had = self._parts.get(sock, b"")
        try:
            seen = sock.recv(MAX_V2_BODY_BYTES + _V2_HEAD.size - len(had), socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            seen = b""
        if not seen:  # closed: balancers check in this way whether a port is open
            self._forget(sock)
            sock.close()
            return
        try:
            header = proxy_header(had + seen)
        except BadProxyHeader as error:
            self._refuse(sock, peer, str(error))
            return
        with contextlib.suppress(OSError):  # lost: whoever reads on will see it
            sock.recv(len(seen) if header is None else header.size - len(had))
        if header is None:
            self._parts[sock] = had + seen
            return
        self._forget(sock)
        self._accepted(sock, header.source or UNKNOWN_CLIENT)

    def _refuse(self, sock: socket.socket, peer: str, why: str) -> None:
        log.warning(
            "a connection of %s was closed: %s. With PROXY_PROTOCOL=on, every connection from "
            "TRUSTED_PROXIES needs one",
            peer,
            why,
        )
        self._forget(sock)
        sock.close()

    def _forget(self, sock: socket.socket) -> None:
        self._waiting.pop(sock).cancel()
        self._parts.pop(sock, None)
        self._loop.remove_reader(sock.fileno())
