"""SMTP_URL and MAIL_FROM: accepted values, their meaning, and errors without secrets."""

from __future__ import annotations

import pytest

from services.secret import Secret
from services.settings.smtp import Sender, SmtpServer, mail_from, smtp_url
from services.settings.values import BadValue


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("smtp://mail.example", SmtpServer("mail.example", 587, None, None, "starttls")),
        (
            "smtp://ada%40x.example:p%2Fw@mail.example:25",
            SmtpServer("mail.example", 25, Secret("ada@x.example"), Secret("p/w"), "starttls"),
        ),
        ("smtps://mail.example", SmtpServer("mail.example", 465, None, None, "implicit")),
        ("smtp://localhost:1025", SmtpServer("localhost", 1025, None, None, "none")),
        ("smtp://127.0.0.1:25", SmtpServer("127.0.0.1", 25, None, None, "none")),
        ("smtp://[::1]:25", SmtpServer("::1", 25, None, None, "none")),
        ("smtp://127.0.0.1?starttls=on", SmtpServer("127.0.0.1", 587, None, None, "starttls")),
        ("smtp://relay:25?starttls=off", SmtpServer("relay", 25, None, None, "none")),
    ],
)
def test_a_url_of_a_mail_server_is_accepted(text: str, server: SmtpServer) -> None:
    assert smtp_url(text) == server


@pytest.mark.parametrize(
    "text",
    [
        "mail.example:587",
        "http://mail.example",
        "smtp://",
        "smtp://mail.example:no",
        "smtp://mail.example/path",
        "smtp://mail.example?starttls=maybe",
        "smtp://mail.example?startls=off",
        "smtps://mail.example?starttls=off",
        "smtp://ada@mail.example",
        "smtp://ada:geheim@mail example",
        "smtp://ada:geheim@mail.example:99999",
        "smtp://ada:geheim@mail.example\r\nX",
    ],
)
def test_what_is_no_such_url_is_refused_without_showing_its_password(text: str) -> None:
    with pytest.raises(BadValue) as refused:
        smtp_url(text)
    assert "geheim" not in str(refused.value.got)
    assert "ada" not in str(refused.value.got)


@pytest.mark.parametrize(
    ("text", "sender"),
    [
        ("usher@example.org", Sender("usher@example.org")),
        ("Example <usher@example.org>", Sender("usher@example.org", "Example")),
        ('"Example, Inc." <usher@example.org>', Sender("usher@example.org", "Example, Inc.")),
    ],
)
def test_a_sender_is_an_address_with_or_without_a_name(text: str, sender: Sender) -> None:
    assert mail_from(text) == sender


@pytest.mark.parametrize(
    "text",
    ["", "usher", "usher@", "@example.org", "a@b@c", "a b@c.example", "x <a@b>\nBcc: y@z", "<a@b"],
)
def test_what_is_no_sender_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        mail_from(text)
