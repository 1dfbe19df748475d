"""Sends mails to a mail server (RFC 5321), over one connection while there are mails to send.

Its errors contain only the step and the reply code, because replies quote addresses.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Literal

from aiosmtplib import SMTP
from aiosmtplib.errors import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPException,
    SMTPNotSupported,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from services.errors import UsherError
from services.mail.letters import Letters
from services.mail.transports import Hand, MailRefused, OutcomeUnknown, ServerFailed
from services.mail_outbox import Letter
from services.settings.smtp import Sender, SmtpServer

STEP_SECONDS = 10.0
"""Timeout of one command. RFC 5321 section 4.5.3.2 recommends minutes, for background queues."""
SEND_SECONDS = 40.0
"""Timeout of a whole mail, including connecting."""
LOST = (SMTPServerDisconnected, SMTPTimeoutError, OSError, asyncio.TimeoutError, EOFError)
SERVICE_NOT_AVAILABLE = 421


class SmtpTransport:
    """A connection to the mail server of SMTP_URL.

    Args:
        name: the host name that is sent with EHLO.
        tls: verifies the server's certificate.
    """

    state: Literal["ok", "files"] = "ok"

    def __init__(
        self, server: SmtpServer, sender: Sender, letters: Letters, name: str, tls: ssl.SSLContext
    ) -> None:
        self._server, self._sender, self._letters = server, sender, letters
        self._name, self._tls = name, tls
        self._client: SMTP | None = None

    async def send(self, letter: Letter, hand: Hand) -> bool:
        """Send a mail. Returns False if `hand` returned False.

        Raises:
            ServerFailed: connecting, TLS, signing in or MAIL FROM failed.
            MailRefused: the server refused this recipient or this text.
            OutcomeUnknown: the connection was lost after the text was sent.
        """
        handed = False

        async def hand_over() -> bool:
            nonlocal handed
            handed = await hand()
            return handed

        try:
            return await asyncio.wait_for(self._send(letter, hand_over), SEND_SECONDS)
        except (SMTPException, OSError, asyncio.TimeoutError) as error:
            await self._drop()
            if handed:
                raise OutcomeUnknown(f"no answer to a mail ({type(error).__name__})") from None
            raise ServerFailed(f"{_step(error)} failed ({_reason(error)})") from None
        except UsherError:
            raise
        except BaseException:  # also if cancelled: the connection is in the middle of a mail
            await self._drop()
            raise

    async def check(self) -> None:
        """Connect, sign in and disconnect. No mail is sent.

        Raises:
            ServerFailed: connecting, TLS or signing in failed.
        """
        try:
            await asyncio.wait_for(self._connected(), SEND_SECONDS)
        except (SMTPException, OSError, asyncio.TimeoutError) as error:
            await self._drop()
            raise ServerFailed(f"{_step(error)} failed ({_reason(error)})") from None
        await self.close()

    async def close(self) -> None:
        """Close the session (QUIT)."""
        client, self._client = self._client, None
        if client is None:
            return
        with suppress(SMTPException, OSError, asyncio.TimeoutError):
            await client.quit(timeout=1.0)
        client.close()

    async def _send(self, letter: Letter, hand: Hand) -> bool:
        client = await self._connected()
        utf8 = not letter.to.isascii()
        if utf8 and not client.supports_extension("smtputf8"):
            raise MailRefused("the mail server takes no address beyond ASCII", for_good=True)
        content = self._letters.message(letter).as_bytes()
        options, encoding = (["SMTPUTF8"], "utf-8") if utf8 else ([], "ascii")
        await client.mail(self._sender.address, options=options, encoding=encoding)
        try:
            await client.rcpt(letter.to, encoding=encoding)
            if not await hand():
                await client.rset()
                return False
            await client.data(content)
        except SMTPResponseException as error:
            if error.code == SERVICE_NOT_AVAILABLE:
                await self._drop()
            else:
                await self._reset(client)
            refused = f"{_step(error)} refused with {error.code}"
            raise MailRefused(refused, for_good=error.code >= 500) from None
        return True

    async def _connected(self) -> SMTP:
        if self._client is not None and self._client.is_connected:
            return self._client
        server = self._server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            username=None if server.username is None else server.username.reveal(),
            password=None if server.password is None else server.password.reveal(),
            local_hostname=self._name,
            timeout=STEP_SECONDS,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
            tls_context=None if server.tls == "none" else self._tls,
        )
        await client.connect()
        self._client = client
        return client

    async def _reset(self, client: SMTP) -> None:
        try:
            await client.rset()
        except (SMTPException, OSError, asyncio.TimeoutError):
            await self._drop()

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _step(error: BaseException) -> str:
    if isinstance(error, SMTPAuthenticationError):
        return "signing in to the mail server"
    if isinstance(error, SMTPConnectError | OSError) and not isinstance(error, LOST[:2]):
        return "connecting to the mail server"
    name = type(error).__name__
    steps = {
        "SMTPSenderRefused": "MAIL FROM",
        "SMTPRecipientRefused": "RCPT TO",
        "SMTPDataError": "DATA",
        "SMTPHeloError": "EHLO",
    }
    return steps.get(name, "talking to the mail server")


def _reason(error: BaseException) -> str:
    """Describe an error without the server's text, which may quote an address."""
    if isinstance(error, SMTPResponseException):
        return f"reply {error.code}"
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLError):
        return getattr(cause, "verify_message", "") or cause.reason or type(cause).__name__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(error, SMTPNotSupported | SMTPException) and "STARTTLS" in str(error).upper():
        return "it offers no STARTTLS"
    return type(cause).__name__
