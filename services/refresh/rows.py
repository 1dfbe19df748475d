"""The statements of a refresh. Their SQL is built once, because refreshes come in bursts.

A node that stops sends all its clients to the others, each of which refreshes its tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import peewee

from models.installation import Installation
from models.login_session import LoginSession, RefreshToken
from models.user import User
from services.refresh.steps import TICK_KEY, Moment, SessionStep, TokenStep, Used
from services.sessions.session_views import Account
from services.storage.row_locks import locked
from services.storage.statements import Statement


class Alive(NamedTuple):
    """A login session that its refresh tokens may be used for.

    Attributes:
        expires_at: epoch seconds.
        auth_time, acr, auth_epoch: how its user last authenticated.
    """

    id: str
    expires_at: float
    auth_time: float
    acr: str
    auth_epoch: int


class Presented(NamedTuple):
    """What the database knows of a refresh token, behind its session's lock.

    Attributes:
        expires_at: of the token, epoch seconds.
        is_over: the account is disabled, or all of its sessions were ended.
        tick: of the counter in steps.py.
    """

    token: TokenStep
    expires_at: float
    session: SessionStep
    alive: Alive
    account: Account
    is_over: bool
    tick: int


class RefreshRows:
    """Reads and changes the rows of a refresh, within the caller's transaction."""

    def __init__(self) -> None:
        self._lock = Statement(_lock, 1)
        self._read = Statement(_read, 2)
        self._use = Statement(_use, 3)
        self._advance = Statement(_advance, 5)
        self._seen = Statement(_seen, 2)

    def lock(self, db: peewee.Database, hash_: str, now: float) -> str | None:
        """Lock the session of a refresh token. Returns why the token can't be used, or None.

        Args:
            now: epoch seconds.
        """
        row = self._lock.row(db, hash_)
        if row is None:
            return "unknown token"
        ended_at, expires_at = row
        return "login session is over" if ended_at is not None or expires_at <= now else None

    def read(self, db: peewee.Database, hash_: str) -> Presented | None:
        """The token, its session and its user, in a statement of its own that begins when the
        session is locked: of racing tabs only one finds the token unused."""
        row = self._read.row(db, hash_, TICK_KEY)
        if row is None:
            return None
        used_at, used_tick, step, replaced, expires_at = row[:5]
        sid, session_expires_at, generation, newest, step_at, step_tick = row[5:11]
        auth_time, created_at, acr, auth_epoch = row[11:15]
        account, disabled_at, tick = Account._make(row[15:22]), row[22], row[23]
        return Presented(
            TokenStep(hash_, step, Moment(used_at, used_tick), bool(replaced)),
            expires_at,
            SessionStep(sid, newest, Moment(step_at, step_tick)),
            Alive(
                sid,
                session_expires_at,
                created_at if auth_time is None else auth_time,
                acr,
                auth_epoch,
            ),
            account,
            disabled_at is not None or generation != account.generation,
            0 if tick is None else int(tick),
        )

    def record(
        self, db: peewee.Database, presented: Presented, used: Used, moment: Moment, now: float
    ) -> None:
        """Record that a token was used, and its session seen.

        Args:
            now: epoch seconds.
        """
        if used.is_first:
            self._use.run(db, moment.at, moment.tick, presented.token.hash)
        sid = presented.session.id
        if used.is_newest_step:
            self._advance.run(db, presented.token.step, moment.at, moment.tick, now, sid)
        else:
            self._seen.run(db, now, sid)


def _lock(db: peewee.Database, hash_: Any) -> Any:
    # Not a join, where a lock would not keep the other tables' rows from being read too early.
    of_token = RefreshToken.select(RefreshToken.session).where(RefreshToken.hash == hash_)
    query: Any = LoginSession.select(LoginSession.ended_at, LoginSession.expires_at)
    return locked(query.where(LoginSession.id == of_token), db)


def _read(_: peewee.Database, hash_: Any, tick_key: Any) -> Any:
    query: Any = RefreshToken.select(
        RefreshToken.rotated_at,
        RefreshToken.rotated_tick,
        RefreshToken.step,
        RefreshToken.replaced,
        RefreshToken.expires_at,
        LoginSession.id,
        LoginSession.expires_at,
        LoginSession.generation,
        LoginSession.step,
        LoginSession.step_at,
        LoginSession.step_tick,
        LoginSession.auth_time,
        LoginSession.created_at,
        LoginSession.acr,
        LoginSession.auth_epoch,
        User.id,
        User.email,
        User.name,
        User.role,
        User.generation,
        peewee.fn.COALESCE(User.role_since, User.created_at),
        User.created_at,
        User.disabled_at,
        Installation.value,
    )
    return (
        query.join(LoginSession)
        .join(User)
        .join(Installation, peewee.JOIN.LEFT_OUTER, on=Installation.key == tick_key)
        .where(RefreshToken.hash == hash_)
    )


def _use(_: peewee.Database, at: Any, tick: Any, hash_: Any) -> Any:
    used = {RefreshToken.rotated_at: at, RefreshToken.rotated_tick: tick}
    return RefreshToken.update(used).where(RefreshToken.hash == hash_)


def _advance(_: peewee.Database, step: Any, at: Any, tick: Any, now: Any, sid: Any) -> Any:
    change = {
        LoginSession.step: step,
        LoginSession.step_at: at,
        LoginSession.step_tick: tick,
        LoginSession.last_seen_at: now,
    }
    return LoginSession.update(change).where(LoginSession.id == sid)


def _seen(_: peewee.Database, now: Any, sid: Any) -> Any:
    return LoginSession.update({LoginSession.last_seen_at: now}).where(LoginSession.id == sid)
