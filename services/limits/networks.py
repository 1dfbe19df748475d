"""What counts as one address for rate limits."""

from __future__ import annotations

import ipaddress

IPV6_PREFIX = 64
"""A subscriber has at least a /64 (RFC 6177, RFC 7934), so its addresses count as one."""


def network_of(ip: str) -> str:
    """The network that an address is counted as: an IPv4 address, or the /64 of an IPv6 one.

    A text that is not an address, such as the path of a unix socket, is returned unchanged.
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
