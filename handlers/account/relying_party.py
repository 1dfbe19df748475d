"""The relying party of passkeys: the domain of PUBLIC_URL, and the pages that may use it."""

from __future__ import annotations

from urllib.parse import urlsplit

from handlers.base import BaseHandler
from services.errors import NoRelyingParty
from services.factors.ceremonies import RelyingParty
from services.settings.origins import DEFAULT_PORTS, http_origin


def relying_party(handler: BaseHandler) -> RelyingParty:
    """The relying party (WebAuthn) of an installation, for a request of one of its pages.

    Raises:
        NoRelyingParty: the host of PUBLIC_URL or of the page is an IP address.
    """
    origins = handler.site.origins
    found = origins.relying_party()
    origin = handler.request.headers.get("Origin")
    if found is None or (origin is not None and origin not in found[1]):
        works = found[1][0] if found is not None else _with_a_name(origins.public_url)
        raise NoRelyingParty(
            "passkeys: requested at an IP address",
            detail=f"an address of numbers cannot have passkeys; {works} works",
        )
    return RelyingParty(found[0], handler.site.branding.name, found[1])


def _with_a_name(public_url: str) -> str:
    """The URL where passkeys would work: localhost with the same port."""
    url = urlsplit(public_url)
    port = url.port or DEFAULT_PORTS[url.scheme]
    return http_origin("localhost", port, url.scheme) + url.path
