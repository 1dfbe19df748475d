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
"""Lifetime of a document without `Cache-Control: max-age`."""
MIN_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS = 60.0, 86_400.0
TENANT = "{tenantid}"
"""Placeholder in the issuer of Microsoft's multi-tenant metadata."""
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})")
_NOT_CACHEABLE = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?:$|[,\s])")


class Metadata(msgspec.Struct, frozen=True):
    """A provider's endpoints and capabilities.

    Attributes:
        issuer: exact `iss` of its tokens; may contain `{tenantid}` (Microsoft).
        jwks_uri: empty if there are no ID tokens (GitHub).
        revocation_endpoint_auth_methods_supported: empty if the metadata have no such member.
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
        """The client authentication method for the token endpoint.

        Args:
            chosen: the method in the settings, if any. A client is registered for one method (RFC
                7591 section 2), which the metadata do not give if they list several.
        """
        return chosen or _preferred(self.token_endpoint_auth_methods_supported)

    def revocation_auth(self, chosen: ClientAuth | None) -> ClientAuth:
        """The method for the revocation endpoint, for which metadata may have a separate list (RFC
        8414)."""
        method = self.token_auth(chosen)
        own = self.revocation_endpoint_auth_methods_supported
        return method if not own or f"client_secret_{method}" in own else _preferred(own)

    def accepts_issuer(self, issuer: str, tenant: object) -> bool:
        """Whether a token with this `iss` was issued by this provider.

        Args:
            tenant: the token's `tid`, which replaces `{tenantid}`.
        """
        return is_issuer(self.issuer, issuer, tenant)


def _preferred(offered: tuple[str, ...]) -> ClientAuth:
    # `client_secret_basic` is the default of client registration (RFC 7591 section 2).
    if "client_secret_post" in offered and "client_secret_basic" not in offered:
        return "post"
    return "basic"


def is_issuer(expected: str, issuer: str, tenant: object) -> bool:
    """Whether an issuer is the expected one, which may contain `{tenantid}`."""
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
_REQUIRED_ENDPOINTS = frozenset(("authorization_endpoint", "token_endpoint", "jwks_uri"))


class Discovery:
    """Fetches and caches the metadata of one provider. Blocks, so it runs in a worker thread.

    Args:
        issuer: the issuer in the settings.
        expected: the `issuer` that the document must have. It differs only for Microsoft.
        url: URL of the document, if it cannot be derived from the issuer (Azure B2C).
        clock: monotonic seconds.
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
        """The cached metadata, however old, or None. Does not block."""
        return self._known

    def metadata(self, unauthenticated: bool = False) -> Metadata:
        """The metadata, from the cache if it is fresh.

        Args:
            unauthenticated: whether an unauthenticated caller caused this. Such fetches are
                rate-limited, and a stale cache is used meanwhile.

        Raises:
            ProviderUnavailable: the metadata can't be fetched, or are invalid.
        """
        failed = self._fetches.failed
        with self._fetches.lock:  # one fetch for all callers that wait
            known = self._known
            if known is not None and self._clock() < self._until:
                return known
            if not self._fetches.allowed(unauthenticated):
                if known is None:
                    raise ProviderUnavailable("discovery: fetched for an anonymous caller just now")
                return known
            return self._fetches.make(self._fetch, failed)

    def fetch(self) -> Metadata:
        """The metadata as they are now, whatever the cache holds.

        Raises:
            ProviderUnavailable: as `metadata`; the cache stays as it is.
        """
        failed = self._fetches.failed
        with self._fetches.lock:
            return self._fetches.make(self._fetch, failed)

    def _fetch(self) -> Metadata:
        document, headers = get_json(self._url)
        self._known = read_metadata(document, self._expected)
        self._until = self._clock() + lifetime(headers)
        return self._known


def lifetime(headers: Mapping[str, str]) -> float:
    """Seconds that a response may be cached (RFC 9111 section 5.2.2), within bounds."""
    cache_control = headers.get("Cache-Control", "").lower()
    found = _MAX_AGE.search(cache_control)
    seconds = float(found[1]) if found else LIFETIME_SECONDS
    if _NOT_CACHEABLE.search(cache_control):
        seconds = 0.0
    return min(max(seconds, MIN_LIFETIME_SECONDS), MAX_LIFETIME_SECONDS)


def read_metadata(document: object, expected: str) -> Metadata:
    """Parse and check a discovery document.

    Raises:
        ProviderUnavailable: its issuer is not the expected one (OIDC Discovery section 4.3), an
            endpoint is missing or not safe, or a member has the wrong type.
    """
    try:
        found = msgspec.convert(_without_nulls(document), Metadata)
    except msgspec.ValidationError as error:
        raise ProviderUnavailable(f"discovery: {error}") from error
    if found.issuer != expected:
        named = found.issuer[:100] if found.issuer.isprintable() else "another"
        raise ProviderUnavailable(f"discovery: the document of another issuer: {named}")
    for name in _ENDPOINTS:
        url = getattr(found, name)
        if not _is_allowed_endpoint(url, expected) and (url or name in _REQUIRED_ENDPOINTS):
            raise ProviderUnavailable(f"discovery: {name} is missing or not a safe URL")
    return found


def _is_allowed_endpoint(url: str, issuer: str) -> bool:
    # Metadata of a remote issuer must not make Usher call a local service (SSRF).
    local = urlsplit(issuer).scheme == "http"
    return is_safe_url(url) and (local or urlsplit(url).scheme == "https")


def _without_nulls(document: object) -> object:
    # Some providers write null for members that they do not have.
    if not isinstance(document, dict):
        return document
    return {name: value for name, value in document.items() if value is not None}
