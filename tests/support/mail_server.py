"""A real SMTP server (aiosmtpd) on a port of this machine, which keeps what it takes."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from services.event_loop.tasks import end_tasks
from tests.support.server import PATIENCE, wait_until

USER, PASSWORD = "usher", "p@ss/word of the mail server"
TAKEN = "250 OK"


@dataclass
class MailServer:
    """Attributes:
    mails: what was taken, oldest first.
    texts: the same, byte by byte.
    replies: to DATA, one for each mail; those after them are taken.
    refused: replies to RCPT, by address.
    tried: how often a text arrived.
    lost: how many of the next texts are taken without an answer: the connection ends.
    """

    mails: list[EmailMessage] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    recipients: list[str] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    sessions: list[Any] = field(default_factory=list)
    tried: int = 0
    lost: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def to(self, address: str) -> list[EmailMessage]:
        """The mails to an address, oldest first."""
        return [mail for mail in list(self.mails) if address in str(mail["To"])]

    def wait_for(self, count: int) -> list[EmailMessage]:
        """The mails, once there are so many."""
        wait_until(lambda: len(self.mails) >= count)
        return list(self.mails)

    # ---- what aiosmtpd calls ---------------------------------------------------------------

    async def handle_RCPT(  # noqa: N802  # the name that aiosmtpd calls
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return TAKEN

    async def handle_DATA(  # noqa: N802  # the name that aiosmtpd calls
        self, server: Any, session: Any, envelope: Envelope
    ) -> str:
        self.tried += 1
        reply = self.replies.pop(0) if self.replies else TAKEN
        if not reply.startswith("250"):
            return reply
        content = envelope.content
        assert isinstance(content, bytes)
        self.texts.append(content)
        self.senders.append(envelope.mail_from or "")
        self.recipients += envelope.rcpt_tos
        self.sessions.append(session)
        self.mails.append(parsed(content))
        if self.lost:
            self.lost -= 1
            server.transport.abort()
        return reply


def parsed(content: bytes) -> EmailMessage:
    made = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(made, EmailMessage)
    return made


def text_of(mail: EmailMessage) -> str:
    """The plain text of a mail."""
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def html_of(mail: EmailMessage) -> str:
    """The HTML of a mail."""
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())


def link_of(mail: EmailMessage) -> str:
    """The one link of a mail that has a token."""
    (link,) = {word for word in text_of(mail).split() if "#token=" in word}
    return link


def written(folder: Path, kind: str = "") -> list[EmailMessage]:
    """The mails in DATA_DIR/mail, oldest first."""
    return [parsed(path.read_bytes()) for path in sorted(folder.glob(f"*-{kind}*.eml"))]


def _authenticate(
    server: Any, session: Any, envelope: Any, mechanism: str, data: Any
) -> AuthResult:
    ok = isinstance(data, LoginPassword) and (data.login, data.password) == (
        USER.encode(),
        PASSWORD.encode(),
    )
    return AuthResult(success=ok, handled=False)


@contextmanager
def mail_server(
    tls: tuple[Path, Path] | None = None,
    implicit: bool = False,
    port: int = 0,
    into: MailServer | None = None,
) -> Iterator[MailServer]:
    """A mail server.

    Args:
        tls: certificate and key: it demands STARTTLS, then a user and a password.
        implicit: TLS from the first byte instead.
        into: keeps the mails; a new one by default.
    """
    kept = into or MailServer()
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    options: dict[str, Any] = {}
    if context is not None and not implicit:
        options = {
            "tls_context": context,
            "require_starttls": True,
            "auth_required": True,
            "authenticator": _authenticate,
        }
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve() -> asyncio.Server:
        return await loop.create_server(
            lambda: SMTP(kept, hostname="localhost", enable_SMTPUTF8=True, loop=loop, **options),
            "127.0.0.1",
            port,
            ssl=context if implicit else None,
        )

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(PATIENCE)
    kept.port = server.sockets[0].getsockname()[1]
    try:
        yield kept
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    mine = asyncio.current_task()
    await end_tasks(*(task for task in asyncio.all_tasks() if task is not mine))


class Mailbox:
    """The mails of one address, from an Usher that writes them to files."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder / "mail", address

    def _all(self, kind: str = "") -> list[EmailMessage]:
        if not self._folder.exists():
            return []
        return [m for m in written(self._folder, kind) if self._address in str(m["To"])]

    def count(self, kind: str = "") -> int:
        """How many mails of a kind there are."""
        return len(self._all(kind))

    def next(self, kind: str, count: int = 1) -> EmailMessage:
        """The newest mail of a kind, once there are so many of them."""
        wait_until(lambda: self.count(kind) >= count)
        return self._all(kind)[-1]

    def token(self, kind: str, count: int = 1) -> str:
        """The token in the link of that mail."""
        return link_of(self.next(kind, count)).partition("#token=")[2]
