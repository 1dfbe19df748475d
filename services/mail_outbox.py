"""Mails to the owners of accounts, written in the transaction of the change that they report.

Services that write mails receive a `Mails`. services/mail/ implements it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, get_args

import msgspec
import peewee

LetterKind = Literal[
    "account_deleted",
    "address_change_asked",
    "address_changed",
    "address_known",
    "address_left",
    "address_restored",
    "change_address",
    "invitation",
    "new_sign_in",
    "passkey_added",
    "passkey_removed",
    "password_changed",
    "recovery_code_used",
    "reset_password",
    "second_factor_off",
    "second_factor_on",
    "verify_address",
]
"""Kinds of mails; each is the name of a template."""
AskedKind = Literal["change", "forgot", "sign_up", "verify"]
"""Mails that unauthenticated clients can request. Whether a mail is written is decided after the
response, so that neither the response nor its time reveals whether the address has an account."""
LETTER_KINDS: tuple[LetterKind, ...] = get_args(LetterKind)

Values = Mapping[str, str]
"""The values of a template: `link`, and fixed words. Never text that an unauthenticated client
chose."""


class Letter(msgspec.Struct, frozen=True):
    """A mail to be rendered.

    Attributes:
        to: the address, normalised.
        values: see services/mail/kinds.py.
    """

    kind: LetterKind
    to: str
    values: dict[str, str]


class Decided(msgspec.Struct, frozen=True):
    """The decision on a request for a mail.

    Attributes:
        letter: the mail to send instead; None for none.
        after: called once the transaction is committed.
    """

    letter: Letter | None = None
    after: Callable[[], None] | None = None


Decide = Callable[[peewee.Database, str, dict[str, str]], Decided]
"""Decides within a transaction, from the address and the values of `ask`."""


class Mails(Protocol):
    """The interface for writing mails."""

    def enqueue(self, db: peewee.Database, kind: LetterKind, to: str, values: Values) -> None:
        """Write a mail in the caller's transaction. It is sent in the background."""

    def ask(self, db: peewee.Database, kind: AskedKind, address: str, values: Values) -> None:
        """Write a request of an unauthenticated client in the caller's transaction, for any
        address."""


class NoMails(msgspec.Struct, frozen=True):
    """Writes nothing, for services that are used without mail."""

    def enqueue(self, db: peewee.Database, kind: LetterKind, to: str, values: Values) -> None:
        """Do nothing."""

    def ask(self, db: peewee.Database, kind: AskedKind, address: str, values: Values) -> None:
        """Do nothing."""


NO_MAILS = NoMails()
