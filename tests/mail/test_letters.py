"""The format of mails: headers, text and HTML, custom templates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.errors import SettingError
from services.mail.kinds import KINDS
from services.mail.letters import BUNDLED, Installation, Letters
from services.mail_outbox import LETTER_KINDS, Letter, LetterKind
from services.settings.smtp import Sender
from tests.support.mail_server import html_of, link_of, parsed, text_of

URL = "https://usher.example"
HERE = Installation("Example & Co", URL, Sender("usher@usher.example"))
LINK = f"{URL}/set-password#token=usher_pl_abc"
RESET = Letter("reset_password", "ada@example.org", {"link": LINK})


def sent(letter: Letter, letters: Letters | None = None) -> bytes:
    return (letters or Letters(HERE)).message(letter).as_bytes()


@pytest.mark.parametrize("kind", LETTER_KINDS)
def test_each_kind_names_the_sender_and_links_to_the_public_url_only(kind: LetterKind) -> None:
    values = dict.fromkeys(KINDS[kind].values, LINK)
    mail = parsed(sent(Letter(kind, "ada@example.org", values)))
    text, html = text_of(mail), html_of(mail)
    assert "Example & Co" in text
    assert "Example &amp; Co" in html
    assert "\n" not in mail["Subject"]
    for part in (text, html):
        links = re.findall(r"https?://[^\s\"<>]+", part)
        assert all(link.startswith(f"{URL}/") for link in links)
    if "link" in values:
        assert f'<a href="{LINK}">' in html
        assert LINK in text
    assert not re.search(r"<img|<script|src=|url\(", html), "nothing is loaded when it is read"


def test_the_headers_say_that_a_machine_wrote_it() -> None:
    mail = parsed(sent(RESET))
    assert mail["To"] == "ada@example.org"
    assert mail["From"] == "Example & Co <usher@usher.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime is not None
    assert re.fullmatch(r"<[^<>@\s]+@usher\.example>", mail["Message-ID"])
    assert parsed(sent(RESET))["Message-ID"] != mail["Message-ID"]


def test_a_link_can_be_copied_from_the_file_as_it_is() -> None:
    assert LINK.encode() in sent(RESET)
    cafe = Letters(Installation("Café", URL, Sender("usher@usher.example")))
    assert LINK.encode() in cafe.message(RESET, raw=True).as_bytes()


def test_a_mail_server_that_takes_seven_bits_gets_no_more() -> None:
    cafe = Letters(Installation("Café", URL, Sender("usher@usher.example", "Große Küche")))
    content = sent(RESET, cafe)
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    mail = parsed(content)
    assert mail["From"].addresses[0].display_name == "Große Küche"
    assert link_of(mail) == LINK
    assert "Café" in text_of(mail)


@pytest.mark.parametrize(
    "address", ["a@b.example\nBcc: x@y.example", "a@b.example\r\n\r\nHello", "a\x00@b.example"]
)
def test_no_address_can_add_a_header(address: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        sent(Letter("address_known", address, {}))


def test_no_value_can_add_a_header_or_an_element() -> None:
    evil = "Phone\nBcc: x@y.example\n\n<script>alert(1)</script>"
    content = sent(Letter("new_sign_in", "ada@example.org", {"device": evil, "time": "now"}))
    mail = parsed(content)
    assert mail["Bcc"] is None
    assert "<script>" not in html_of(mail)


def test_an_address_beyond_ascii_is_written_as_it_is() -> None:
    content = sent(Letter("address_known", "jürgen@example.org", {}))
    assert "\r\nTo: jürgen@example.org\r\n".encode() in content


def test_own_templates_stand_in_for_those_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "reset_password.txt").write_text(
        "Subject: {{ name }}: neues Passwort\n\nHier:\n\n{{ link }}\n\n{% include '_foot.txt' %}"
    )
    (tmp_path / "_foot.txt").write_text("Ihre Küche, {{ host }}")
    letters = Letters(HERE, tmp_path)
    mail = parsed(sent(RESET, letters))
    assert mail["Subject"] == "Example & Co: neues Passwort"
    assert text_of(mail).split("\n\n")[-1].strip() == "Ihre Küche, usher.example"
    assert f'<a href="{LINK}">' in html_of(mail)
    other = parsed(sent(Letter("address_known", "ada@example.org", {}), letters))
    assert "belongs to an account" in text_of(other)


def test_an_own_page_is_accepted_as_it_is_and_escapes_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "reset_password.html").write_text('<p>{{ name }}</p><a href="{{ link }}">go</a>')
    html = html_of(parsed(sent(RESET, Letters(HERE, tmp_path))))
    assert html.strip() == f'<p>Example &amp; Co</p><a href="{LINK}">go</a>'


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("reset_password.txt", "Subject: x\n\n{{ nobody }}", "reset_password"),
        ("reset_password.txt", "Hello\n\nno subject", "reset_password"),
        ("reset_password.txt", "Subject: only", "reset_password"),
        ("reset_password.txt", "Subject: x\n\n{% if %}", "reset_password"),
        ("layout.html", "{{ nobody }}", "does not work"),
        ("reset_pasword.txt", "Subject: x\n\ny", "reset_pasword.txt"),
    ],
)
def test_a_template_that_does_not_work_stops_the_start(
    tmp_path: Path, file: str, content: str, says: str
) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(SettingError) as refused:
        Letters(HERE, tmp_path)
    assert refused.value.name == "USHER_MAIL_TEMPLATES"
    assert says in refused.value.got


def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingError):
        Letters(HERE, tmp_path / "nowhere")


def test_there_is_a_template_for_each_kind_and_no_other() -> None:
    found = {path.stem for path in BUNDLED.glob("*.txt")}
    assert found == set(LETTER_KINDS)
