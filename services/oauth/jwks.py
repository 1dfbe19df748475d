"""The public keys of a provider: JWKS (RFC 7517), cached for as long as the provider allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jwt import PyJWK, PyJWKClient, PyJWKSet
from jwt.exceptions import PyJWTError
from jwt.jwk_set_cache import JWKSetCache

from services.oauth.discovery import is_issuer, lifetime
from services.oauth.errors import ProviderUnavailable
from services.oauth.fetches import Fetches
from services.oauth.http import get_json

KEY_TYPES = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "ES256": "EC",
    "ES384": "EC",
    "ES512": "EC",
    "EdDSA": "OKP",
}
"""The accepted algorithms and their key types. Without `none` and HMAC, as a public key must never
be used as a shared secret (RFC 8725 sections 3.1 and 3.2)."""
_MALFORMED_KEY_ERRORS = (PyJWTError, ValueError, TypeError, AttributeError, KeyError, OverflowError)
"""Exceptions that PyJWT raises for keys with members of wrong types."""


class ProviderKeys(PyJWKClient):
    """The JWKS of one provider: PyJWT's client over calls that are limited in time and size.

    Blocks, so it runs in a worker thread.
    """

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(uri, cooldown_duration=0)
        self._fetches = Fetches(clock)
        self._issuers: dict[object, object] = {}

    def fetch_data(self) -> Any:
        """Fetch the key set, and cache it for the lifetime that the response gives."""
        document, headers = get_json(self.uri)
        # Parsed before the cache is replaced, so that an invalid set does not discard known keys.
        found = PyJWKSet.from_dict(self._as_jwk_set_payload(document))
        self._issuers = {
            row["kid"]: row["issuer"]
            for row in document["keys"]
            if isinstance(row, dict) and isinstance(row.get("kid"), str) and "issuer" in row
        }
        self.jwk_set_cache = JWKSetCache(lifetime(headers))
        return found

    def candidates(self, kid: object, algorithm: str, unauthenticated: bool) -> list[PyJWK]:
        """The keys that a token may have been signed with.

        An unknown `kid` causes a fetch, so rotated keys are found.

        Args:
            kid: `kid` of the token's header, None if it has none (OIDC Core section 10.1).
            algorithm: `alg` of the token's header, one of KEY_TYPES.
            unauthenticated: whether the token came from an unauthenticated caller.

        Raises:
            ProviderUnavailable: the keys can't be fetched, or are invalid.
        """
        failed = self._fetches.failed
        with self._fetches.lock:
            known = self._known()
            found = [] if known is None else _fitting(known, kid, algorithm)
            if found:
                return found
            if self._fetches.allowed(unauthenticated):
                return _fitting(self._fetches.make(self._renewed, failed), kid, algorithm)
            if known is None:
                raise ProviderUnavailable("keys: fetched for an anonymous caller just now")
            return []

    def renewed(self, tried: list[PyJWK], algorithm: str, unauthenticated: bool) -> list[PyJWK]:
        """Fetch the keys again, for a token without a `kid` that none of the `tried` keys matched.

        Arguments and errors are those of `candidates`.

        Returns:
            The keys that are not among those tried.
        """
        failed = self._fetches.failed
        with self._fetches.lock:
            if not self._fetches.allowed(unauthenticated):
                return []
            found = _fitting(self._fetches.make(self._renewed, failed), None, algorithm)
        known = [key.key for key in tried]
        return [key for key in found if key.key not in known]

    def may_sign_for(self, key: PyJWK, issuer: str, tenant: object) -> bool:
        """Whether a key may sign tokens of this issuer.

        Microsoft's tenants share one key set, in which some keys are marked as those of one issuer.
        In 2023, a stolen key for consumer accounts was used to sign tokens of organisations
        (Storm-0558).
        """
        named = self._issuers.get(key.key_id)
        return named is None or (isinstance(named, str) and is_issuer(named, issuer, tenant))

    def prefetch(self) -> None:
        """Fetch the keys if they are not cached, so that a check soon after needs no call.

        Raises:
            ProviderUnavailable: as `candidates`.
        """
        failed = self._fetches.failed
        with self._fetches.lock:
            if self._known() is None:
                self._fetches.make(self._renewed, failed)

    def _known(self) -> list[PyJWK] | None:
        found = None if self.jwk_set_cache is None else self.jwk_set_cache.get()
        return None if found is None else found.keys

    def _renewed(self) -> list[PyJWK]:
        try:
            return self.get_jwk_set(refresh=True).keys
        except _MALFORMED_KEY_ERRORS as error:
            raise ProviderUnavailable(f"keys: {type(error).__name__}") from error


def _fitting(keys: list[PyJWK], kid: object, algorithm: str) -> list[PyJWK]:
    return [
        key
        for key in keys
        if key.key_type == KEY_TYPES[algorithm]
        and key.public_key_use in ("sig", None)
        and (kid is None or key.key_id == kid)
    ]
