"""The client address behind trusted proxies.

Anyone can send `X-Forwarded-*` headers, so they count only when they come from a trusted proxy, and
only as far as trusted proxies have written them.
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

PEERS_KNOWN = 4096
"""Addresses at the other end that need not be read anew: to read one costs 10 µs."""
MAX_HOPS = 32
"""A longer X-Forwarded-For is not followed: no honest chain comes near it."""

_IPV4_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")
_IPV6_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")
_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?P<port>:[0-9]{1,5})?"
)


class ClientAddress(NamedTuple):
    """Where a request came from.

    Attributes:
        ip: the client's address; the nearest one that can be believed.
        proto: `http` or `https`, as the client used it.
        host: the `Host` that the client asked for, lower case, or None when it gave none.
    """

    ip: str
    proto: str
    host: str | None


class Proxies:
    """Reads the client's address from a request.

    Args:
        trusted: TRUSTED_PROXIES.
    """

    def __init__(self, trusted: Sequence[IPNetwork] = ()) -> None:
        self._trusted = tuple(trusted)
        self._peer = functools.lru_cache(PEERS_KNOWN)(self._look_at)

    def client_address(self, peer_ip: str, headers: Mapping[str, str]) -> ClientAddress:
        """The client as far as it can be believed. Garbage in a header is passed over.

        Args:
            peer_ip: the address at the other end of the connection.
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
        """The `ip` of `client_address`, where nothing else is asked for: on every join."""
        peer, text, trusted = self._peer(peer_ip)
        if peer is None or not trusted:
            return text
        return str(self._client(peer, headers.get("X-Forwarded-For", "")))

    def is_trusted(self, ip: str) -> bool:
        """Whether an address is one of TRUSTED_PROXIES."""
        return self._peer(ip)[2]

    def _look_at(self, peer_ip: str) -> tuple[IPAddress | None, str, bool]:
        """A peer's address, how it is written, and whether it is trusted."""
        peer = _address(peer_ip)
        if peer is None:
            return None, peer_ip, False
        return peer, str(peer), self._is_trusted(peer)

    def _client(self, peer: IPAddress, forwarded: str) -> IPAddress:
        """Walks from the right, where the nearest proxy wrote, up to the first hop that is not
        trusted: everything left of it could be made up."""
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
    """One hop as an address; some proxies add the port. IPv4 in IPv6 counts as IPv4."""
    match = _IPV4_PORT.fullmatch(text) or _IPV6_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(match[1] if match else text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _last(values: str) -> str:
    # The nearest proxy wrote the last one; those before it may be the client's own.
    return values.rpartition(",")[2].strip()


def _proto(values: str) -> str:
    return "https" if _last(values).lower() == "https" else "http"


def _host(text: str) -> str | None:
    match = _HOST.fullmatch(text.strip()) if len(text) < 300 else None
    if match is None:
        return None
    host = normal_host(match["ipv6"] or match["name"], ipv6=match["ipv6"] is not None)
    return None if host is None else host + (match["port"] or "")
