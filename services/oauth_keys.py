"""The public keys of a provider: JWKS (RFC 7517), kept for as long as it says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jwt import PyJWK, PyJWKClient
from jwt.exceptions import PyJWTError
from jwt.jwk_set_cache import JWKSetCache

from services.oauth_errors import ProviderUnavailable
from services.oauth_http import get_json
from services.oauth_metadata import lifetime

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
"""The algorithms that are taken, and the keys they are for. Neither `none` nor HMAC: a public key
must never come to serve as a shared secret (RFC 8725 sections 3.1 and 3.2)."""
STRANGERS_SECONDS = 10.0
"""How often an unknown `kid` of a token that anybody may have sent has the keys fetched anew."""


class ProviderKeys(PyJWKClient):
    """PyJWT's client, over calls that are bounded. Blocks: for a worker thread."""

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(uri, cooldown_duration=0)
        self._clock = clock
        self._asked_for_strangers = float("-inf")

    def fetch_data(self) -> Any:
        """The key set. Its lifetime is the one that the answer gives."""
        document, headers = get_json(self.uri)
        document = self._as_jwk_set_payload(document)
        self.jwk_set_cache = JWKSetCache(lifetime(headers))
        return document

    def candidates(self, kid: object, algorithm: str, from_stranger: bool) -> list[PyJWK]:
        """The keys that a token may have been signed with.

        Keys that were changed are found: an unknown `kid` has them fetched anew.

        Args:
            kid: of the token's header; None where it has none (OIDC Core section 10.1).
            algorithm: of its header, one of KEY_TYPES.
            from_stranger: whether anybody may have sent the token. Who sends many must not
                make us send as many.

        Raises:
            ProviderUnavailable: the keys can't be fetched, or there is none of use.
        """
        try:
            with self._client_lock:
                found = _fitting(self.get_jwk_set().keys, kid, algorithm)
                if not found and self._may_ask(from_stranger):
                    found = _fitting(self.get_jwk_set(refresh=True).keys, kid, algorithm)
        except PyJWTError as error:
            raise ProviderUnavailable(f"keys: {type(error).__name__}") from error
        return found

    def _may_ask(self, from_stranger: bool) -> bool:
        if from_stranger:
            if self._clock() - self._asked_for_strangers < STRANGERS_SECONDS:
                return False
            self._asked_for_strangers = self._clock()
        return True


def _fitting(keys: list[PyJWK], kid: object, algorithm: str) -> list[PyJWK]:
    return [
        key
        for key in keys
        if key.key_type == KEY_TYPES[algorithm]
        and key.public_key_use in ("sig", None)
        and (kid is None or key.key_id == kid)
    ]
