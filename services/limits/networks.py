"""What counts as one address for rate limits."""

from __future__ import annotations

import ipaddress

IPV6_PREFIX = 64
"""One subscriber has a whole /64 at least (RFC 6177, RFC 7934): its addresses are one."""


def network_of(ip: str) -> str:
    """The address that something is counted for: an IPv4 address, or the /64 of an IPv6 one.

    What is no address stands for itself, such as the path of a unix socket.
    """
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
