"""A postgresql:// URL as hosters provide it: every option is applied, or refused by its name.

asyncpg supports most of libpq's options (libpq, section 34.1.2). It passes unknown options to the
server as server settings, and the resulting error names neither the URL nor the remedy. So options
of libpq and of other clients' pools are handled here. The rest are server settings
(`search_path=…`); the server reports unknown ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from services.errors import SettingError

SETTING = "USHER_DATABASE_URL"
TAKES = "postgresql://user:password@host:port/name"
CONNECTIONS = 4
MAX_CONNECTIONS = 100

Port = int | None
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,62}")
_KEEPALIVES = frozenset(
    {
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
    }
)
_OF_THE_ADDRESS = frozenset({"host", "port", "user", "password", "dbname", "database"})
_OF_ASYNCPG = frozenset(
    {
        "passfile",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslnegotiation",
        "sslcrl",
        "sslpassword",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "krbsrvname",
        "gsslib",
    }
)
_FILES = frozenset({"sslcert", "sslkey", "sslrootcert", "sslcrl"})
# Options for things that Usher always does: only these values are accepted.
_ALREADY_SO: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "channel_binding": ("prefer", "disable"),
        "gssencmode": ("prefer", "disable"),
        "load_balance_hosts": ("disable",),
        "client_encoding": ("auto", "utf8", "UTF8", "utf-8", "UTF-8"),
        "sslcompression": ("0",),
        "sslsni": ("1",),
        "pgbouncer": ("true", "false"),  # Prisma's: Usher names no statements
        "statement_cache_size": ("0",),
        "schema": ("public",),
    }
)
_INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "channel_binding": "the URL without it, and with sslmode=verify-full",
        "gssencmode": "sslmode=verify-full in its place",
        "schema": "options=-c%20search_path%3DNAME in its place",
    }
)
# Options of libpq that change the security or the target of a connection, and that asyncpg does
# not support. If they were ignored, the connection would be other than configured.
_REFUSED = frozenset(
    {
        "gssdelegation",
        "hostaddr",
        "max_protocol_version",
        "min_protocol_version",
        "replication",
        "require_auth",
        "requirepeer",
        "requiressl",
        "service",
        "servicefile",
        "sslcertmode",
        "sslcrldir",
        "sslkeylogfile",
        "sslaccept",
        "sslidentity",
        "pool_timeout",
        "socket_timeout",
    }
)


class PostgresqlUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed postgresql:// URL.

    Attributes:
        shown: the URL without user, password and options, for messages.
        hosts: in the order in which they are tried; empty for libpq's defaults.
        login: `user`, `password` and `database`, if given in the URL. Has no repr.
        asyncpg: a URL with only the options that asyncpg handles itself.
        settings: server settings of each connection.
        target: the required kind of server, as `target_session_attrs`.
        system_roots: certificates are verified with the system's roots (sslrootcert=system).
        connect_seconds: the connect timeout of one host, if given in the URL.
        keepalive: libpq's `keepalives…` and `tcp_user_timeout`, if given in the URL.
        connections: the maximum number of connections.
    """

    shown: str
    hosts: tuple[tuple[str, Port], ...]
    login: Mapping[str, str]
    asyncpg: str
    settings: Mapping[str, str]
    target: str | None
    system_roots: bool
    connect_seconds: float | None
    keepalive: Mapping[str, int]
    connections: int

    def __repr__(self) -> str:
        return f"PostgresqlUrl({self.shown})"


def read(url: str) -> PostgresqlUrl:
    """Parse a postgresql:// URL.

    Raises:
        SettingError: the URL is invalid or has an unsupported option. Shows no credential.
    """
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise _no_url() from None  # the library's text may quote the URL
    options = dict(pairs)
    user_info, _, places = parts.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    login = {
        "user": options.get("user") or unquote(user),
        "password": options.get("password") or unquote(password),
        "database": options.get("dbname") or options.get("database") or unquote(parts.path[1:]),
    }
    hosts = _hosts(places or options.get("host", ""), options.get("port", ""))
    place = ",".join(host if port is None else f"{host}:{port}" for host, port in hosts)
    shown = f"postgresql://{place}/{login['database']}"
    return _with_options(shown, hosts, {k: v for k, v in login.items() if v}, options)


