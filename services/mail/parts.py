"""Creates and connects the services of mail."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.event_loop.steady_clock import SteadyClock
from services.limits.hourly import HourlyLimits
from services.mail.dispatcher import MailDispatcher
from services.mail.kinds import KINDS
from services.mail.letters import Installation, Letters
from services.mail.outbox import MailOutbox
from services.mail.smtp import SmtpTransport
from services.mail.transports import FOLDER, FileTransport, Transport
from services.mail_outbox import Letter
from services.metrics import Metrics
from services.settings.settings import Settings
from services.settings.smtp import Sender
from services.storage.database import Database
from services.storage.encryption import Encryption


@dataclass(frozen=True)
class MailParts:
    """The services of mail that handlers and other services may call."""

    outbox: MailOutbox
    dispatcher: MailDispatcher
    letters: Letters


def join(
    settings: Settings,
    database: Database,
    encryption: Encryption,
    metrics: Metrics,
    limits: HourlyLimits,
    public_url: str,
    clock: Callable[[], float] | None = None,
) -> MailParts:
    """Create and connect the services. Nothing is started.

    Raises:
        SettingError: a template does not work.
    """
    clock = clock or SteadyClock()
    host = urlsplit(public_url).hostname or "localhost"
    sender = settings.mail_from or Sender(f"usher@{host if host[0].isalpha() else 'localhost'}")
    letters = Letters(Installation(settings.app_name, public_url, sender), settings.mail_templates)
    transport: Transport = FileTransport(settings.data_dir / FOLDER, letters)
    if settings.smtp_url is not None:
        greeting = host if ":" not in host else f"[IPv6:{host}]"
        context = ssl.create_default_context()
        transport = SmtpTransport(settings.smtp_url, sender, letters, greeting, context)
    outbox = MailOutbox(database, encryption, metrics, public_url, clock)

    async def may(letter: Letter) -> bool:
        # By kind, so that many harmless ones cannot keep one that matters away.
        key = f"{letter.kind}\0{letter.to}"
        is_limited = KINDS[letter.kind].is_limited
        return not is_limited or (await limits.take((limits.of.mailbox, key))).waits[0] is None

    dispatcher = MailDispatcher(database, outbox, transport, metrics, clock, may=may)
    outbox.on_written(dispatcher.wake)
    return MailParts(outbox, dispatcher, letters)
