"""Token introspection for backends (RFC 7662).

The result is the same as for a join: tokens of revoked sessions and disabled users are not active,
at once and on every node. A usual call costs one round trip to Redis and no query.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from services.backends.app_tokens import AppTokens
from services.claims import Acr, Claims, Role
from services.errors import Unauthenticated
from services.sessions.admission import Admission
from services.sessions.tokens import Tokens

_HS256_LENGTH = 43
"""Characters of the signature of an access token; that of an app token is twice as long."""


class Introspected(msgspec.Struct, frozen=True, omit_defaults=True):
    """An introspection response (RFC 7662 section 2.2). Only `active` is set for an inactive token.
    Times are epoch seconds.

    Attributes:
        sub: user id.
        sid: login session id.
        auth_time: when the user last proved who they are.
        acr: by how many factors.
    """

    active: bool
    sub: str | msgspec.UnsetType = msgspec.UNSET
    sid: str | msgspec.UnsetType = msgspec.UNSET
    role: Role | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    exp: float | msgspec.UnsetType = msgspec.UNSET
    iat: float | msgspec.UnsetType = msgspec.UNSET
    iss: str | msgspec.UnsetType = msgspec.UNSET
    aud: str | msgspec.UnsetType = msgspec.UNSET
    token_type: Literal["Bearer"] | msgspec.UnsetType = msgspec.UNSET
    auth_time: float | msgspec.UnsetType = msgspec.UNSET
    acr: Acr | msgspec.UnsetType = msgspec.UNSET


INACTIVE = Introspected(False)


class Introspection:
    """Introspects access tokens and app tokens. Tickets are not active, and are not used up."""

    def __init__(self, admission: Admission, tokens: Tokens, app_tokens: AppTokens) -> None:
        self._admission, self._tokens, self._app_tokens = admission, tokens, app_tokens

    async def look(self, token: str) -> Introspected:
        """Introspect a token.

        Raises:
            Unavailable: both Redis and the database are unavailable.
        """
        try:
            claims, audience = await self._verified(token)
            identity = await self._admission.identify(claims)
        except Unauthenticated:
            return INACTIVE
        return Introspected(
            active=True,
            sub=claims.sub,
            sid=claims.sid,
            role=claims.role,
            name=identity.name,
            exp=claims.exp,
            iat=claims.iat,
            iss=self._tokens.issuer,
            aud=audience,
            token_type="Bearer",  # noqa: S106 - no password
            auth_time=claims.auth_time,
            acr=claims.acr,
        )

    async def _verified(self, token: str) -> tuple[Claims, str]:
        if len(token) - token.rfind(".") - 1 == _HS256_LENGTH:
            return self._admission.verify(token), self._tokens.audience
        return await self._app_tokens.verify(token)
