"""Readers: functions that convert the text of a setting to a validated value.

Every reader raises `BadValue`, which says what is accepted and shows the value unless it is secret.
services/settings/sources.py adds the name of the setting.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import jwt
from jwt.algorithms import HMACAlgorithm

from services.claims import MIN_SECRET_BYTES
from services.redis.url import TAKES_CLUSTER, TAKES_SENTINEL, names_many, read_url
from services.secret import MASK, Secret
from services.settings.branding import MAX_NAME_LENGTH, TAKES_LOGO, Colour, read_colour
from services.settings.origins import APP_SCHEMES, is_host_name, is_loopback, parse_origin
from services.settings.proxies import IPNetwork

TAKES_FERNET_KEYS = "Fernet keys (32 bytes in URL-safe base64, 44 characters), newest first"
TAKES_DATABASE = "sqlite:///path or postgresql://user:password@host:port/name"
TAKES_REDIS = (
    "redis://host:port/0, rediss://host:port/0 (TLS), unix:///path/to/socket, "
    f"{TAKES_SENTINEL} or {TAKES_CLUSTER}"
)

MAX_LIMIT = 1_000_000_000
"""The highest value of a limit."""

_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_PORT = re.compile(r"[0-9]{1,5}")
_FERNET_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_NATIVE_URI = re.compile(
    r"(?:[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)+:/(?!/)|https://(?P<host>[a-z0-9.-]+)(?::[1-9][0-9]{0,4})?/)"
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*"
)
"""Redirect URIs of native apps (RFC 8252 sections 7.1 and 7.2): a private-use scheme with a dot,
which is a reversed domain name, or a claimed https URL."""
MAX_NATIVE_URI_LENGTH = 400
_PUBLIC_URL = re.compile(r"(?P<origin>[^/?#]*//[^/?#]*)(?P<path>(?:/[A-Za-z0-9._~-]+)*)")
"""An origin with a path of unreserved characters (RFC 3986 section 2.3), which are read alike
everywhere."""
MAX_PATH_LENGTH = 100
_COOKIE_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_AUDIENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/~-]{0,199}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"(?:sqlite|postgres|postgresql|mysql|https?|rediss?(?:\+[a-z]+)?|unix)(?=:)")
_DOCUMENT = "/.well-known/openid-configuration"
_ON, _OFF = frozenset(("true", "yes", "on", "1")), frozenset(("false", "no", "off", "0"))
_REDIS_DATABASE = re.compile(r"/?|/[0-9]{1,5}")


class BadValue(ValueError):
    """The text of a setting is not valid.

    Args:
        takes: what the setting accepts.
        got: a description of the text, if the text itself must not be shown or is not enough.
    """

    def __init__(self, takes: str, got: str | None = None) -> None:
        super().__init__(takes)
        self.takes, self.got = takes, got


def host(text: str) -> str:
    name = text.strip().removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(name)
        mapped = getattr(
            address, "ipv4_mapped", None
        )  # an IPv4-mapped address cannot be bound as IPv6
        return str(mapped or address)
    except ValueError:
        numeric = name.rpartition(".")[2].isdigit()  # a mistyped address, never a name
        if numeric or not is_host_name(name.lower()):
            raise BadValue("an IP address or a host name") from None
    return name.lower()


def port(text: str) -> int:
    takes = "a port number from 0 to 65535 (0: any free one)"
    if text.startswith("tcp://"):
        takes += "; Kubernetes writes this for a Service named usher: set enableServiceLinks: false"
    if not _PORT.fullmatch(text.strip()) or int(text) > 65_535:
        raise BadValue(takes)
    return int(text)


def seconds(least: float, most: float) -> Callable[[str], float]:
    """A reader for a duration in seconds from `least` to `most`. Fractions are allowed."""

    def read(text: str) -> float:
        value = float(text) if _NUMBER.fullmatch(text.strip()) else -1.0
        if not least <= value <= most:
            raise BadValue(f"a number of seconds from {least:g} to {most:.12g}")
        return value

    return read


def count(least: int, most: int) -> Callable[[str], int]:
    """A reader for an integer from `least` to `most`."""

    def read(text: str) -> int:
        digits = text.strip()
        value = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 12 else -1
        if not least <= value <= most:
            raise BadValue(f"a whole number from {least} to {most}")
        return value

    return read


def none_or_count(least: int, most: int) -> Callable[[str], int]:
    """A reader for an integer from `least` to `most`, or 0."""

    def read(text: str) -> int:
        if text.strip() == "0":
            return 0
        try:
            return count(least, most)(text)
        except BadValue:
            raise BadValue(f"0, or a whole number from {least} to {most}") from None

    return read


def switch(text: str) -> bool:
    """A boolean: true, yes, on, 1, or false, no, off, 0."""
    word = text.strip().lower()
    if word not in _ON and word not in _OFF:
        raise BadValue("true or false")
    return word in _ON


def choice(*words: str) -> Callable[[str], str]:
    """A reader for one of the given words."""

    def read(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise BadValue(" or ".join(words))
        return word

    return read


def cookie_prefix(text: str) -> str:
    """COOKIE_NAME_PREFIX: a subset of the characters of a cookie name (RFC 6265 section 4.1.1)."""
    prefix = text.strip()
    if not _COOKIE_PREFIX.fullmatch(prefix):
        raise BadValue("1 to 32 letters, digits, hyphens and underscores, a letter first")
    return prefix


def app_name(text: str) -> str:
    """APP_NAME: the app's name on the sign-in pages."""
    name = " ".join(text.split())
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise BadValue(f"a name of at most {MAX_NAME_LENGTH} printable characters")
    return name


