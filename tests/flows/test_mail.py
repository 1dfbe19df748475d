"""Mails of a real server through a real mail server: over TLS, once, and delaying nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.databases import kinds, look, slow
from tests.support.mail_server import PASSWORD as MAIL_PASSWORD
from tests.support.mail_server import USER, MailServer, link_of, mail_server
from tests.support.redis import RealRedis, redis_server
from tests.support.redis_forms import certificate
from tests.support.server import (
    PASSWORD,
    Client,
    Usher,
    address,
    log_in,
    sign_up,
    usher,
    wait_until,
)

__all__ = ["redis_server"]

database_kind = kinds("sqlite", slow("postgresql"))  # tests/mail has the SQL on both

NEW = "an otter under the old bridge 3"
FORGOT, RESET = "/api/auth/password/forgot", "/api/auth/password/reset"


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Path]:
    return certificate(tmp_path)


@pytest.fixture
def postman(tls: tuple[Path, Path]) -> Iterator[MailServer]:
    """A mail server that demands STARTTLS and a password."""
    with mail_server(tls) as running:
        yield running


@pytest.fixture
def server(
    database_kind: str, tls: tuple[Path, Path], postman: MailServer, redis_server: RealRedis
) -> Iterator[Usher]:
    """An Usher that trusts the mail server's certificate."""
    password = MAIL_PASSWORD.replace("@", "%40").replace("/", "%2F").replace(" ", "%20")
    url = f"smtp://{USER}:{password}@127.0.0.1:{postman.port}?starttls=on"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(tls[0]))
        with usher(
            database_kind,
            SMTP_URL=url,
            MAIL_FROM="Reading Room <room@example.org>",
            APP_NAME="The Reading Room",
            REDIS_URL=redis_server.url,
        ) as running:
            yield running


def test_a_forgotten_password_and_nothing_of_it_is_kept(
    server: Usher, postman: MailServer, redis_server: RealRedis
) -> None:
    email = address()
    sign_up(server, email=email)
    assert Client(server).post(FORGOT, {"email": email}).status == 204
    wait_until(lambda: len(postman.to(email)) == 2)
    mail = postman.to(email)[-1]
    assert mail["From"] == "Reading Room <room@example.org>"
    assert "The Reading Room" in mail["Subject"]
    token = link_of(mail).partition("#token=")[2]
    body = {"token": token, "new_password": NEW}
    assert Client(server).post(RESET, body).status == 204
    log_in(server, email, password=NEW)
    wait_until(lambda: len(postman.to(email)) == 3)
    wait_until(lambda: look(server.database_url, "SELECT id FROM outgoing_mails") == [])
    assert not (server.data_dir / "mail").exists()
    for secret in (email, token, MAIL_PASSWORD, "usher_pl_"):
        assert secret not in server.log
    kept = stored(redis_server)
    assert email not in kept
    assert "usher_pl_" not in kept
    assert Client(server).get("/readyz").body["mail"] == "ok"


def stored(redis_server: RealRedis) -> str:
    """Every key and value of Redis, as text."""
    with redis.Redis.from_url(redis_server.url) as client:
        dumped = [(key, client.dump(key)) for key in client.scan_iter()]
    return repr(dumped)


def test_an_unavailable_mail_server_delays_no_caller(database_kind: str) -> None:
    with mail_server() as gone:
        pass
    email = address()
    settings = {"SMTP_URL": gone.url, "MAIL_FROM": "room@example.org"}
    with usher(database_kind, **settings) as server:
        ada = sign_up(server, email=email)
        assert Client(server).post(FORGOT, {"email": email}).status == 204
        wait_until(lambda: Client(server).get("/readyz").body["mail"] == "failing")
        ready = Client(server).get("/readyz")
        assert (ready.status, ready.body["status"]) == (200, "ready")
        assert re.search(
            r"^usher_mail_up 0", Client(server).get("/metrics").text.decode(), re.MULTILINE
        )
        assert ada.get("/api/auth/me").status == 200
        log_in(server, email)
        server.restart()
        with mail_server(port=gone.port) as back:
            assert {mail["Subject"] for mail in back.wait_for(2)} == {
                "Set a new password for Usher",
                "Confirm your address for Usher",
            }
            token = link_of(next(m for m in back.mails if "new password" in m["Subject"]))
            body = {"token": token.partition("#token=")[2], "new_password": NEW}
            assert Client(server).post(RESET, body).status == 204
        assert email not in server.log


def test_without_a_mail_server_the_start_screen_says_where_mails_are(database_kind: str) -> None:
    with usher(database_kind) as server:
        folder = server.data_dir / "mail"
        assert f"Mail      no SMTP_URL: as files in {folder.resolve()}" in server.log
        sign_up(server)
        wait_until(lambda: list(folder.glob("*-verify_address-*.eml")))
        assert PASSWORD not in "".join(path.read_text() for path in folder.iterdir())
