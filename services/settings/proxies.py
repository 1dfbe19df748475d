"""The client address behind trusted proxies.

Any client can send `X-Forwarded-*` headers. They are used only if the request comes from a trusted
proxy, and only the part that trusted proxies added.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from services.settings.origins import normal_host

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

PEER_CACHE_SIZE = 4096
"""Number of peer addresses whose parsed form is cached. Parsing one takes 10 µs."""
MAX_HOPS = 32
"""Entries of X-Forwarded-For that are read. No real chain of proxies is that long."""

_IPV4_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")
_IPV6_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")
_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?P<port>:[0-9]{1,5})?"
)


class ClientAddress(NamedTuple):
    """The client side of a request.

    Attributes:
        ip: the client's address, as far as trusted proxies have reported it.
        proto: the scheme that the client used, `http` or `https`.
        host: the `Host` that the client sent, in lower case, or None if it sent none.
    """

    ip: str
    proto: str
    host: str | None


class Proxies:
    """Determines the client's address of a request behind proxies.

    Args:
        trusted: TRUSTED_PROXIES.
    """

    def __init__(self, trusted: Sequence[IPNetwork] = ()) -> None:
        self._trusted = tuple(trusted)
        self._peer = functools.lru_cache(PEER_CACHE_SIZE)(self._parse_peer)

    def client_address(self, peer_ip: str, headers: Mapping[str, str]) -> ClientAddress:
        """The client's address, scheme and host. Malformed header values are ignored.

        Args:
            peer_ip: the remote address of the connection.
            headers: the request's headers; several of one name joined by commas.
        """
        host = _host(headers.get("Host", ""))
        if not self.is_trusted(peer_ip):
            return ClientAddress(self.client_ip(peer_ip, headers), "http", host)
        return ClientAddress(
            self.client_ip(peer_ip, headers),
            _proto(headers.get("X-Forwarded-Proto", "")),
            _host(_last(headers.get("X-Forwarded-Host", ""))) or host,
        )

    def client_ip(self, peer_ip: str, headers: Mapping[str, str]) -> str:
        """Only the `ip` of `client_address`. Cheaper, for every WebSocket handshake."""
        peer, text, trusted = self._peer(peer_ip)
        if peer is None or not trusted:
            return text
        return str(self._client(peer, headers.get("X-Forwarded-For", "")))

    def is_trusted(self, ip: str) -> bool:
        """Whether an address is one of TRUSTED_PROXIES."""
        return self._peer(ip)[2]

    def _parse_peer(self, peer_ip: str) -> tuple[IPAddress | None, str, bool]:
        """Parse a peer's address. Returns it, its text, and whether it is a trusted proxy."""
        peer = _address(peer_ip)
        if peer is None:
            return None, peer_ip, False
        return peer, str(peer), self._is_trusted(peer)

    def _client(self, peer: IPAddress, forwarded: str) -> IPAddress:
        """The first address from the right that is not a trusted proxy.

        Each proxy appends on the right, so everything left of that address may be forged.
        """
        client = peer
        for hop in _hops(forwarded):
            address = _address(hop)
            if address is None:
                break
            client = address
            if not self._is_trusted(address):
                break
        return client

    def _is_trusted(self, address: IPAddress) -> bool:
        return any(address in network for network in self._trusted)


def _hops(forwarded: str) -> Iterator[str]:
    yield from (hop.strip() for hop in reversed(forwarded.rsplit(",", MAX_HOPS)[-MAX_HOPS:]))


def _address(text: str) -> IPAddress | None:
    """Parse one entry, with or without a port. An IPv4-mapped IPv6 address becomes IPv4."""
    match = _IPV4_PORT.fullmatch(text) or _IPV6_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(match[1] if match else text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _last(values: str) -> str:
    # The nearest proxy appended the last value; the client may have sent those before it.
    return values.rpartition(",")[2].strip()


def _proto(values: str) -> str:
    return "https" if _last(values).lower() == "https" else "http"


def _host(text: str) -> str | None:
    match = _HOST.fullmatch(text.strip()) if len(text) < 300 else None
    if match is None:
        return None
    host = normal_host(match["ipv6"] or match["name"], ipv6=match["ipv6"] is not None)
    return None if host is None else host + (match["port"] or "")
