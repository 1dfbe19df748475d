"""Provider metadata: OIDC Discovery 1.0 section 3 (RFC 8414), or fixed values for GitHub.

Metadata is cached for as long as the provider allows, within bounds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from services.oauth.errors import ProviderUnavailable
from services.oauth.fetches import Fetches
from services.oauth.http import get_json, is_safe_url
from services.settings.providers import ClientAuth

LIFETIME_SECONDS = 3600.0
"""Where the provider does not say how long a document is good."""
LEAST_LIFETIME_SECONDS, MOST_LIFETIME_SECONDS = 60.0, 86_400.0
TENANT = "{tenantid}"
"""Stands in the issuer of Microsoft's metadata for many tenants."""
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})")
_NOT_KEPT = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?:$|[,\s])")


class Metadata(msgspec.Struct, frozen=True):
    """Where a provider's endpoints are and what they can do.

    Attributes:
        issuer: `iss` of its tokens, to the letter; may hold `{tenantid}` (Microsoft).
        jwks_uri: empty where there are no ID tokens (GitHub).
        revocation_endpoint_auth_methods_supported: empty where it says none of its own.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str = ""
    userinfo_endpoint: str = ""
    revocation_endpoint: str = ""
    end_session_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    revocation_endpoint_auth_methods_supported: tuple[str, ...] = ()
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)
    userinfo_signing_alg_values_supported: tuple[str, ...] = ()
    authorization_response_iss_parameter_supported: bool = False

    def token_auth(self, chosen: ClientAuth | None) -> ClientAuth:
        """How to show the secret at the token endpoint.

        Args:
            chosen: by the settings, if anything. A client is registered for one method
                (RFC 7591 section 2), which the metadata do not tell where several are offered.
        """
        return chosen or _preferred(self.token_endpoint_auth_methods_supported)

    def revocation_auth(self, chosen: ClientAuth | None) -> ClientAuth:
        """The same at the revocation endpoint, which may have a list of its own (RFC 8414)."""
        method = self.token_auth(chosen)
        own = self.revocation_endpoint_auth_methods_supported
        return method if not own or f"client_secret_{method}" in own else _preferred(own)

    def takes_issuer(self, issuer: str, tenant: object) -> bool:
        """Whether a token of this `iss` is this provider's.

        Args:
            tenant: the token's `tid`, which stands in the place of `{tenantid}`.
        """
        return is_issuer(self.issuer, issuer, tenant)


def _preferred(offered: tuple[str, ...]) -> ClientAuth:
    # What a client is registered for where nobody says anything (RFC 7591 section 2).
    if "client_secret_post" in offered and "client_secret_basic" not in offered:
        return "post"
    return "basic"


def is_issuer(expected: str, issuer: str, tenant: object) -> bool:
    """Whether an issuer is the expected one, which may have a place for the tenant."""
    if TENANT not in expected:
        return issuer == expected
    named = isinstance(tenant, str) and _GUID.fullmatch(tenant)
    return bool(named) and issuer == expected.replace(TENANT, str(tenant))


_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "revocation_endpoint",
    "end_session_endpoint",
)
_NEEDED = frozenset(("authorization_endpoint", "token_endpoint", "jwks_uri"))


class Discovery:
    """The metadata of one provider, fetched when they are wanted. Blocks: for a worker thread.

    Args:
        issuer: as in the settings.
        expected: the `issuer` that its document has to name; the same, save for Microsoft.
        url: of the document, where it does not lie where the issuer says (Azure B2C).
    """

    def __init__(
        self,
        issuer: str,
        expected: str,
        url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer, self._expected, self._clock = issuer, expected, clock
        self._url = url or issuer.rstrip("/") + "/.well-known/openid-configuration"
        self._fetches = Fetches(clock)
        self._known: Metadata | None = None
        self._until = 0.0

    def known(self) -> Metadata | None:
        """What is known already, however old. Does not block."""
        return self._known

    def metadata(self, unauthenticated: bool = False) -> Metadata:
        """What is known, fetched anew when it is too old.

        Args:
            unauthenticated: whether anybody may have caused this: then what is known does for
                longer, and what is not is asked for seldom.

        Raises:
            ProviderUnavailable: it can't be fetched, or is of no use.
        """
        failed = self._fetches.failed
        with self._fetches.lock:  # one call for all who wait
            known = self._known
            if known is not None and self._clock() < self._until:
                return known
            if not self._fetches.allowed(unauthenticated):
                if known is None:
                    raise ProviderUnavailable("discovery: fetched for an anonymous caller just now")
                return known
            return self._fetches.make(self._fetch, failed)

    def _fetch(self) -> Metadata:
        document, headers = get_json(self._url)
        self._known = read_metadata(document, self._expected)
        self._until = self._clock() + lifetime(headers)
        return self._known


def lifetime(headers: Mapping[str, str]) -> float:
    """Seconds that an answer may be kept (RFC 9111 section 5.2.2), within bounds."""
    says = headers.get("Cache-Control", "").lower()
    found = _MAX_AGE.search(says)
    seconds = float(found[1]) if found else LIFETIME_SECONDS
    if _NOT_KEPT.search(says):
        seconds = 0.0
    return min(max(seconds, LEAST_LIFETIME_SECONDS), MOST_LIFETIME_SECONDS)


def read_metadata(document: object, expected: str) -> Metadata:
    """The metadata in a discovery document, if they can be trusted.

    Raises:
        ProviderUnavailable: another issuer's (OIDC Discovery section 4.3: a mix-up), an endpoint
            is missing or not safe, or a member is of a wrong type.
    """
    try:
        found = msgspec.convert(_present(document), Metadata)
    except msgspec.ValidationError as error:
        raise ProviderUnavailable(f"discovery: {error}") from error
    if found.issuer != expected:
        named = found.issuer[:100] if found.issuer.isprintable() else "another"
        raise ProviderUnavailable(f"discovery: the document of another issuer: {named}")
    for name in _ENDPOINTS:
        url = getattr(found, name)
        if not _may_be_called(url, expected) and (url or name in _NEEDED):
            raise ProviderUnavailable(f"discovery: {name} is missing or no safe URL")
    return found


def _may_be_called(url: str, issuer: str) -> bool:
    # An issuer elsewhere has no business on this machine: it would have us ask what listens here.
    local = urlsplit(issuer).scheme == "http"
    return is_safe_url(url) and (local or urlsplit(url).scheme == "https")


def _present(document: object) -> object:
    # Some providers write null for what they do not have.
    if not isinstance(document, dict):
        return document
    return {name: value for name, value in document.items() if value is not None}
