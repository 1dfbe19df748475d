"""Creates the services of registration."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.keyed_tokens import Checksums
from services.limits.hourly import HourlyLimits
from services.mail_outbox import NO_MAILS, Mails
from services.registration.handovers import Handovers
from services.registration.invitations import Invitations
from services.registration.registration import Mode, Registration
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.storage.database import Database


@dataclass(frozen=True)
class RegistrationParts:
    """The services that handlers and other services may call."""

    rules: Registration
    invitations: Invitations
    handovers: Handovers


def join(
    database: Database,
    session_ends: SessionEnds,
    revocations: Revocations,
    limits: HourlyLimits,
    checksums: Checksums,
    public_url: str,
    mode: Mode = "open",
    domains: tuple[str, ...] = (),
    used: Callable[[str, str], None] | None = None,
    handed_over: Callable[[str, str], None] | None = None,
    mails: Mails = NO_MAILS,
    clock: Callable[[], float] = time.time,
    steady: Callable[[], float] | None = None,
) -> RegistrationParts:
    """Create and connect the services.

    Args:
        checksums: sign and verify the tokens of invitations.
        public_url: the URL at which browsers reach the server, without a trailing slash.
        mode, domains: SIGNUP and EMAIL_DOMAINS.
        used: called with the invitation and the new user, see `Registration.on_used`.
        handed_over: called with the user and the proof, see `Handovers.on_done`.
        mails: receives the links of invitations that have an address.
        steady: as `clock`, but never set back within the process.
    """
    rules = Registration(database, mode, domains, checksums, limits, steady)
    handovers = Handovers(session_ends, revocations, clock)
    if used is not None:
        rules.on_used(used)
    if handed_over is not None:
        handovers.on_done(handed_over)
    invitations = Invitations(database, rules, checksums, public_url, mails, steady)
    return RegistrationParts(rules, invitations, handovers)
