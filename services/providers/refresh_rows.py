"""Rows of provider tokens that are due for a refresh, and who refreshes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peewee

from models.login_session import LoginSession
from models.oauth_token import OAuthToken
from services.providers.tokens import TokenSet, active

CLAIM_SECONDS = 40.0
"""A call begins within 16 s or never, and sends nothing 8 s later (services/oauth/calls.py,
http.py): so the clocks of nodes may be 16 s apart. A node that dies holds a row so long."""
KEEP_BATCH = 50
SEEN_SECONDS = 86_400.0
"""Token sets of login sessions unused for longer are refreshed only when they are requested."""


def due(
    db: peewee.Database, provider: str, after: tuple[float, str], clock: Callable[[], float]
) -> list[tuple[float, str]]:
    """The next sets of a provider that should be refreshed: when they are due, and their ids.

    Args:
        after: the last of those before, or `(0.0, "")`.
        clock: epoch seconds.
    """
    now = clock()
    due_at, last_id = after
    behind = (OAuthToken.refresh_at == due_at) & (OAuthToken.id > last_id)
    query: Any = (
        active(now)
        .select(OAuthToken.refresh_at, OAuthToken.id)
        .where(
            (OAuthToken.provider == provider)
            & OAuthToken.refresh_token.is_null(False)
            & (OAuthToken.refresh_at <= now)
            & ((OAuthToken.refresh_at > due_at) | behind)
            & (OAuthToken.try_at.is_null() | (OAuthToken.try_at <= now))
            & (OAuthToken.claimed_until.is_null() | (OAuthToken.claimed_until <= now))
            & (LoginSession.last_seen_at > now - SEEN_SECONDS)
        )
        .order_by(OAuthToken.refresh_at, OAuthToken.id)
        .limit(KEEP_BATCH)
    )
    return [(refresh_at, id_) for refresh_at, id_ in query.tuples().execute(db)]


def claim(db: peewee.Database, tokens: TokenSet, clock: Callable[[], float]) -> float | None:
    """Claim a set. Returns until when; None if another node has claimed or refreshed it.

    Args:
        clock: epoch seconds. It is read here, because the transaction may have waited.
    """
    now = clock()
    until = now + CLAIM_SECONDS
    free = OAuthToken.claimed_until.is_null() | (OAuthToken.claimed_until <= now)
    change = {OAuthToken.claimed_until: until}
    done = OAuthToken.update(change).where(same(tokens) & free).execute(db)
    return until if done else None


def same(tokens: TokenSet) -> peewee.Expression:
    """The condition that a set was not refreshed since it was read."""
    return (OAuthToken.id == tokens.id) & (OAuthToken.version == tokens.version)
