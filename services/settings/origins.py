"""The web origins that may use this server with a user's cookies.

A browser sends the page's origin in `Origin` (RFC 6454, RFC 6455 section 10.2). It also sends
cookies with every WebSocket handshake, whichever page opened it, so this check is the only defence
against cross-site WebSocket hijacking.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from services.errors import BadRequest

DEFAULT_PORTS = {"http": 80, "https": 443}
# Browser extensions and apps in a web view have no host of their own on the web.
APP_SCHEMES = frozenset(
    {"capacitor", "chrome-extension", "ionic", "moz-extension", "safari-web-extension", "tauri"}
)
MAX_ORIGIN_LENGTH = 300
"""Characters: a host name has at most 253 (RFC 1035 section 2.3.4)."""

WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
"""Wildcard addresses, and the loopback address that reaches a server bound to each. A socket bound
to `::` accepts no IPv4 connections (IPV6_V6ONLY)."""

LOCAL_NAMES = frozenset(("127.0.0.1", "localhost"))
"""Two names of one loopback interface, whose cookies browsers keep apart."""

MAX_NEXT_LENGTH = 500
"""Characters. With this limit, the cookies of nine authorization requests fit into the request
headers."""
_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")
"""A path on this site. Browsers read a second slash, or a backslash, as the start of a host name.
They drop control characters, which could hide either."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9.:\[\]-]+)(?:[/?#][\x21-\x5b\x5d-\x7e]*)?")
"""An origin with an optional path, query and fragment, in characters that all parsers agree on."""
_OAUTH_SEGMENT = "oauth"
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


class Origins:
    """Checks origins against the server's own origin and the allowed ones.

    Args:
        public_url: PUBLIC_URL, an origin, perhaps with a path; or None if it is not set.
        host: HOST, an address or a name.
        port: the port that the server is bound to.
        allowed: ALLOWED_ORIGINS.
        bound: the addresses that the server is bound to, which differ from `host` if that is a
            name.
        scheme: the scheme that the server itself uses: http, or https with TLS_CERTIFICATE.

    Attributes:
        public_url: the URL at which browsers reach the server, without a trailing slash; also
            `iss`.
        path: the path of that URL, below which everything lies: `/usher`, or empty.
        announced: the same with a domain where there is one. By default that is `localhost`,
            because passkeys need a domain (WebAuthn Level 2 section 5.1.2).
        secure: whether that URL is https, so that cookies can be Secure.
    """

    def __init__(
        self,
        public_url: str | None,
        host: str,
        port: int,
        allowed: Iterable[str] = (),
        bound: Iterable[str] = (),
        scheme: str = "http",
    ) -> None:
        self.public_url = public_url or http_origin(host, port, scheme)
        self.path = urlsplit(self.public_url).path
        by_default = public_url is None and host in LOCAL_NAMES
        self.announced = http_origin("localhost", port, scheme) if by_default else self.public_url
        self.secure = self.public_url.startswith("https://")
        own = {origin_of(public_url)} if public_url else _own_origins(host, port, bound, scheme)
        self._own = frozenset(filter(None, map(parse_origin, own)))
        self._own_or_allowed = self._own | frozenset(filter(None, map(parse_origin, allowed)))

    @property
    def home(self) -> str:
        """The path of the front page, where a sign-in ends that was given no other place."""
        return f"{self.path}/"

    def is_own_or_allowed(self, origin: str | None) -> bool:
        """Whether a request with this `Origin` header may use cookies.

        False for None. The caller decides what a request without the header may do.
        """
        if origin is None:
            return False
        # Browsers send the normal form; other clients may not.
        return origin in self._own_or_allowed or parse_origin(origin) in self._own_or_allowed

    def is_own(self, origin: str | None) -> bool:
        """Whether this is the server's own origin, under any of its names."""
        return origin is not None and parse_origin(origin) in self._own

    def opened(self, providers: bool) -> str:
        """The URL that people are told to open, and where links in mails lead: `announced`, where
        passkeys work too. With providers it is `public_url`: they return the browser there, and a
        sign-in needs the cookies that it began with."""
        return self.public_url if providers else self.announced

    def relying_party(self) -> tuple[str, tuple[str, ...]] | None:
        """The id of the WebAuthn relying party, and the origins whose pages may use it: the host of
        `announced`, and its subdomains among the own and allowed origins (WebAuthn Level 2 section
        5.1.2). None if the host is an address, which no authenticator accepts."""
        host = urlsplit(self.announced).hostname or ""
        if ":" in host or host.rpartition(".")[2].isdigit():
            return None

        def fits(origin: str) -> bool:
            name = urlsplit(origin).hostname or ""
            return name == host or name.endswith(f".{host}")

        return host, tuple(sorted(filter(fits, self._own_or_allowed)))

    def refused(self, origin: str | None, host: str | None) -> str:
        """The log text for a refused origin, with the setting that would allow it.

        Args:
            origin: the `Origin` header.
            host: the `Host` header. If it matches, browsers reach this server by that name.
        """
        shown = repr((origin or "")[:MAX_ORIGIN_LENGTH])
        if origin is not None and host and origin.partition("://")[2].lower() == host.lower():
            how = "if that is where browsers reach this server, set USHER_PUBLIC_URL to it"
        else:
            how = "to allow its pages, add it to USHER_ALLOWED_ORIGINS"
        return f"origin {shown} is refused; {how}"


