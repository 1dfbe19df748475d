"""How a mail leaves: over SMTP with TLS, or as a file where there is no mail server."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest

from services.mail import dispatcher as module
from services.mail.letters import Letters
from services.mail.transports import FileTransport
from services.settings.smtp import smtp_url
from tests.mail.sendings import ADA, HERE, LINK, sending, server, smtp
from tests.support.mail_server import PASSWORD, USER, MailServer, link_of, mail_server, written
from tests.support.redis import until
from tests.support.redis_forms import certificate

__all__ = ["server"]


@pytest.mark.parametrize("implicit", [False, True])
def test_it_signs_in_over_tls_whose_certificate_it_checks(
    tmp_path: Path, database_url: str, implicit: bool
) -> None:
    tls = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tls[0]))

    async def check(url: str) -> None:
        there = smtp_url(url)
        async with sending(database_url, smtp(there, trusting)) as one:
            await one.reset()
            await one.work()
            assert one.count("sent") == 1
        async with sending(database_url, smtp(there)) as one:
            await one.reset()
            await one.work()
            assert one.count("retried") == 1, "not to a server that it does not trust"
            assert one.dispatcher.is_failing

    with mail_server(tls, implicit) as server:
        password = PASSWORD.replace("@", "%40").replace("/", "%2F").replace(" ", "%20")
        url = f"smtp://{USER}:{password}@127.0.0.1:{server.port}?starttls=on"
        if implicit:
            url = f"smtps://127.0.0.1:{server.port}"
        asyncio.run(check(url))
        (session,) = server.sessions
        assert implicit or (session.ssl is not None and session.authenticated)


def test_no_mail_and_no_password_is_sent_to_a_server_without_starttls(
    database_url: str, server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"smtp://usher:geheim@127.0.0.1:{server.port}?starttls=on"

    async def check() -> None:
        async with sending(database_url, smtp(smtp_url(url))) as one:
            await one.reset()
            await one.work()
            assert len(await one.waiting()) == 1

    asyncio.run(check())
    assert server.tried == 0
    assert "STARTTLS" in caplog.text
    assert "geheim" not in caplog.text


def test_a_wrong_password_is_said_once_without_it_and_tried_again_with_pauses(
    tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    tls = certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(tls[0]))

    async def check(port: int) -> None:
        url = f"smtp://usher:geheim@127.0.0.1:{port}?starttls=on"
        async with sending(database_url, smtp(smtp_url(url), context)) as one:
            await one.reset()
            for _ in range(3):
                await one.work()
                one.ticks.forward(100)
            assert one.count("retried") == 3
            (row,) = await one.waiting()
            assert (row.attempts, row.claim) == (0, None), "it is not this mail's fault"

    with mail_server(tls) as server:
        asyncio.run(check(server.port))
        assert server.tried == 0
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in said] == [
        "mails are waiting: signing in to the mail server failed (reply 535); retried with pauses"
    ]
    assert ADA not in caplog.text


def test_without_a_mail_server_mails_become_files_for_the_servers_user_only(
    tmp_path: Path, database_url: str
) -> None:
    folder = tmp_path / "data" / "mail"

    async def check() -> None:
        async with sending(database_url, FileTransport(folder, Letters(HERE))) as one:
            await one.reset()
            await one.outbox.send("password_changed", ADA, {})
            await one.work()
            assert await one.waiting() == []

    asyncio.run(check())
    second, first = written(folder)
    assert link_of(first) == LINK
    assert "was changed" in second["Subject"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_old_files_are_forgotten(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.mail.transports.MAX_FILES", 3)
    (tmp_path / "0000000000001-reset_password-a.eml").touch()
    (tmp_path / "notes.txt").touch()

    async def check() -> None:
        async with sending(database_url, FileTransport(tmp_path, Letters(HERE))) as one:
            for _ in range(5):
                await one.reset()
            await one.work()

    asyncio.run(check())
    assert len(written(tmp_path)) == 3
    assert (tmp_path / "notes.txt").exists()
    assert not (tmp_path / "0000000000001-reset_password-a.eml").exists()


def test_a_folder_that_cannot_be_written_keeps_mails_waiting(
    tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "mail").touch()

    async def check() -> None:
        async with sending(database_url, FileTransport(tmp_path / "mail", Letters(HERE))) as one:
            await one.reset()
            await one.work()
            (row,) = await one.waiting()
            assert (row.claim, row.is_handed) == (None, False)
            (tmp_path / "mail").unlink()
            one.ticks.forward(100)
            await one.work()
            assert len(written(tmp_path / "mail")) == 1

    asyncio.run(check())


def test_a_server_that_answers_nothing_keeps_a_stop_waiting_for_a_moment_only(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)

    async def check() -> None:
        writers: list[asyncio.StreamWriter] = []
        silent = await asyncio.start_server(lambda _, w: writers.append(w), "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        async with sending(database_url, smtp(smtp_url(f"smtp://127.0.0.1:{port}"))) as one:
            await one.reset()
            loop = asyncio.ensure_future(one.work())
            await until(lambda: one.dispatcher._task is not None)
            loop.cancel()
            await asyncio.wait_for(one.dispatcher.close(), 5)
        for writer in writers:
            writer.close()
        silent.close()

    asyncio.run(check())
