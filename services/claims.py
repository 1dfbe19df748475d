"""The claims of a verified access token, and their limits; and how a user authenticated."""

from __future__ import annotations

from typing import Literal

import msgspec

Role = Literal["user", "admin"]
Acr = Literal["1", "2"]
"""Authentication context class: "1" for one factor, "2" for two (RFC 9470 section 3)."""

MIN_SECRET_BYTES = 32
"""Of a secret that signs: as long as the hash of HS256 (RFC 7518 section 3.2)."""

MAX_TTL_SECONDS = 86_400
"""One day: the longest life of any access token, whatever a signature says."""


class Claims(msgspec.Struct, frozen=True, gc=False):
    """The claims of one access token (RFC 7519 section 4.1, RFC 9068 section 2.2).

    Attributes:
        sub: user id.
        sid: login session id.
        jti: id of this one token.
        iat: issued at, epoch seconds with fractions.
        exp: expires at, epoch seconds with fractions; the token is invalid from this instant.
        role: the user's role when the token was issued.
        auth_time: when the user last authenticated, epoch seconds; 0 if that is not known, in
            tokens issued before version 1.1.
        acr: the number of factors of that authentication.
    """

    sub: str
    sid: str
    jti: str
    iat: float
    exp: float
    role: Role
    auth_time: float = 0.0
    acr: Acr = "1"


class Proof(msgspec.Struct, frozen=True):
    """How a user authenticated.

    Attributes:
        acr: by how many factors.
        at: when, epoch seconds; None for just now.
        epoch: of the clock (services/step_up/freshness.py); None for the current one.
    """

    acr: Acr = "1"
    at: float | None = None
    epoch: int | None = None