def _with_options(
    shown: str,
    hosts: tuple[tuple[str, Port], ...],
    login: dict[str, str],
    options: dict[str, str],
) -> PostgresqlUrl:
    given = _Options(shown, {k: v for k, v in options.items() if k not in _OF_THE_ADDRESS})
    for name in (*_ALREADY_SO, "fallback_application_name"):
        given.take_default(name)
    system_roots = given.take_system_roots()
    connect = given.take_number("connect_timeout")
    return PostgresqlUrl(
        shown=shown,
        hosts=hosts,
        login=login,
        target=given.take_target(len(hosts)),
        system_roots=system_roots,
        connect_seconds=None if connect is None or connect <= 0 else float(max(connect, 1)),
        keepalive={
            name: number
            for name in sorted(_KEEPALIVES)
            if (number := given.take_number(name)) is not None
        },
        connections=given.take_connections(),
        asyncpg=given.take_for_asyncpg(),
        settings=given.take_rest(),
    )


class _Options:
    """The options of a URL, consumed one after the other."""

    def __init__(self, shown: str, options: dict[str, str]) -> None:
        self._shown, self._left = shown, options

    def refusal(self, name: str, value: str, takes: str) -> SettingError:
        return SettingError(SETTING, f"{self._shown} with {name}={value[:60]}", takes)

    def take_default(self, name: str) -> None:
        value = self._left.pop(name, None)
        values = _ALREADY_SO.get(name)
        if value is not None and values is not None and value not in values:
            takes = _INSTEAD.get(name, f"{name}={' or '.join(values)}")
            raise self.refusal(name, value, takes)

    def take_system_roots(self) -> bool:
        if self._left.get("sslrootcert") != "system":
            return False
        del self._left["sslrootcert"]
        mode = self._left.pop("sslmode", "verify-full")
        if mode != "verify-full":  # as libpq does: a list that all trust needs the name checked
            raise self.refusal("sslmode", mode, "sslmode=verify-full with sslrootcert=system")
        return True

    def take_number(self, name: str) -> int | None:
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,9}", value):
            raise self.refusal(name, value, f"{name}= and a whole number")
        return int(value)

    def take_connections(self) -> int:
        number = self.take_number("connection_limit")
        if number is None:
            return CONNECTIONS
        if not 1 <= number <= MAX_CONNECTIONS:
            takes = f"connection_limit= from 1 to {MAX_CONNECTIONS}"
            raise self.refusal("connection_limit", str(number), takes)
        return number

    def take_target(self, hosts: int) -> str | None:
        value = self._left.pop("target_session_attrs", None)
        if value is None:  # some of the hosts may be standbys, and Usher writes
            return "read-write" if hosts > 1 else None
        if value not in {"any", "primary", "read-write"}:
            takes = "target_session_attrs=read-write, primary or any: Usher writes"
            raise self.refusal("target_session_attrs", value, takes)
        return value

    def take_for_asyncpg(self) -> str:
        taken = {name: self._left.pop(name) for name in sorted(_OF_ASYNCPG & self._left.keys())}
        for name in _FILES & taken.keys():
            if not os.access(taken[name], os.R_OK):
                raise self.refusal(name, taken[name], f"{name}= and a file that can be read")
        return f"postgresql://?{urlencode(taken)}" if taken else "postgresql://"

    def take_rest(self) -> dict[str, str]:
        for name, value in self._left.items():
            if name in _REFUSED or not _SETTING_NAME.fullmatch(name):
                raise self.refusal(name[:60], value, f"a URL without {name[:60]}")
        return self._left


def _hosts(places: str, ports: str) -> tuple[tuple[str, Port], ...]:
    listed = places.split(",") if places else []
    numbers = ports.split(",") if ports else [""]
    if len(numbers) == 1:  # libpq: one port is for all hosts
        numbers *= len(listed)
    if len(numbers) != len(listed):
        raise _no_url()
    return tuple(map(_host, listed, numbers))


def _host(text: str, port: str) -> tuple[str, Port]:
    if text.startswith("/"):  # the folder of a unix socket
        return text, _port(port)
    match = _HOST.fullmatch(text)
    if match is None:
        raise _no_url()
    return unquote(match[1].strip("[]")) or "localhost", _port(match[2] or port)


def _port(text: str) -> Port:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65_536:
        raise _no_url()
    return int(text)


def _no_url() -> SettingError:
    return SettingError(SETTING, "postgresql://… (not a URL)", TAKES)
