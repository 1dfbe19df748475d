"""Mail transports: the interface, and files in DATA_DIR/mail for installations without SMTP_URL."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, Protocol

from services.errors import Unavailable
from services.mail.letters import Letters
from services.mail_outbox import Letter

FOLDER = "mail"
FOLDER_MODE, FILE_MODE = 0o700, 0o600
MAX_FILES = 1000
KEEP_SECONDS = 7 * 86_400.0

Hand = Callable[[], Awaitable[bool]]
"""Called just before the text is sent. Returns False if another node sends the mail."""


class ServerFailed(Unavailable):
    """The mail server cannot be used at the moment. The mail was not sent."""


class MailRefused(Unavailable):
    """The mail server has refused this mail. `for_good`: permanently (5xx)."""

    def __init__(self, evidence: str, for_good: bool) -> None:
        super().__init__(evidence)
        self.for_good = for_good


class OutcomeUnknown(Unavailable):
    """The text was sent, but there was no reply, so the mail may have been accepted."""


class Transport(Protocol):
    """The interface of a transport. `state`: its name in /readyz while it works."""

    state: Literal["ok", "files"]

    async def send(self, letter: Letter, hand: Hand) -> bool:
        """Send a mail. Returns False if `hand` returned False.

        Raises:
            ServerFailed, MailRefused: it was not sent.
            OutcomeUnknown: it may have been sent.
        """

    async def close(self) -> None:
        """Close the connection, if there is one. The next mail opens a new one."""


class FileTransport:
    """Writes mails as .eml files that only the server's user can read.

    Args:
        folder: DATA_DIR/mail; created with the first mail.
    """

    state: Literal["ok", "files"] = "files"

    def __init__(self, folder: Path, letters: Letters) -> None:
        self._folder, self._letters = folder, letters

    async def send(self, letter: Letter, hand: Hand) -> bool:
        """Write a mail as a new file.

        Raises:
            ServerFailed: the folder or the file cannot be written.
        """
        content = self._letters.message(letter, raw=True).as_bytes()
        if not await hand():
            return False
        name = f"{time.time_ns() // 1_000_000}-{letter.kind}-{secrets.token_hex(4)}.eml"
        try:
            await asyncio.to_thread(self._write, name, content)
        except OSError as error:
            raise ServerFailed(f"DATA_DIR/mail: {error.strerror or error}") from error
        return True

    async def close(self) -> None:
        """Does nothing, as no connection is open."""

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._folder.chmod(FOLDER_MODE)
        self._forget_old()
        # Renamed when complete, so that readers only see whole files.
        unfinished = self._folder / f".{name}.part"
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(content)
            unfinished.rename(self._folder / name)
        except BaseException:  # also if cancelled: no unfinished file may remain
            unfinished.unlink(missing_ok=True)
            raise

    def _forget_old(self) -> None:
        """Delete old mails, because their links may still be valid."""
        names = sorted(path.name for path in self._folder.glob("*.eml"))
        before = int((time.time() - KEEP_SECONDS) * 1000)
        old = [name for name in names if name.partition("-")[0] < f"{before:013d}"]
        for name in {*old, *names[: max(0, len(names) - MAX_FILES + 1)]}:
            (self._folder / name).unlink(missing_ok=True)
