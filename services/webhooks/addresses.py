"""Checks the URLs of webhooks, and the addresses that deliveries connect to.

The address is checked after the name was resolved for the connection, so changing the name's
address later (DNS rebinding) does not help an attacker (OWASP, Server Side Request Forgery).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from tornado.netutil import Resolver

MAX_URL_LENGTH = 2048
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""


_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
"""All that IANA has given out of IPv6 (RFC 4291 section 2.4). Outside of it `is_global` holds for
some that are private: site-local addresses (`fec0::/10`, RFC 3879) are still used within sites."""


class AddressRefused(OSError):
    """A name resolves to private addresses only."""


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet.

    Args:
        text: an IPv4 or IPv6 address; a scope id (`%eth0`) does not matter.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded_ipv4(address)
        if inner is not None:
            return is_public(str(inner))
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that is embedded in an IPv6 address."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or int(address) >> 32 == 0:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def why_not(url: str, private: bool) -> str | None:
    """The reason why a URL is not allowed for a webhook; None if it is allowed.

    Args:
        private: whether private addresses and plain http are allowed.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "not a URL"
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        return f"at most {MAX_URL_LENGTH} printable characters of ASCII without spaces"
    if parts.scheme not in (("https", "http") if private else ("https",)):
        return "http:// or https://" if private else "https:// is needed, or WEBHOOK_PRIVATE"
    if not host or "@" in parts.netloc or "\\" in url or "#" in url:
        return "a URL with a host, without a user name and without a fragment"
    if not private and _is_private_literal(host):
        return "an address of the public internet is needed"
    return None


def _is_private_literal(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:  # a host name: checked when connecting
        name = host.rstrip(".").lower()
        return name == "localhost" or name.endswith(".localhost")


class GuardedResolver(Resolver):
    """Resolves names in its own threads, and returns public addresses only.

    Args:
        private: whether private addresses are returned, too.
        threads: names that are resolved concurrently.
    """

    def initialize(self, private: bool, threads: int) -> None:
        self._private = private
        self._under_way: dict[tuple[str, int, int], asyncio.Future[list[Any]]] = {}
        """A look-up cannot be ended, and outlives the attempts that wait for it. So there is one of
        a name at a time: a name server that does not answer holds one thread."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="webhook-dns")

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        """The addresses that may be connected to.

        Raises:
            socket.gaierror: the name is unknown.
            AddressRefused: none of its addresses is public.
        """
        found = await asyncio.shield(self._look_up(host, port, family))
        addresses: list[tuple[int, Any]] = [(kind, address) for kind, _, _, _, address in found]
        if not self._private:
            addresses = [a for a in addresses if is_public(str(a[1][0]))]
        if not addresses:
            raise AddressRefused("no public address")
        return addresses

    def _look_up(self, host: str, port: int, family: int) -> asyncio.Future[list[Any]]:
        key = (host, port, family)
        found = self._under_way.get(key)
        if found is None:
            found = asyncio.get_running_loop().run_in_executor(
                self._pool, socket.getaddrinfo, host, port, family, socket.SOCK_STREAM
            )
            self._under_way[key] = found
            found.add_done_callback(lambda done: self._ended(key, done))
        return found

    def _ended(self, key: tuple[str, int, int], done: asyncio.Future[list[Any]]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # the caller may have stopped waiting

    def close(self) -> None:
        """Let the threads end. Does not wait for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