def app_logo(text: str) -> str:
    """APP_LOGO: a path or a URL. `branding.read_logo` reads it once PUBLIC_URL is known."""
    if not text.strip() or _CONTROL.search(text) or "@" in text:
        raise BadValue(TAKES_LOGO)
    return text.strip()


def app_accent(text: str) -> Colour:
    """APP_ACCENT: a CSS colour in hexadecimal notation."""
    colour = read_colour(text)
    if colour is None:
        raise BadValue("a colour of 3 or 6 hexadecimal digits, such as #0b5c63")
    return colour


def folder(text: str) -> Path:
    if not text.strip() or _CONTROL.search(text):
        raise BadValue("the path of a folder")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # `~name` of an unknown user
        raise BadValue("the path of a folder") from error


def database_url(text: str) -> Secret:
    url, value = _split(text, TAKES_DATABASE, several=True), text.strip()
    if url.scheme == "sqlite":
        path = value.removeprefix("sqlite:///")
        if path == value or not path.strip("/") or path == ":memory:":
            raise BadValue(TAKES_DATABASE + ", where path names a file", _shown(text))
        return Secret(value)
    # For a Unix socket, the query has its folder: postgresql:///name?host=/run/…
    reachable = url.hostname or "host=" in url.query
    if url.scheme not in {"postgres", "postgresql"} or not reachable or not url.path.strip("/"):
        raise BadValue(TAKES_DATABASE, _shown(text))
    return Secret("postgresql://" + value.partition("://")[2])


def redis_url(text: str) -> Secret:
    if names_many(text.strip()) and not _CONTROL.search(text):
        try:
            read_url(text)
        except ValueError as error:
            raise BadValue(str(error), _shown(text)) from None
        return Secret(text.strip())
    url = _split(text, TAKES_REDIS)
    if url.scheme == "unix" and url.path.strip("/"):
        return Secret(text.strip())
    if url.scheme in {"redis", "rediss"} and url.hostname and _REDIS_DATABASE.fullmatch(url.path):
        return Secret(text.strip())
    raise BadValue(TAKES_REDIS, _shown(text))


def jwt_secrets(text: str) -> tuple[Secret, ...]:
    """JWT_SECRETS: neither trimmed nor decoded, so that every node and tool uses the same bytes."""
    takes = f"secrets of at least {MIN_SECRET_BYTES} bytes each, separated by commas, newest first"
    parts = text.split(",")
    for number, part in enumerate(parts, start=1):
        try:
            size = len(part.encode())
        except UnicodeEncodeError:  # the error holds the secret, hence `from None`
            raise BadValue(takes + ", in UTF-8", f"{MASK} (number {number})") from None
        if size < MIN_SECRET_BYTES:
            raise BadValue(takes, f"{MASK} (number {number} has {size} bytes)")
        try:
            HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(part)
        except jwt.InvalidKeyError as error:
            got = f"{MASK} (number {number} is a key in PEM, DER, SSH or JWK form)"
            raise BadValue(takes, got) from error
    return _distinct_secrets(parts, takes)


def encryption_keys(text: str) -> tuple[Secret, ...]:
    parts = [part.strip() for part in text.split(",")]
    for number, part in enumerate(parts, start=1):
        if not _FERNET_KEY.fullmatch(part):
            got = f"{MASK} (number {number} has {len(part)} characters)"
            raise BadValue(TAKES_FERNET_KEYS + ", separated by commas", got)
    return _distinct_secrets(parts, TAKES_FERNET_KEYS)


def public_url(text: str) -> str:
    """PUBLIC_URL: an origin, or one with a path; without a trailing slash."""
    match = _PUBLIC_URL.fullmatch(text.strip().removesuffix("/"))
    origin = parse_origin(match["origin"]) if match is not None else None
    path = match["path"] if match is not None else ""
    is_plain = not {".", ".."} & set(path.split("/")) and len(path) <= MAX_PATH_LENGTH
    if origin is None or not origin.startswith(("http://", "https://")) or not is_plain:
        takes = (
            "an http(s) URL such as https://usher.example or https://example.org/usher; its path "
            f"has at most {MAX_PATH_LENGTH} letters, digits and . _ ~ - between single slashes, no "
            "segment . or .., and nothing percent-encoded; no user, query or fragment"
        )
        raise BadValue(takes, _shown(text) if "@" in text else None)
    return origin + path


