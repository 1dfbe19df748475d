"""Creates the services of refresh tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.keyed_tokens import KeyedTokens
from services.limits.hourly import HourlyLimits
from services.refresh.keys import RefreshKeys
from services.refresh.refreshes import Refreshes
from services.refresh.rotation import RefreshRotation
from services.refresh.steps import RefreshTicks
from services.sessions.login_sessions import LoginSessions
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.storage.database import Database


@dataclass(frozen=True)
class RefreshParts:
    """The services of refresh tokens that handlers and other services may call."""

    rotation: RefreshRotation
    refreshes: Refreshes
    keys: RefreshKeys
    ticks: RefreshTicks


def join(
    database: Database,
    login_sessions: LoginSessions,
    session_ends: SessionEnds,
    revocations: Revocations,
    tokens: KeyedTokens,
    limits: HourlyLimits,
    ttl: float,
    clock: Callable[[], float] = time.time,
    steady: Callable[[], float] | None = None,
) -> RefreshParts:
    """Create and connect the services. Nothing is started.

    Args:
        ttl: seconds that a refresh token lives.
        steady: see `RefreshRotation`.
    """
    rotation = RefreshRotation(database, login_sessions, session_ends, revocations, clock, steady)
    keys = RefreshKeys(database, tokens, ttl, clock)
    return RefreshParts(
        rotation=rotation,
        refreshes=Refreshes(rotation, tokens, keys, limits, database.callers),
        keys=keys,
        ticks=RefreshTicks(database),
    )
