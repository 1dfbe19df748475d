"""Writes encrypted mails to the outbox, in the transaction of the change that they report."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import peewee

from services.mail import rows
from services.mail.kinds import ASKED_SECONDS, KINDS
from services.mail_outbox import AskedKind, Letter, LetterKind, Values
from services.metrics import Metrics
from services.storage.database import Database
from services.storage.encryption import Encryption

log = logging.getLogger("usher.mail")


class Sealed(msgspec.Struct, frozen=True):
    """The encrypted part of a row."""

    to: str
    values: dict[str, str]


class MailOutbox:
    """The outbox of the database; `services.mail_outbox.Mails` is its interface.

    Args:
        public_url: without a trailing slash. All links begin with it.
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        encryption: Encryption,
        metrics: Metrics,
        public_url: str,
        clock: Callable[[], float],
    ) -> None:
        self._database, self._encryption, self._metrics = database, encryption, metrics
        self._public_url, self._clock = public_url, clock
        self._on_written: Callable[[], None] = lambda: None

    def on_written(self, act: Callable[[], None]) -> None:
        """Call `act` when a mail was written, shortly before its commit."""
        self._on_written = act

    def enqueue(self, db: peewee.Database, kind: LetterKind, to: str, values: Values) -> None:
        """Write a mail in the caller's transaction. If too many are waiting, it is dropped, because
        a mail must not prevent the change that it reports.

        Args:
            to: a normalised address.
            values: the values of the kind, see services/mail/kinds.py.

        Raises:
            ValueError: the values are wrong, or a link does not begin with `public_url`: a mistake
                of the caller.
        """
        self.check(kind, values)
        seconds, is_asked = KINDS[kind].seconds, KINDS[kind].is_asked
        self._insert(db, kind, self.seal(to, values), is_asked, seconds)

    def ask(self, db: peewee.Database, kind: AskedKind, address: str, values: Values) -> None:
        """Write a request of an unauthenticated client in the caller's transaction. It is decided
        in the background, so the response takes the same time for every address."""
        self._insert(db, kind, self.seal(address, values), True, ASKED_SECONDS)

    async def send(self, kind: LetterKind, to: str, values: Values) -> None:
        """Like `enqueue`, in a transaction of its own.

        Raises:
            DatabaseUnavailable, Busy: the mail is not written.
        """
        await self._database.run(self.enqueue, kind, to, values)

    def check(self, kind: LetterKind, values: Values) -> None:
        """Raise ValueError if these are not the values of this kind."""
        if set(values) != KINDS[kind].values:
            raise ValueError(f"a mail {kind} takes {sorted(KINDS[kind].values)}")
        if "link" in values and not values["link"].startswith(self._public_url + "/"):
            raise ValueError(f"a mail {kind} with a link to another place")

    def seal(self, to: str, values: Values) -> str:
        """Encrypt an address and values."""
        return self._encryption.encrypt(msgspec.json.encode(Sealed(to, dict(values))))

    def open(self, sealed: str) -> Sealed:
        """Decrypt a row.

        Raises:
            DecryptionFailed: no encryption key can decrypt it.
        """
        return msgspec.json.decode(self._encryption.decrypt(sealed), type=Sealed)

    def letter(self, one: rows.ClaimedMail) -> Letter:
        """The mail of a row that is not a request. Raises the errors of `open`."""
        content = self.open(one.sealed)
        kind: LetterKind = msgspec.convert(one.kind, LetterKind)
        return Letter(kind, content.to, content.values)

    def _insert(
        self, db: peewee.Database, kind: str, sealed: str, is_asked: bool, seconds: float
    ) -> None:
        if rows.insert(db, kind, sealed, is_asked, self._clock(), seconds):
            self._on_written()
            return
        self._metrics.mails.labels(outcome="dropped").inc()
        log.error("too many mails are waiting: one (%s) is not written", kind)
