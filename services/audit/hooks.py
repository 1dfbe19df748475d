"""Records changes of login sessions and rights in the audit trail, wherever they are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from services.audit.trail import AuditTrail

REVOCATIONS = {
    "session": "session.ended",
    "user": "sessions.ended",
    "token": "token.revoked",
    "role": "role.changed",
    "access": "access.changed",
}
"""Kinds of entries by kinds of revocations."""
LINES_ONLY = frozenset(("token", "access"))
"""Beside a row of what caused them: the end of a session, a member's right."""


class Revoked(Protocol):
    """The attributes of a revocation that are recorded."""

    @property
    def kind(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def reason(self) -> str: ...


def opened(audit: AuditTrail) -> Callable[[str, str, str], None]:
    """Records a sign-in: the user, the session and the method."""

    def note(user_id: str, session_id: str, method: str) -> None:
        audit.record(
            "session.opened", subject=user_id, session=session_id, reason=method, actor=user_id
        )

    return note


def revoked(audit: AuditTrail) -> Callable[[Sequence[Revoked]], None]:
    """Records the revocations of this node."""

    def note(entries: Sequence[Revoked]) -> None:
        for entry in entries:
            audit.record(
                REVOCATIONS.get(entry.kind, "revoked"),
                subject=entry.user_id,
                session=entry.subject if entry.kind == "session" else "",
                reason=entry.reason,
                target=entry.subject if entry.kind in LINES_ONLY else "",
                actor=entry.user_id if entry.reason == "logout" else "",
                kept=entry.kind not in LINES_ONLY,
            )

    return note


def invited(audit: AuditTrail) -> Callable[[str, str], None]:
    """Records the use of an invitation: its id, and the user of the new account."""

    def note(invitation_id: str, user_id: str) -> None:
        audit.record("invitation.used", subject=user_id, actor=user_id, target=invitation_id)

    return note


def happened(audit: AuditTrail, kind: str, reason: str = "") -> Callable[[str], None]:
    """Records changes of an account in the background, without a signed-in user."""

    def note(user_id: str) -> None:
        audit.record(kind, subject=user_id, reason=reason)

    return note


def handed_over(audit: AuditTrail) -> Callable[[str, str], None]:
    """Records that an account was given to the owner of its address: the user, and the proof."""

    def note(user_id: str, proven_by: str) -> None:
        audit.record("account.handed_over", subject=user_id, actor=user_id, reason=proven_by)

    return note


def passkey_copied(audit: AuditTrail) -> Callable[[str, str], None]:
    """Records that the counter of a passkey went back: the user, and the passkey."""

    def note(user_id: str, passkey_id: str) -> None:
        audit.record("passkey.counter_went_back", subject=user_id, target=passkey_id)

    return note
