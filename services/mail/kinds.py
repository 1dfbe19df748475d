"""The kinds of mail: their subject, their values, and how long they wait for a mail server."""

from __future__ import annotations

import msgspec

from services.mail_outbox import LETTER_KINDS, LetterKind

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
ASKED_SECONDS = 30 * MINUTE
"""How long a request waits to be decided."""


class KindOf(msgspec.Struct, frozen=True):
    """A kind of mail.

    Attributes:
        values: the names that its template may show, beside `name`, `public_url` and `sign_in`.
        seconds: how long it may wait for the mail server: no longer than its link is valid.
        is_asked: whether unauthenticated clients can cause it; these have a share of the outbox.
    """

    values: frozenset[str] = frozenset()
    seconds: float = DAY
    is_asked: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether the number per mailbox and hour is limited. Mails with a link are limited where
        they are requested, or must not be lost."""
        return "link" not in self.values


_LINK = frozenset(("link",))
_REST: dict[LetterKind, KindOf] = {
    "address_changed": KindOf(_LINK),
    "address_known": KindOf(seconds=ASKED_SECONDS, is_asked=True),
    "change_address": KindOf(_LINK, seconds=HOUR),
    "invitation": KindOf(_LINK),
    "new_sign_in": KindOf(frozenset(("device", "time"))),
    "reset_password": KindOf(_LINK, seconds=30 * MINUTE, is_asked=True),
    "verify_address": KindOf(_LINK, is_asked=True),
}
KINDS: dict[LetterKind, KindOf] = {kind: _REST.get(kind, KindOf()) for kind in LETTER_KINDS}