def origins(text: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for part in items(text):
        origin = parse_origin(part.removesuffix("/"))
        if origin is None:
            apps = ", ".join(sorted(APP_SCHEMES))
            takes = (
                "origins such as https://app.example, separated by commas; never * or null, "
                f"no path (schemes: http, https, {apps})"
            )
            raise BadValue(takes, _shown(text) if "@" in text else repr(part))
        found[origin] = None
    return tuple(found)


def email_domains(text: str) -> tuple[str, ...]:
    """EMAIL_DOMAINS: as they stand in normalised addresses (IDNA)."""
    found: dict[str, None] = {}
    for part in items(text):
        try:
            domain = part.lower().removeprefix("@").encode("idna").decode()
        except UnicodeError:
            domain = ""
        if not is_host_name(domain):
            raise BadValue("domains such as example.org, separated by commas", repr(part))
        found[domain] = None
    return tuple(found)


def audiences(text: str) -> tuple[str, ...]:
    """APP_AUDIENCES: values of `aud` in app tokens. "usher" is reserved for access tokens."""
    found: dict[str, None] = {}
    for part in items(text):
        if _AUDIENCE.fullmatch(part) is None or part == "usher":
            takes = "names or URLs of backends (letters, digits, . _ : / ~ -), but not usher"
            raise BadValue(takes, repr(part))
        found[part] = None
    return tuple(found)


def native_redirect_uris(text: str) -> tuple[str, ...]:
    """NATIVE_REDIRECT_URIS: kept as written, because redirect URIs are compared exactly."""
    found: dict[str, None] = {}
    for part in items(text):
        match = _NATIVE_URI.fullmatch(part) if len(part) <= MAX_NATIVE_URI_LENGTH else None
        if match is None or (match["host"] and not is_host_name(match["host"])):
            takes = (
                "URIs of a private-use scheme with a dot, such as com.example.app:/callback, or "
                "https:// URLs claimed by an app, separated by commas; no query, no fragment "
                "(loopback addresses need no setting)"
            )
            raise BadValue(takes, _shown(part) if "@" in part else repr(part))
        found[part] = None
    return tuple(found)


def networks(text: str) -> tuple[IPNetwork, ...]:
    found: dict[IPNetwork, None] = {}
    for part in items(text):
        try:
            found[ipaddress.ip_network(part)] = None
        except ValueError as error:
            takes = "IP addresses or networks such as 10.0.0.0/8, separated by commas"
            raise BadValue(takes, repr(part)) from error
    return tuple(found)


def issuer(text: str) -> str:
    """An OIDC issuer: kept as written, because issuers are compared exactly."""
    takes = "an https:// URL without a query (http:// on loopback addresses only)"
    value = text.strip()
    if value.endswith(_DOCUMENT):
        raise BadValue(
            f"the issuer alone, without {_DOCUMENT}", _shown(text) if "@" in text else None
        )
    url = _split(value, takes)
    plain = not (url.query or url.fragment or "@" in url.netloc or "?" in value or "#" in value)
    https = url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or ""))
    if not (https and url.hostname and plain) or re.search(r"\s", value):
        raise BadValue(takes, _shown(text) if "@" in text or "?" in text else None)
    return value


def items(text: str) -> list[str]:
    """Split a comma-separated list and trim its items. An empty text is an empty list."""
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _distinct_secrets(parts: list[str], takes: str) -> tuple[Secret, ...]:
    if len(set(parts)) < len(parts):
        raise BadValue(takes + ", each once", f"{MASK} ({len(parts)}, one of them repeated)")
    return tuple(Secret(part) for part in parts)


def _split(text: str, takes: str, *, several: bool = False) -> SplitResult:
    """Split a URL. `several`: it may name several hosts (`a:5432,b:5432`)."""
    try:
        url = urlsplit(text.strip())
        hosts = url.netloc.rpartition("@")[2]
        for host in hosts.split(",") if several else (hosts,):
            _ = urlsplit(f"//{host}").port  # raises if the port is not a number
    except ValueError:
        # The message may quote a password; `from None` keeps it out of tracebacks.
        raise BadValue(takes, _shown(text)) from None
    if _CONTROL.search(text):
        raise BadValue(takes, _shown(text))
    return url


def _shown(text: str) -> str:
    """Mask a URL except for its scheme, as a password may be anywhere in the rest."""
    scheme = _SCHEME.match(text.strip().lower())
    if scheme is None:
        return MASK
    if scheme[0] == "sqlite" and not {"@", "?"} & set(text):
        return repr(text)
    return f"{scheme[0]}://{MASK}"
