"""Renders mails as plain text and simple HTML, with their headers.

A template is `KIND.txt`: `Subject: …`, an empty line, the text. `layout.html` renders the HTML part
from it, unless there is a `KIND.html`. A file of the same name in MAIL_TEMPLATES replaces each of
these. All templates are read and rendered once at the start.
"""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from tornado.template import DictLoader

from services.errors import SettingError
from services.mail.kinds import KINDS
from services.mail_outbox import LETTER_KINDS, Letter, LetterKind
from services.settings.smtp import Sender

BUNDLED = Path(__file__).resolve().parent / "templates"
LAYOUT = "layout.html"
SETTING = "USHER_MAIL_TEMPLATES"
TAKES = "a folder with templates of mails; see docs/mail.md"
MAX_TEMPLATE_BYTES = 256 * 1024
SUBJECT = "Subject:"
_URL = re.compile(r"https?://\S+")


class Installation(msgspec.Struct, frozen=True):
    """The values that all mails of an installation share.

    Attributes:
        name: APP_NAME.
        public_url: without a trailing slash. All links begin with it.
        sender: MAIL_FROM, or a stand-in for mails that are written to files.
    """

    name: str
    public_url: str
    sender: Sender


class Letters:
    """Renders mails from templates.

    Args:
        folder: MAIL_TEMPLATES, or None.

    Raises:
        SettingError: a template cannot be read, or does not work.
    """

    def __init__(self, of: Installation, folder: Path | None = None) -> None:
        self._of = of
        self._templates = {**_read(BUNDLED), **({} if folder is None else _own(folder))}
        self._text = DictLoader(self._templates, autoescape=None, whitespace="all")
        self._html = DictLoader(self._templates, whitespace="all")
        for kind in LETTER_KINDS:
            self._try(kind)

    def message(self, letter: Letter, raw: bool = False) -> EmailMessage:
        """Render a mail (RFC 5322).

        Args:
            raw: leave 8-bit text as it is, for files that people read.

        Raises:
            ValueError: the address contains a line end or another control character.
        """
        if not letter.to.isprintable():
            raise ValueError("an address with a character that no header has")
        subject, text = self._rendered(letter)
        message = EmailMessage(policy=SMTP.clone(utf8=not letter.to.isascii()))
        local, _, domain = letter.to.rpartition("@")
        sender = self._of.sender
        message["Subject"] = subject
        message["From"] = Address(sender.name or self._of.name, addr_spec=sender.address)
        message["To"] = Address(username=local, domain=domain)
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = make_msgid(domain=sender.address.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        html = self._page(letter, subject, text)
        message.set_content(text, cte=_encoding(text, raw))
        message.add_alternative(html, subtype="html", cte=_encoding(html, raw))
        return message

    def _rendered(self, letter: Letter) -> tuple[str, str]:
        """Render the subject and the text."""
        made = self._text.load(f"{letter.kind}.txt").generate(**self._names(letter)).decode()
        head, _, text = made.strip().partition("\n")
        if not head.startswith(SUBJECT) or not text.strip():
            raise ValueError(f"it does not begin with {SUBJECT!r}, or there is no text")
        subject = " ".join(head.removeprefix(SUBJECT).split())
        return subject, re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"

    def _page(self, letter: Letter, subject: str, text: str) -> str:
        own = f"{letter.kind}.html"
        names = {**self._names(letter), "subject": subject}
        if own in self._templates:
            return self._html.load(own).generate(**names).decode()
        parts = [" ".join(part.split()) for part in text.split("\n\n")]
        paragraphs = [(part, _URL.fullmatch(part) is not None) for part in parts]
        return self._html.load(LAYOUT).generate(paragraphs=paragraphs, **names).decode()

    def _names(self, letter: Letter) -> dict[str, str]:
        url = self._of.public_url
        return {
            "name": self._of.name,
            "public_url": url,
            "host": urlsplit(url).netloc,
            "sign_in": f"{url}/sign-in",
            **letter.values,
        }

    def _try(self, kind: LetterKind) -> None:
        values = dict.fromkeys(KINDS[kind].values, f"{self._of.public_url}/x#token=x")
        try:
            self.message(Letter(kind, "somebody@example.org", values))
        except Exception as error:  # a template is code, so it may raise anything
            got = f"a template {kind!r} that does not work ({type(error).__name__}: {error})"
            raise SettingError(SETTING, got, TAKES) from error


def _encoding(text: str, raw: bool) -> str:
    if text.isascii() and max(map(len, text.splitlines()), default=0) < 900:
        return "7bit"  # RFC 5322 section 2.1.1: lines of at most 998
    return "8bit" if raw else "quoted-printable"


def _read(folder: Path) -> dict[str, str]:
    return {
        path.name: path.read_text("utf-8")
        for path in sorted(folder.iterdir())
        if path.suffix in (".txt", ".html") and path.stat().st_size <= MAX_TEMPLATE_BYTES
    }


def _own(folder: Path) -> dict[str, str]:
    try:
        found = _read(folder)
    except (OSError, UnicodeDecodeError) as error:
        why = f"{str(folder)!r}, which cannot be read ({type(error).__name__})"
        raise SettingError(SETTING, why, TAKES) from error
    known = {f"{kind}{ending}" for kind in LETTER_KINDS for ending in (".txt", ".html")}
    for name in found:
        if name not in known | {LAYOUT} and not name.startswith("_"):
            got = f"a folder with {name}, which is no mail's (own parts begin with _)"
            raise SettingError(SETTING, got, TAKES)
    return found
