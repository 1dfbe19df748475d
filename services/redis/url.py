"""Redis URLs that name several servers: a sentinel set, or the nodes of a cluster.

    redis+sentinel://[user:password@]host:port,host:port/master_name[/db][?options]
    redis+cluster://[user:password@]host:port,host:port[?options]

`rediss+…` is the same over TLS, also to the sentinels. Login and options (`ssl_*`, as redis-py
takes them) are those of the Redis servers; `sentinel_username` and `sentinel_password` are for
sentinels with a login of their own.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from services.secret import Secret

TAKES_SENTINEL = "redis+sentinel://host:port,host:port/master_name"
TAKES_CLUSTER = "redis+cluster://host:port,host:port"
SENTINEL_PORT, NODE_PORT = 26379, 6379

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?")
_PATH = re.compile(r"([A-Za-z0-9._-]{1,255})(?:/([0-9]{1,5}))?/?")


class RedisUrl(msgspec.Struct, frozen=True):
    """A URL of several servers, taken apart.

    Attributes:
        hosts: the sentinels, or nodes of the cluster.
        server: a URL with the options of the Redis servers; its host is a placeholder.
        sentinel: the same for the sentinels.
        master_name: the sentinels' name of the master; empty for a cluster.
    """

    hosts: tuple[tuple[str, int], ...]
    server: Secret
    sentinel: Secret
    master_name: str = ""


def names_many(url: str) -> bool:
    """Whether it is one of the forms of this module."""
    return url.partition("://")[0].lower().endswith(("+sentinel", "+cluster"))


def read_url(url: str) -> RedisUrl:
    """Take a URL of several servers apart.

    Raises:
        ValueError: the URL is invalid. The text says what is accepted and never quotes the URL.
    """
    scheme, _, rest = url.strip().partition("://")
    tls, _, form = scheme.lower().partition("+")
    takes = TAKES_CLUSTER if form == "cluster" else TAKES_SENTINEL
    if tls not in {"redis", "rediss"} or form not in {"sentinel", "cluster"} or "#" in rest:
        raise ValueError(takes)
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    login, at, hosts = authority.rpartition("@")
    options = dict(parse_qsl(query, keep_blank_values=True))
    sentinel_login = _login(options, takes)
    tail = f"?{urlencode(options)}" if options else ""
    if form == "cluster":
        if path.strip("/") not in {"", "0"}:
            raise ValueError(takes + " without a path: a cluster has one database, 0")
        server = Secret(f"{tls}://{login}{at}localhost{tail}")
        return RedisUrl(_hosts(hosts, NODE_PORT, takes), server, server)
    match = _PATH.fullmatch(path)
    if match is None:
        raise ValueError(takes)
    return RedisUrl(
        hosts=_hosts(hosts, SENTINEL_PORT, takes),
        server=Secret(f"{tls}://{login}{at}localhost/{match[2] or 0}{tail}"),
        sentinel=Secret(f"{tls}://{sentinel_login}localhost{tail}"),
        master_name=match[1],
    )


def _hosts(text: str, usual_port: int, takes: str) -> tuple[tuple[str, int], ...]:
    found: dict[tuple[str, int], None] = {}
    for part in text.split(","):
        match = _HOST.fullmatch(part.strip())
        port = int(match[3] or usual_port) if match else 0
        if match is None or not 0 < port < 65_536:
            raise ValueError(takes)
        found[match[1] or match[2], port] = None
    return tuple(found)


def _login(options: dict[str, str], takes: str) -> str:
    user, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    if user and not password:
        raise ValueError(takes + "; sentinel_username needs sentinel_password")
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else ""
