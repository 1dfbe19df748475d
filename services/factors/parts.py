"""Creates and connects the services of second factors and passkeys."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.accounts.devices import Devices
from services.accounts.sign_in_limits import SignInLimits
from services.factors.challenges import LoginChallenges
from services.factors.factors import Factors
from services.factors.passkeys import Passkeys
from services.factors.webauthn_challenges import WebAuthnChallenges
from services.limits.hourly import HourlyLimits
from services.mail_outbox import Mails
from services.metrics import Metrics
from services.sessions.login_sessions import LoginSessions
from services.sessions.tokens import Tokens
from services.storage.database import Database
from services.storage.encryption import Encryption


@dataclass(frozen=True)
class FactorParts:
    """The services of second factors and passkeys that handlers and other services may call."""

    factors: Factors
    challenges: LoginChallenges
    passkeys: Passkeys


def join(
    database: Database,
    encryption: Encryption,
    login_sessions: LoginSessions,
    tokens: Tokens,
    limits: HourlyLimits,
    keys_are_wrong: Callable[[], bool],
    app_name: str,
    metrics: Metrics,
    mails: Mails,
    on_copied: Callable[[str, str], None],
    clock: Callable[[], float] | None = None,
) -> FactorParts:
    """Create and connect the services.

    Args:
        keys_are_wrong: whether ENCRYPTION_KEYS are known not to be this installation's.
        on_copied: called with a user and a passkey of that user whose counter decreased.
        app_name: the installation's name in authenticator apps.
        clock: epoch seconds, for tests.
    """
    wall = clock or time.time
    factors = Factors(database, encryption, limits, keys_are_wrong, app_name, mails, wall)
    challenges = LoginChallenges(
        database,
        login_sessions,
        SignInLimits(limits),
        limits,
        Devices(tokens.devices),
        tokens.factors,
        metrics,
        clock,
    )
    webauthn = WebAuthnChallenges(tokens.factors, clock)
    return FactorParts(factors, challenges, Passkeys(database, webauthn, mails, wall, on_copied))
