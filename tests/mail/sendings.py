"""One node's mail and a mail server: the dispatcher works when the test says so."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from models.mail import OutgoingMail
from services.mail.dispatcher import MailDispatcher
from services.mail.letters import Installation, Letters
from services.mail.outbox import MailOutbox
from services.mail.smtp import SmtpTransport
from services.mail.transports import Transport
from services.metrics import Metrics
from services.settings.smtp import Sender, SmtpServer, smtp_url
from services.storage.encryption import Encryption
from tests.support.mail_server import MailServer, mail_server
from tests.support.parts import ISSUER, Clock, Parts, node

ADA = "ada@example.org"
LINK = f"{ISSUER}/set-password#token=usher_pl_secret"
FROM = Sender("usher@usher.test")
HERE = Installation("Usher", ISSUER, FROM)


class Ticks(Clock):
    """A monotonic clock that the test turns."""


class Sending:
    """One node's mail: an outbox, and a dispatcher that works when the test says so."""

    def __init__(self, parts: Parts, transport: Transport, encryption: Encryption) -> None:
        self.parts, self.metrics, self.ticks = parts, Metrics(), Ticks()
        self.outbox = MailOutbox(parts.database, encryption, self.metrics, ISSUER, parts.clock)
        self.dispatcher = MailDispatcher(
            parts.database, self.outbox, transport, self.metrics, parts.clock, self.ticks
        )

    async def reset(self, to: str = ADA) -> None:
        await self.outbox.send("reset_password", to, {"link": LINK})

    async def work(self) -> None:
        await self.dispatcher._work()

    async def waiting(self) -> list[OutgoingMail]:
        return await self.parts.database.run(
            lambda db: list(OutgoingMail.select().order_by(OutgoingMail.id).execute(db))
        )

    def count(self, outcome: str) -> float:
        return (
            self.metrics.registry.get_sample_value("usher_mails_total", {"outcome": outcome}) or 0.0
        )


def smtp(server: MailServer | SmtpServer, context: ssl.SSLContext | None = None) -> SmtpTransport:
    there = smtp_url(server.url) if isinstance(server, MailServer) else server
    context = context or ssl.create_default_context()
    return SmtpTransport(there, FROM, Letters(HERE), "usher.test", context)


@asynccontextmanager
async def sending(
    url: str, transport: Transport, encryption: Encryption | None = None, name: str = "node"
) -> AsyncIterator[Sending]:
    async with node(url, name=name) as parts:
        one = Sending(parts, transport, encryption or parts.services.encryption)
        try:
            yield one
        finally:
            await one.dispatcher.close()


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as one:
        yield one
