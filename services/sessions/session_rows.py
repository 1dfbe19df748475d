"""Rows of login sessions: which are alive, and how they end, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import peewee

from models.login_session import LoginSession, RefreshToken
from models.revocation import Revocation as RevocationRow
from models.user import User
from services.claims import Acr, Claims, Proof
from services.errors import Unauthenticated
from services.grants.many import personal_grants_of_many
from services.grants.rules import Reader
from services.sessions.login_cache import LoginState
from services.storage.row_locks import locked, locked_one

BATCH = 1000
"""Rows in one transaction: SQLite has one writer, and sign-ins wait behind it."""


def is_active(now: float) -> Any:
    """The condition that a login session is alive.

    Args:
        now: epoch seconds.
    """
    owner: Any = User.alias("owner")
    current = owner.select(owner.generation).where(owner.id == LoginSession.user)
    return (
        LoginSession.ended_at.is_null()
        & (LoginSession.expires_at > now)
        & (LoginSession.generation == current)
    )


def active_of(user_id: str, generation: int, now: float) -> Any:
    """The same for the sessions of one user whose generation is known: one index look-up."""
    return (
        (LoginSession.user == user_id)
        & (LoginSession.generation == generation)
        & LoginSession.ended_at.is_null()
        & (LoginSession.expires_at > now)
    )


def next_generation(db: peewee.Database, user_id: str) -> int | None:
    """Increment a user's generation, which ends all their login sessions. None: no such user."""
    counted = {User.generation: User.generation + 1}
    update = User.update(counted).where(User.id == user_id).returning(User.generation)
    return next((int(row.generation) for row in update.execute(db)), None)


def exempt(db: peewee.Database, user_id: str, sid: str, generation: int, now: float) -> bool:
    """Move a session to the user's new generation, so that it continues. Returns False if it has
    ended."""
    before = active_of(user_id, generation - 1, now) & (LoginSession.id == sid)
    update = LoginSession.update({LoginSession.generation: generation}).where(before)
    return bool(update.execute(db))


def lock_active(
    db: peewee.Database, condition: peewee.Expression, now: float
) -> list[tuple[str, str]]:
    """Active sessions that meet a condition, locked until the commit: their ids and users'."""
    query: Any = (
        LoginSession.select(LoginSession.id, LoginSession.user)
        .where(condition & is_active(now))
        .order_by(LoginSession.id)  # who locks several rows does it in one order
    )
    return [(row.id, row.user_id) for row in locked(query, db).execute(db)]


def mark_ended(db: peewee.Database, sids: Sequence[str], reason: str, now: float) -> None:
    """Record that sessions have ended, and why."""
    change = {LoginSession.ended_at: now, LoginSession.end_reason: reason}
    for start in range(0, len(sids), BATCH):
        some = LoginSession.id.in_(sids[start : start + BATCH])
        LoginSession.update(change).where(some).execute(db)


def longest_unused(
    db: peewee.Database, user: User, opened: str, at_most: int, now: float
) -> list[tuple[str, str]]:
    """The sessions of a user over the limit, longest unused: their ids and the user's.

    Args:
        user: the row, locked, so that no other sign-in counts at the same time.
        opened: the id of the session that is being opened. It counts, and it stays: by the times
            alone it would be the oldest where the clock was set back.
        at_most: how many stay.
    """
    if at_most < 1:
        raise ValueError("at least the session that is being opened stays")
    query: Any = (
        LoginSession.select(LoginSession.id)
        .where(active_of(user.id, user.generation, now) & (LoginSession.id != opened))
        .order_by(LoginSession.last_seen_at.desc(), LoginSession.created_at.desc(), LoginSession.id)
        .offset(at_most - 1)
    )
    return [(row.id, user.id) for row in query.execute(db)]


def settle(db: peewee.Database, user_id: str, generation: int, ended_at: float, reason: str) -> int:
    """Record when and why sessions ended that a new generation ended; one batch.

    Returns:
        How many; below `BATCH` when there are no more.
    """
    some = (
        LoginSession.select(LoginSession.id)
        .where(
            (LoginSession.user == user_id)
            & (LoginSession.generation < generation)
            & LoginSession.ended_at.is_null()
        )
        .limit(BATCH)
    )
    change = {LoginSession.ended_at: ended_at, LoginSession.end_reason: reason}
    return int(LoginSession.update(change).where(LoginSession.id.in_(some)).execute(db))


