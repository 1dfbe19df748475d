"""Readers of SMTP_URL and MAIL_FROM."""

from __future__ import annotations

import re
from email.headerregistry import Address
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from services.secret import MASK, Secret
from services.settings.origins import is_host_name, is_loopback
from services.settings.values import BadValue

TAKES_SMTP = (
    "smtp://user:password@host:587 (STARTTLS is demanded unless the host is a loopback address "
    "or ?starttls=off) or smtps://user:password@host:465"
)
TAKES_FROM = "an address such as usher@example.org, or a name with it: Example <usher@example.org>"
PORTS = (("smtp", 587), ("smtps", 465))
MAX_LENGTH = 254

Tls = Literal["none", "starttls", "implicit"]

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}")
_WITH_NAME = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class SmtpServer(msgspec.Struct, frozen=True):
    """A mail server.

    Attributes:
        username: None where it asks for none.
        tls: "starttls" demands it; "implicit" is TLS from the first byte.
    """

    host: str
    port: int
    username: Secret | None
    password: Secret | None
    tls: Tls


class Sender(msgspec.Struct, frozen=True):
    """Who mails come from. `name`: empty for APP_NAME."""

    address: str
    name: str = ""


def smtp_url(text: str) -> SmtpServer:
    """SMTP_URL."""
    url = _split(text)
    try:
        port = url.port or dict(PORTS)[url.scheme]
        options = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)))
    except (KeyError, ValueError):
        raise _bad(text) from None
    host = url.hostname or ""
    starttls = options.pop("starttls", None)
    named = is_host_name(host) or is_loopback(host) or ":" in host
    if not named or url.path.strip("/") or url.fragment or options:
        raise _bad(text)
    if starttls not in (None, "on", "off") or (starttls and url.scheme == "smtps"):
        raise _bad(text)
    if (url.username is None) != (url.password is None):
        raise BadValue(TAKES_SMTP + "; a user and a password, or neither", _shown(text))
    tls: Tls = "implicit"
    if url.scheme == "smtp":
        demanded = starttls == "on" or (starttls is None and not is_loopback(host))
        tls = "starttls" if demanded else "none"
    return SmtpServer(host, port, _secret(url.username), _secret(url.password), tls)


def mail_from(text: str) -> Sender:
    """MAIL_FROM."""
    match = _WITH_NAME.fullmatch(text.strip())
    name = " ".join(match["name"].strip().strip('"').split()) if match else ""
    address = match["address"].strip() if match else text.strip()
    bad = _CONTROL.search(text) or not name.isprintable() or len(address) > MAX_LENGTH
    domain = address.rpartition("@")[2]
    if bad or not _ADDRESS.fullmatch(address) or not is_host_name(domain.lower()):
        raise BadValue(TAKES_FROM)
    try:
        Address(name, addr_spec=address)
    except ValueError:
        raise BadValue(TAKES_FROM) from None
    return Sender(address, name)


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text.strip())
        _ = url.port  # raises for a port that is no number
    except ValueError:
        raise _bad(text) from None
    if _CONTROL.search(text) or url.scheme not in dict(PORTS):
        raise _bad(text)
    return url


def _secret(part: str | None) -> Secret | None:
    return None if part is None else Secret(unquote(part))


def _bad(text: str) -> BadValue:
    return BadValue(TAKES_SMTP, _shown(text))


def _shown(text: str) -> str:
    """Only the scheme: a password can stand anywhere behind it."""
    scheme = text.strip().lower().partition(":")[0]
    return f"{scheme}://{MASK}" if scheme in dict(PORTS) else MASK
