"""Login sessions of one installation: refreshed, refused, ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from models.login_session import LoginSession, RefreshToken
from models.revocation import Revocation as RevocationRow
from models.user import User
from services.errors import Unauthenticated
from services.sessions.session_views import SignedIn
from tests.support.parts import Parts, node


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    """Two nodes on one database, so that their transactions really meet."""
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        yield here, there


def set_user(db: peewee.Database, user_id: str, values: dict[str, Any]) -> None:
    User.update(values).where(User.id == user_id).execute(db)


def everything(db: peewee.Database) -> str:
    """All that lies in the tables, as one text."""
    tables = (User, LoginSession, RefreshToken, RevocationRow)
    return repr([list(table.select().tuples().execute(db)) for table in tables])


def reasons(db: peewee.Database) -> list[str]:
    return [row.reason for row in RevocationRow.select().order_by(RevocationRow.id).execute(db)]


async def refresh(parts: Parts, signed_in: SignedIn) -> SignedIn:
    return await parts.refresh.rotation.refresh(signed_in.refresh_token.reveal())


async def refuses(parts: Parts, signed_in: SignedIn) -> None:
    with pytest.raises(Unauthenticated):
        await refresh(parts, signed_in)


async def end(parts: Parts, signed_in: SignedIn) -> None:
    claims = signed_in.claims
    await parts.session_ends.end(claims.sub, claims.sid, "logout", claims.jti)