def checked_next(target: str, origins: Origins) -> str:
    """Check where the browser goes after a sign-in, to prevent open redirects (ASVS 5.1.5).

    Accepts a path on this site, or a page of an allowed origin.

    Raises:
        BadRequest: any other target, or a path under `/oauth/`.
    """
    if len(target) <= MAX_NEXT_LENGTH:
        path, url = _PATH.fullmatch(target), _URL.fullmatch(target)
        is_here = path is not None or (url is not None and origins.is_own(parse_origin(url[1])))
        if is_here and _is_oauth_path(target, origins.path):
            raise BadRequest("next: another sign-in", detail="next: a page, not a sign-in")
        if is_here or (url is not None and origins.is_own_or_allowed(parse_origin(url[1]))):
            return target
    raise BadRequest("next: not on this site", detail="next: a path on this site")


def _is_oauth_path(target: str, prefix: str) -> bool:
    """Whether a browser would request a path under `/oauth/`, below the path of PUBLIC_URL.

    A redirect by the bundled page comes from our own origin. The calls under `/oauth/` take that as
    a sign that the user chose to sign in, so `next` must not lead to them.
    """
    path = re.split("[?#]", target, maxsplit=1)[0]
    _, _, rest = path.partition("://") if path[:1] != "/" else ("", "", path)
    segments: list[str] = []
    # The URL Standard reads `%2e` as a dot, and removes dot segments. A proxy that strips the path
    # may decode the rest, and merge slashes.
    for segment in unquote(rest).split("/")[1:]:
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    own = [*filter(None, prefix.split("/")), _OAUTH_SEGMENT]
    return segments[: len(own)] == own


def parse_origin(text: str) -> str | None:
    """Normalise an origin: lower case, without a default port (RFC 6454 section 6.2).

    Returns:
        The origin, or None for anything else: `null`, `*`, a list, a path, user info, another
        scheme.
    """
    if len(text) > MAX_ORIGIN_LENGTH:
        return None
    # ASCII is checked first, because a few other letters become ASCII when lower-cased.
    match = _ORIGIN.fullmatch(text.lower()) if text.isascii() else None
    if match is None:
        return None
    scheme, port = match["scheme"], match["port"]
    host = normal_host(match["ipv6"] or match["name"], ipv6=match["ipv6"] is not None)
    if host is None or int(port or 1) > 65_535:
        return None
    if scheme not in DEFAULT_PORTS and scheme not in APP_SCHEMES:
        return None
    if port is None or int(port) == DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"


def origin_of(url: str) -> str:
    """The origin of a PUBLIC_URL, which is normal."""
    return "/".join(url.split("/", 3)[:3])


def cookie_prefix_of(url: str | None) -> str:
    """What tells the cookies of a PUBLIC_URL with a path from those of other installations on that
    host: `usher.` for `/usher`, `a+b.` for `/a/b`. A COOKIE_NAME_PREFIX has neither character."""
    path = urlsplit(url).path[1:].replace("/", "+") if url else ""
    return f"{path}." if path else ""


def normal_host(host: str, *, ipv6: bool = False) -> str | None:
    """Normalise a host for a URL: lower case, IPv6 in brackets. Returns None if it is invalid."""
    host = host.lower()
    try:
        if ipv6:
            return f"[{ipaddress.IPv6Address(host)}]"
        if host.rpartition(".")[2].isdigit():
            # Some parsers read `127.1` or `2130706433` as an address, others as a name.
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        return None
    return host if is_host_name(host) else None


def is_host_name(host: str) -> bool:
    """Whether this is a DNS name in ASCII (RFC 1123 section 2.1; `_` is accepted too)."""
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split("."))


def http_origin(host: str, port: int, scheme: str = "http") -> str:
    """`SCHEME://HOST:PORT`, with the loopback address in place of a wildcard address."""
    host = WILDCARD_HOSTS.get(host, host)
    shown = f"[{host}]" if ":" in host else host.lower()
    return f"{scheme}://{shown}" if port == DEFAULT_PORTS[scheme] else f"{scheme}://{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether this is a loopback address or `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _own_origins(host: str, port: int, bound: Iterable[str], scheme: str) -> set[str]:
    # Without PUBLIC_URL, only addresses that this server is bound to count as its own, and
    # `localhost`. The Host header does not: with DNS rebinding, any page could choose it. At
    # another address, another program may be listening.
    addresses = {WILDCARD_HOSTS.get(address, address) for address in (host, *bound)}
    names = addresses | ({"localhost"} if any(map(is_loopback, addresses)) else set())
    return {http_origin(name, port, scheme) for name in names}
