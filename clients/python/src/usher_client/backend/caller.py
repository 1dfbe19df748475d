"""Who calls a backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from usher_client.wire import number


@dataclass(frozen=True)
class Caller:
    """A signed-in user.

    Args:
        id: of the user.
        session_id: of the login session; webhooks name it when it ends.
        auth_time: when they last proved who they are, epoch seconds.
        acr: by how many factors: "1", or "2" for two or a user-verified passkey.
        expires_at: of the token, epoch seconds.
        claims: everything that the token, or Usher, says.
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
    """The interface of Introspection and AppTokens: checks a token."""

    async def check(self, token: str) -> Caller | None:
        """The caller; None if the token is not valid.

        Raises:
            Unavailable, Unreachable: nobody can say now.
        """
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...


def caller(claims: Mapping[str, Any]) -> Caller | None:
    """The user of claims; None where they name none."""
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
    """The token of an `Authorization` header; None where it has none."""
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token else None
