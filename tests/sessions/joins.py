"""Joins and logouts, and the queries that they cause."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import peewee
import pytest

from models.user import User
from services.errors import Unauthenticated
from services.sessions.session_views import SignedIn
from tests.support.parts import Parts


class Queries(logging.Handler):
    """The SQL statements that Peewee executes, as it logs them itself: from `begin` on."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.count = 0

    def begin(self) -> None:
        """Count from 0. Only once the database is open, which quietens Peewee."""
        logging.getLogger("peewee").setLevel(logging.DEBUG)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


@pytest.fixture
def queries() -> Iterator[Queries]:
    logger, handler = logging.getLogger("peewee"), Queries()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.INFO)


async def join(parts: Parts, login: SignedIn) -> str:
    """A whole check of an access token; returns the name it belongs to."""
    claims = await parts.admission.claims_of(login.access_token.reveal())
    return (await parts.admission.identify(claims)).name


async def refused(parts: Parts, login: SignedIn) -> None:
    with pytest.raises(Unauthenticated):
        await join(parts, login)


async def logout(parts: Parts, login: SignedIn) -> None:
    claims = login.claims
    await parts.session_ends.end(claims.sub, claims.sid, "logout", claims.jti)


def disable(db: peewee.Database, user_id: str) -> None:
    User.update(disabled_at=1.0).where(User.id == user_id).execute(db)


def database_joins(parts: Parts, cause: str) -> float:
    return parts.count("usher_joins_by_database_total", cause=cause)