def delete_some(db: peewee.Database, user_id: str) -> int:
    """Delete a batch of a user's sessions and dependent rows. Returns how many."""
    some = LoginSession.select(LoginSession.id).where(LoginSession.user == user_id).limit(BATCH)
    return int(LoginSession.delete().where(LoginSession.id.in_(some)).execute(db))


def states_of(db: peewee.Database, asked: Sequence[Claims], now: float) -> list[LoginState | None]:
    """The login sessions of tokens as the database has them, in the order of the tokens. None:
    over, or the token is revoked. The number of queries does not depend on how many are asked."""
    query: Any = (
        LoginSession.select(
            LoginSession.id,
            LoginSession.user,
            LoginSession.expires_at,
            User.name,
            User.generation,
            User.role,
            peewee.fn.COALESCE(User.role_since, User.created_at),
            User.created_at,
            LoginSession.auth_epoch,
        )
        .join(User)
        .where(
            LoginSession.id.in_({claims.sid for claims in asked})
            & LoginSession.ended_at.is_null()
            & (LoginSession.expires_at > now)
            & (LoginSession.generation == User.generation)
            & User.disabled_at.is_null()
        )
    )
    rows = {(row[0], row[1]): row for row in query.tuples().execute(db)}
    revoked = _revoked_among(db, {claims.jti for claims in asked})
    alive = [
        None if claims.jti in revoked else rows.get((claims.sid, claims.sub)) for claims in asked
    ]
    readers = {row[1]: Reader(row[1], *row[5:8]) for row in alive if row is not None}
    personal = personal_grants_of_many(db, list(readers.values()))
    return [
        None
        if row is None
        else LoginState(row[3], row[5], row[2], now, personal[row[1]], row[4], *row[6:9])
        for row in alive
    ]


def _revoked_among(db: peewee.Database, token_ids: Collection[str]) -> set[str]:
    query: Any = RevocationRow.select(RevocationRow.subject).where(
        RevocationRow.subject.in_(token_ids) & (RevocationRow.kind == "token")
    )
    return {row[0] for row in query.tuples().execute(db)}


def proof_of(session: LoginSession) -> Proof:
    """How the user of a session last authenticated."""
    return Proof(cast("Acr", session.acr), session.proven_at, session.auth_epoch)


def active(db: peewee.Database, user_id: str, sid: str, now: float) -> LoginSession | None:
    """An active login session of a user, or None."""
    mine = (LoginSession.id == sid) & (LoginSession.user == user_id) & is_active(now)
    return LoginSession.select().where(mine).get_or_none(db)


def acting_user(db: peewee.Database, user_id: str, sid: str, now: float) -> User:
    """Lock the account of a caller who adds a way into it, and check once more that their login
    session is active. The call was admitted before; an account that was recovered from a thief
    meanwhile must not get another way in by a call that was on its way.

    Raises:
        Unauthenticated: the login session has ended, or the account is deleted.
    """
    user = locked_one(User.select().where(User.id == user_id), db)
    if user is None or active(db, user_id, sid, now) is None:
        raise Unauthenticated("login session over by now")
    return user


def hide_tokens(db: peewee.Database, sid: str, until: float) -> None:
    """Delete the refresh tokens of a new session, so that its creator cannot use it. It expires
    unless it is handed over to a native app.

    Args:
        until: epoch seconds.
    """
    RefreshToken.delete().where(RefreshToken.session == sid).execute(db)
    LoginSession.update({LoginSession.expires_at: until}).where(LoginSession.id == sid).execute(db)


def touch(db: peewee.Database, seen: dict[str, float]) -> None:
    """Record when sessions were last seen: `sid` to epoch seconds. A newer time stays."""
    if not seen:
        return
    # In one statement: each takes a turn of the loop, and others wait for SQLite meanwhile.
    times = [(sid, peewee.Cast(at, "DOUBLE PRECISION")) for sid, at in seen.items()]
    new: Any = peewee.ValuesList(times, alias="new")
    newer = (LoginSession.id == new.c.column1) & (LoginSession.last_seen_at < new.c.column2)
    update = LoginSession.update({LoginSession.last_seen_at: new.c.column2})
    update.from_(new).where(newer).execute(db)
