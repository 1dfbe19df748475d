"""Ends login sessions: one, all of a user, or those of an account at a provider."""

from __future__ import annotations

import time
from collections.abc import Callable

import peewee

from models.login_session import LoginSession
from models.user import User
from services.errors import NotFound
from services.sessions import session_rows
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.storage.database import Database
from services.storage.row_locks import locked_one


class SessionEnds:
    """Ends login sessions, and with each its refresh tokens, access tokens and sockets."""

    def __init__(
        self, database: Database, revocations: Revocations, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._revocations, self._clock = database, revocations, clock

    async def end(
        self,
        user_id: str,
        sid: str,
        reason: str,
        token_id: str | None = None,
        request: str = "",
    ) -> int:
        """End one session of a user: its refresh tokens, its access tokens, its sockets.

        Args:
            token_id: `jti` of the access token that was presented, which is revoked too.
            request: id of a request for acknowledgements, see `Control.request`.

        Returns:
            How many sockets were closed on this node.

        Raises:
            NotFound: the user has no such session.
        """
        revocations = await self._database.run(self._end_one, user_id, sid, reason, token_id)
        return await self._revocations.publish(revocations, request)

    def _end_one(
        self, db: peewee.Database, user_id: str, sid: str, reason: str, token_id: str | None
    ) -> list[Revocation]:
        same = (LoginSession.id == sid) & (LoginSession.user == user_id)
        query = LoginSession.select().where(same & LoginSession.ended_at.is_null())
        session = locked_one(query, db)
        if session is None or not self._is_current(db, session):
            raise NotFound("no such active session of this user")
        ended = [self.end_within(db, sid, user_id, reason)]
        if token_id is not None:
            ended.append(self._revocations.record(db, "token", token_id, user_id, reason))
        return ended

    @staticmethod
    def _is_current(db: peewee.Database, session: LoginSession) -> bool:
        current = User.select(User.generation).where(User.id == session.user_id).get_or_none(db)
        return current is not None and bool(current.generation == session.generation)

    async def end_all(self, user_id: str, reason: str, but: str | None = None) -> int:
        """End all sessions of a user except `but`, at constant cost.

        Returns:
            How many sockets were closed on this node.
        """
        revocations = await self._database.run(self.end_all_within, user_id, reason, but)
        return await self._revocations.publish(revocations)

    def end_all_within(
        self, db: peewee.Database, user_id: str, reason: str, but: str | None = None
    ) -> list[Revocation]:
        """The same within the caller's transaction; publish the result after the commit."""
        generation = session_rows.next_generation(db, user_id)
        if generation is None:
            return []
        now, exempt = self._clock(), ""
        if but is not None and session_rows.exempt(db, user_id, but, generation, now):
            exempt = but
        row = self._revocations.record(
            db, "user", user_id, user_id, reason, generation=generation, exempt=exempt
        )
        return [row]

    async def forget(self, user_id: str) -> None:
        """Delete all sessions of a user, ended ones too, batch by batch: an account that has been
        abused may have a hundred thousand."""
        while await self._database.run(session_rows.delete_some, user_id) == session_rows.BATCH:
            pass

    def end_of_provider_within(
        self, db: peewee.Database, provider: str, subject: str | None, sid: str | None, reason: str
    ) -> list[Revocation]:
        """End the sessions opened with an account at a provider, or with one session there.

        Args:
            subject: the account; None for the account of session `sid`.
            sid: the provider's session; None for all of `subject`.
        """
        condition = LoginSession.provider == provider
        if subject is not None:
            condition &= LoginSession.provider_subject == subject
        if sid is not None:
            # Sessions that the provider did not name could be this one.
            unnamed = LoginSession.provider_sid.is_null() if subject is not None else None
            same = LoginSession.provider_sid == sid
            condition &= same if unnamed is None else same | unnamed
        return self._end_where(db, condition, reason)

    def _end_where(
        self, db: peewee.Database, condition: peewee.Expression, reason: str
    ) -> list[Revocation]:
        now = self._clock()
        ended = session_rows.lock_active(db, condition, now)
        session_rows.mark_ended(db, [sid for sid, _ in ended], reason, now)
        return self._revocations.record_sessions(db, ended, reason)

    def end_within(self, db: peewee.Database, sid: str, user_id: str, reason: str) -> Revocation:
        """End a session within the caller's transaction, which holds its lock; publish the result
        after the commit."""
        change = {LoginSession.ended_at: self._clock(), LoginSession.end_reason: reason}
        LoginSession.update(change).where(LoginSession.id == sid).execute(db)
        return self._revocations.record(db, "session", sid, user_id, reason)
