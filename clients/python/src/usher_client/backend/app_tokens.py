"""Verifies app tokens offline, with the server's public keys."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import jwt

from usher_client.backend.caller import Caller, caller
from usher_client.browser import same_server
from usher_client.closing import HttpOwner
from usher_client.errors import Unreachable, UsherError
from usher_client.http import Http, base_of

ALGORITHM = "ES256"
TYPE = "at+jwt"
NEEDED = ["iss", "aud", "sub", "sid", "jti", "iat", "exp"]
KEEP_SECONDS = 300.0
"""The max-age in the Cache-Control of the key set."""
AGAIN_SECONDS = 10.0
"""Minimum interval of fetches for unknown key ids, so that forged ids do not cause more."""
GRACE_SECONDS = 3600.0
"""How long cached keys are used while the key set cannot be fetched."""
MAX_TOKEN_LENGTH = 8192


class AppTokens(HttpOwner):
    """Identifies callers by app tokens. Only the keys are fetched from Usher, so a logout takes
    effect when the token expires, after at most 300 seconds.

    Args:
        url: the server.
        audience: this backend's name, one of the installation's APP_AUDIENCES.
        issuer: the server's PUBLIC_URL, if that differs from `url`.
        leeway: seconds by which this machine's clock may be wrong.
    """

    def __init__(
        self,
        url: str,
        audience: str,
        *,
        issuer: str | None = None,
        leeway: float = 10.0,
        timeout: float = 5.0,
    ) -> None:
        self._http = Http(base_of(url), timeout)
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"AppTokens({self._http.base!r}, {self._audience!r})"

    async def close(self) -> None:
        """Close the connections."""
        if self._fetching is not None:
            self._fetching.cancel()
        await super().close()

    async def check(self, token: str) -> Caller | None:
        """The caller; None if the token is not valid.

        Raises:
            Unavailable, Unreachable: the keys cannot be fetched.
        """
        kid = _kid(token)
        if kid is None:
            return None
        key = await self._key(kid)
        if key is None:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                leeway=self._leeway,
                options={"require": NEEDED, "strict_aud": True},
            )
        except jwt.PyJWTError:
            return None
        issuer = claims["iss"]
        if not isinstance(issuer, str):
            return None
        wanted = self._http.base if self._issuer is None else self._issuer
        is_ours = issuer == wanted or (self._issuer is None and same_server(issuer, wanted))
        return caller(claims) if is_ours else None

    async def _key(self, kid: str) -> jwt.PyJWK | None:
        """The key with this id. The set is fetched again if it is old. If it lacks the id, it is
        fetched again at most once in AGAIN_SECONDS.

        Raises:
            UsherError: there is no such key, and the set cannot be fetched.
        """
        now = monotonic()
        is_old = self._fetched is None or now - self._fetched > KEEP_SECONDS
        may_try = self._tried is None or now - self._tried > AGAIN_SECONDS
        if is_old or kid not in self._keys:
            if may_try or self._fetching is not None:
                await self._refetch(kid)
            elif self._fetched is None:
                raise Unreachable("the key set could not be read a moment ago")
        return self._keys.get(kid)

    async def _refetch(self, kid: str) -> None:
        if self._fetching is None:
            self._tried = monotonic()
            self._fetching = asyncio.ensure_future(self._fetch())
            self._fetching.add_done_callback(self._done)
        try:
            await asyncio.shield(self._fetching)
        except UsherError:
            recent = self._fetched is not None and monotonic() - self._fetched < GRACE_SECONDS
            if not recent or kid not in self._keys:
                raise

    def _done(self, fetching: asyncio.Task[None]) -> None:
        self._fetching = None
        if not fetching.cancelled():
            fetching.exception()

    async def _fetch(self) -> None:
        said = await self._http.call("GET", "/.well-known/jwks.json")
        listed = said.get("keys") if isinstance(said, dict) else None
        if not isinstance(listed, list):
            raise Unreachable("a response that is not a key set")
        self._keys = dict(filter(None, map(_public_key, listed)))
        self._fetched = monotonic()


def _kid(token: str) -> str | None:
    """The key id of a token that may be an app token; None for any other."""
    if not token or len(token) > MAX_TOKEN_LENGTH:
        return None
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        return None
    kid = header.get("kid")
    is_ours = header.get("alg") == ALGORITHM and header.get("typ") == TYPE
    return kid if is_ours and isinstance(kid, str) and "crit" not in header else None


def _public_key(data: Any) -> tuple[str, jwt.PyJWK] | None:
    """A key of the set; None if its type is not used for app tokens."""
    if not isinstance(data, dict) or not isinstance(data.get("kid"), str):
        return None
    if data.get("kty") != "EC" or data.get("crv") != "P-256" or data.get("use", "sig") != "sig":
        return None
    try:
        return data["kid"], jwt.PyJWK(data, algorithm=ALGORITHM)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
