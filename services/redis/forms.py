"""Turns a Redis URL into an address: one server, a sentinel set or a cluster."""

from __future__ import annotations

from services.redis.address import RedisAddress
from services.redis.cluster import ClusterAddress
from services.redis.sentinel import SentinelAddress
from services.redis.url import names_many, read_url
from services.secret import Secret


def address_of(url: Secret | str) -> RedisAddress | SentinelAddress | ClusterAddress:
    """Read a URL in any of its forms (redis_url.py has those with several servers).

    Raises:
        ValueError: the URL, or a certificate file that it names, cannot be used. The text never
            quotes the URL, because it may hold a password.
    """
    text = url.reveal() if isinstance(url, Secret) else url
    if not names_many(text):
        return RedisAddress(text)
    read = read_url(text)
    server = RedisAddress(read.server.reveal())
    if not read.master_name:
        return ClusterAddress([server.at(*host) for host in read.hosts])
    sentinel = RedisAddress(read.sentinel.reveal())
    return SentinelAddress([sentinel.at(*host) for host in read.hosts], read.master_name, server)
