"""App tokens: short-lived JWTs for one backend of an installation, which verifies them offline.

They are signed with ES256, so that a backend needs only the public key (RFC 9068, RFC 8725). Usher
itself does not accept them for sockets or calls: access tokens have another algorithm and audience.
A backend that verifies offline accepts a token until its `exp`; introspection reports a revocation
at once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import jwt
import msgspec

from services.backends.app_keys import MAX_LIFE_SECONDS, AppKeys
from services.claims import Acr, Claims, Role
from services.errors import BadRequest, Unauthenticated
from services.secret import Secret
from services.sessions.admission import Identity
from services.sessions.tokens import CLOCK_SKEW_SECONDS, MAX_TOKEN_LENGTH, TOKEN_TYPE, TOKEN_TYPES

ALGORITHM = "ES256"
_Id = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


class AppToken(msgspec.Struct, frozen=True):
    """A new token. `expires_in`: seconds."""

    token: Secret
    expires_in: float


class _Payload(msgspec.Struct, frozen=True):
    iss: str
    aud: str
    sub: _Id
    sid: _Id
    jti: _Id
    iat: float
    exp: float
    role: Role
    auth_time: float
    acr: Acr


class AppTokens:
    """Issues and verifies app tokens.

    Args:
        issuer: `iss`, the public URL.
        audiences: APP_AUDIENCES.
    """

    def __init__(
        self,
        keys: AppKeys,
        issuer: str,
        audiences: Sequence[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self._issuer, self._clock = keys, issuer, clock
        self._audiences = frozenset(audiences)

    def issue(self, identity: Identity, audience: str) -> AppToken:
        """Issue a token for an identified user.

        Raises:
            BadRequest: the audience is not in APP_AUDIENCES.
            Unauthenticated: the login session has ended.
            Unavailable: there is no usable key pair.
        """
        if audience not in self._audiences:
            detail = "audience: one of USHER_APP_AUDIENCES is needed"
            raise BadRequest("app token: another audience", detail=detail)
        pair, claims = self._keys.signer(), identity.claims
        now = round(self._clock(), 3)
        expires_at = round(min(now + MAX_LIFE_SECONDS, identity.session_expires_at), 3)
        if expires_at <= now:
            raise Unauthenticated("no app token for a login session that is over")
        payload = {
            "iss": self._issuer,
            "aud": audience,
            "sub": claims.sub,
            "sid": claims.sid,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": expires_at,
            "role": claims.role,
            "name": identity.name,
            "auth_time": claims.auth_time,
            "acr": claims.acr,
        }
        headers = {"kid": pair.jwk.kid, "typ": TOKEN_TYPE}
        # `signer` gives none without its private half.
        text = jwt.encode(payload, pair.private, algorithm=ALGORITHM, headers=headers)  # type: ignore[arg-type]
        return AppToken(Secret(text), round(expires_at - now, 3))

    async def verify(self, token: str) -> tuple[Claims, str]:
        """Verify an app token. Returns its claims and audience.

        Raises:
            Unauthenticated: the token is invalid or expired.
            DatabaseUnavailable: its key is unknown here, and the keys cannot be read.
        """
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise Unauthenticated("app token: not one")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != ALGORITHM or str(header.get("typ")).lower() not in TOKEN_TYPES:
                raise Unauthenticated("app token: another kind of token")
            pair = await self._keys.find(str(header.get("kid")))
            if pair is None:
                raise Unauthenticated("app token: unknown kid")
            text = jwt.api_jws.decode(token, pair.public, algorithms=[ALGORITHM])
            payload = msgspec.json.decode(text, type=_Payload)
        except (jwt.PyJWTError, msgspec.DecodeError, ValueError) as error:
            raise Unauthenticated("app token: not genuine") from error
        self._check(payload)
        return _claims(payload), payload.aud

    def _check(self, payload: _Payload) -> None:
        now = self._clock()
        if payload.iss != self._issuer or payload.aud not in self._audiences:
            raise Unauthenticated("app token: another issuer or audience")
        if payload.iat > now + CLOCK_SKEW_SECONDS or now >= payload.exp:
            raise Unauthenticated("app token: expired, or not valid yet")


def _claims(p: _Payload) -> Claims:
    return Claims(p.sub, p.sid, p.jti, p.iat, p.exp, p.role, p.auth_time, p.acr)
