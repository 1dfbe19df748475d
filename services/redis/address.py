"""The address of one Redis server, how to connect to it, and the commands sent first."""

from __future__ import annotations

import asyncio
import copy
import ssl
from typing import Any, Protocol, cast

from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError

from services.redis.store import Command


class Address(Protocol):
    """Where Redis is: one server, the master named by sentinels, or a node of a cluster."""

    @property
    def greeting(self) -> tuple[Command, ...]:
        """The commands sent first on a connection. Each must be answered without an error."""

    @property
    def lost_by(self) -> frozenset[str]:
        """Error words that mean this is the wrong server: the link is closed on any of them."""

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """Look the server up and connect to it. The caller sets a timeout.

        Raises:
            OSError: the server cannot be reached.
            StoreUnavailable: the server cannot be found, or does not have the expected role.
        """


class RedisAddress:
    """A Redis URL of one server, read once.

    Raises:
        ValueError: the URL is invalid. The text never quotes it, because it may hold a password.
    """

    lost_by: frozenset[str] = frozenset()

    def __init__(self, url: str) -> None:
        try:
            options = cast("dict[str, Any]", parse_url(url))
            kind = options.pop("connection_class", None)
            self._tls = _tls(options) if kind is SSLConnection else None
        except (ValueError, TypeError, OSError, RedisError):
            # `from None`: the library's message may quote a part of the password.
            raise ValueError("not a redis://, rediss:// or unix:// URL that works") from None
        self._path: str | None = options.get("path") if kind is UnixDomainSocketConnection else None
        if kind is UnixDomainSocketConnection and not self._path:
            raise ValueError("a unix:// URL needs a path")
        self.host: str = options.get("host", "localhost")
        self.port: int = options.get("port", 6379)
        self.greeting = _greeting(options)

    def at(self, host: str, port: int) -> RedisAddress:
        """The address of another server with the same login and TLS options."""
        other = copy.copy(self)
        other.host, other.port = host, port
        return other

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """See `Address.connect`. Uses TLS or a unix socket if the URL says so."""
        loop = asyncio.get_running_loop()
        if self._path is not None:
            await loop.create_unix_connection(lambda: protocol, self._path)
        else:
            await loop.create_connection(lambda: protocol, self.host, self.port, ssl=self._tls)


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    wanted = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return SSLConnection(**wanted).ssl_context.get()


def _greeting(options: dict[str, Any]) -> tuple[Command, ...]:
    greeting: list[Command] = []
    if password := options.get("password"):
        user = options.get("username")
        greeting.append(("AUTH", user, password) if user else ("AUTH", password))
    if database := options.get("db", 0):
        greeting.append(("SELECT", database))
    # Redis refuses PING while it loads its data or needs a password: it is unavailable then.
    return (*greeting, ("PING",))
