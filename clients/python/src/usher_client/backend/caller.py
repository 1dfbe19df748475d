"""The caller of a backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from usher_client.wire import number


@dataclass(frozen=True)
class Caller:
    """A signed-in user.

    Args:
        id: the id of the user.
        session_id: the id of the login session; webhooks have it when the session ends.
        auth_time: the time of the last authentication, epoch seconds.
        acr: "1" for one factor, "2" for two factors or a passkey with user verification.
        expires_at: the expiry of the token, epoch seconds.
        claims: all claims of the token, or of the introspection response.
    """

    id: str
    session_id: str
    name: str
    role: str
    auth_time: float
    acr: str
    expires_at: float
    claims: Mapping[str, Any] = field(repr=False, compare=False)


class Checks(Protocol):
    """The interface of Introspection and AppTokens."""

    async def check(self, token: str) -> Caller | None:
        """The caller; None if the token is not valid.

        Raises:
            Unavailable, Unreachable: it cannot be determined now.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def caller(claims: Mapping[str, Any]) -> Caller | None:
    """The user of claims; None if they name none."""
    text = {name: value for name, value in claims.items() if isinstance(value, str)}
    if not text.get("sub"):
        return None
    return Caller(
        id=text["sub"],
        session_id=text.get("sid", ""),
        name=text.get("name", ""),
        role=text.get("role", ""),
        auth_time=number(claims.get("auth_time")) or 0.0,
        acr=text.get("acr", ""),
        expires_at=number(claims.get("exp")) or 0.0,
        claims=claims,
    )


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization` header; None if it has none."""
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token else None
