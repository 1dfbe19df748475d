"""Creates the services of recovery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.accounts.accounts import Accounts
from services.accounts.link_tokens import LinkTokens
from services.accounts.passwords import Passwords
from services.accounts.sign_in_limits import SignInLimits
from services.event_loop.steady_clock import SteadyClock
from services.limits.hourly import HourlyLimits
from services.mail_outbox import AskedKind, Decide, Mails
from services.outbox import Outbox
from services.recovery.address_changes import AddressChanges
from services.recovery.confirmations import Confirmations
from services.recovery.forgotten import Forgotten
from services.recovery.mail_limits import MailLimits
from services.recovery.new_sign_ins import NewSignIns
from services.recovery.pending_sign_ups import PendingSignUps
from services.recovery.verification import Mode, Verification
from services.registration.parts import RegistrationParts
from services.sessions.login_sessions import LoginSessions
from services.storage.database import Database


@dataclass(frozen=True)
class RecoveryParts:
    """The services that handlers may call. `asked`: decides requests, by kind."""

    forgotten: Forgotten
    verification: Verification
    changes: AddressChanges
    confirmations: Confirmations
    sign_ups: PendingSignUps
    asked: dict[AskedKind, Decide]


def join(
    database: Database,
    accounts: Accounts,
    passwords: Passwords,
    login_sessions: LoginSessions,
    registration: RegistrationParts,
    limits: HourlyLimits,
    tokens: LinkTokens,
    mails: Mails,
    outbox: Outbox,
    mode: Mode,
    forgotten: Callable[[str], None],
    opened: Callable[[str], None],
    clock: Callable[[], float] | None = None,
) -> RecoveryParts:
    """Create and connect the services.

    Args:
        forgotten: called with the user of every requested link.
        opened: called with the user of every account that is created in the background.
    """
    clock = clock or SteadyClock()
    of_mails = MailLimits(limits)
    forgot = Forgotten(database, tokens, mails, of_mails, accounts.devices, clock, forgotten)
    verification = Verification(database, tokens, mails, of_mails, mode, clock)
    changes = AddressChanges(
        database,
        tokens,
        mails,
        of_mails,
        registration.rules,
        forgot,
        registration.handovers,
        outbox,
        clock,
    )
    sign_ups = PendingSignUps(
        database,
        passwords,
        registration.rules,
        SignInLimits(limits),
        of_mails,
        verification,
        mails,
        outbox,
        clock,
        opened,
    )
    login_sessions.before_opening(NewSignIns(accounts.devices, mails, mode, clock).notice)
    return RecoveryParts(
        forgotten=forgot,
        verification=verification,
        changes=changes,
        confirmations=Confirmations(
            database, tokens, passwords, registration.handovers, changes, forgot, clock
        ),
        sign_ups=sign_ups,
        asked={
            "forgot": forgot.decide,
            "verify": verification.decide,
            "change": changes.decide,
            "sign_up": sign_ups.decide,
        },
    )
