"""Writes events for login sessions that are opened or ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import peewee

from services.outbox import (
    Outbox,
    OutgoingEvent,
    SessionEndedEvent,
    SessionOpenedEvent,
    user_subject,
)


class Ended(Protocol):
    """The attributes of a revocation that events contain."""

    @property
    def kind(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def exempt(self) -> str: ...


def opened(outbox: Outbox) -> Callable[[peewee.Database, str, str, str, float], None]:
    """Write the event of a new session, in the transaction that opens it."""

    def write_event(
        db: peewee.Database, user_id: str, session_id: str, method: str, expires_at: float
    ) -> None:
        data = SessionOpenedEvent(user_id, session_id, method, expires_at)
        outbox.add(db, [OutgoingEvent("session.opened", user_subject(user_id), data)])

    return write_event


def ended(outbox: Outbox) -> Callable[[peewee.Database, Sequence[Ended]], None]:
    """Write the events of ended sessions, in the transaction that ends them. All sessions of a user
    are one event: there may be a hundred thousand, and one row ends them."""

    def write_event(db: peewee.Database, revocations: Sequence[Ended]) -> None:
        outbox.add(db, [_event(one) for one in revocations if one.kind in ("session", "user")])

    return write_event


def _event(one: Ended) -> OutgoingEvent:
    of_all = one.kind == "user"
    data = SessionEndedEvent(
        user_id=one.user_id,
        session_id=None if of_all else one.subject,
        all=of_all,
        but=one.exempt or None,
        reason=one.reason,
    )
    return OutgoingEvent("session.ended", user_subject(one.user_id), data)
