"""Users whose mails are files, the calls that send them, and a server whose log names nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.databases import look
from tests.support.mail_server import Mailbox
from tests.support.raw import assert_quiet
from tests.support.server import Answer, Client, Usher, address, sign_up, usher

NEW = "an otter under the old bridge 3"
FORGOT, RESET = "/api/auth/password/forgot", "/api/auth/password/reset"
EMAIL, CONFIRM = "/api/auth/email", "/api/auth/email/confirm"
VERIFY, UNDO = "/api/auth/email/verify", "/api/auth/email/undo"
MAIL_FILES = re.compile(r"usher_pl_[A-Za-z0-9_-]{20,}|[a-z0-9]+@example\.org")


@pytest.fixture(scope="module")
def installation(database_kind: str) -> Iterator[Usher]:
    """An Usher whose administrator is there already."""
    with usher(database_kind) as server:
        sign_up(server)
        yield server
        assert_quiet(server.log)
        assert MAIL_FILES.findall(server.log) == [], "no address and no token in the log"


def mailbox(server: Usher, email: str) -> Mailbox:
    return Mailbox(server.data_dir, email)


def post(server: Usher, path: str, **body: Any) -> Answer:
    return Client(server).post(path, body)


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"] if answer.body else ""


def new_account(server: Usher) -> tuple[Client, str, Mailbox]:
    email = address()
    return sign_up(server, email=email), email, mailbox(server, email)


def verified(server: Usher) -> tuple[Client, str, Mailbox]:
    """Somebody whose address is confirmed."""
    client, email, box = new_account(server)
    assert client.post(CONFIRM, {"token": box.token("verify_address")}).status == 204
    return client, email, box


def audited(server: Usher, kind: str) -> int:
    """How many entries of a kind the audit trail has."""
    query = "SELECT COUNT(*) FROM audit_events WHERE kind = ?"
    return int(look(server.database_url, query, kind)[0][0])


def is_verified(server: Usher, email: str) -> bool:
    rows = look(server.database_url, "SELECT email_verified FROM users WHERE email = ?", email)
    return bool(rows[0][0])
