"""Users of one installation, on one node or two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import peewee

from models.login_session import LoginSession, RefreshToken
from models.user import User
from services.sessions.session_views import SignedIn
from tests.support.parts import DEVICE, Parts, node

PASSWORD, OTHER, THIRD = "a quiet heron at dusk 7", "brass lantern under 9 oaks", "tin 4 moss ruin"


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        yield here, there


async def sign_up(parts: Parts, email: str = "ada@example.org", name: str = "Ada") -> SignedIn:
    return await parts.accounts.sign_up(email, PASSWORD, name, DEVICE)


async def log_in(parts: Parts, email: str, password: str = PASSWORD) -> SignedIn:
    return await parts.accounts.log_in(email, password, DEVICE)


def users(db: peewee.Database) -> list[dict[str, Any]]:
    query: Any = User.select().order_by(User.id).dicts()
    return list(query.execute(db))


def set_user(db: peewee.Database, user_id: str, values: dict[str, Any]) -> None:
    User.update(values).where(User.id == user_id).execute(db)


def counted(db: peewee.Database) -> tuple[int, int, int]:
    sessions = LoginSession.select(LoginSession.id).execute(db)
    tokens = RefreshToken.select(RefreshToken.hash).execute(db)
    return len(users(db)), len(list(sessions)), len(list(tokens))


async def admins(parts: Parts) -> list[str]:
    found = await parts.database.run(users)
    return [u["id"] for u in found if u["role"] == "admin" and u["disabled_at"] is None]
