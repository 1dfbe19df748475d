"""Sending mails to a real mail server: once, in the background, despite faults."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import peewee
import pytest

from models.mail import OutgoingMail
from services.mail import dispatcher as module
from services.mail import rows
from services.mail.dispatcher import MailDispatcher
from services.mail.kinds import KINDS
from services.mail.letters import Installation, Letters
from services.mail.outbox import MailOutbox
from services.mail.smtp import SmtpTransport
from services.mail.transports import FileTransport, Transport
from services.mail_outbox import Decided, Letter
from services.metrics import Metrics
from services.settings.smtp import Sender, SmtpServer, smtp_url
from services.storage.encryption import Encryption, generate_key
from tests.support.mail_server import (
    PASSWORD,
    USER,
    MailServer,
    link_of,
    mail_server,
    text_of,
    written,
)
from tests.support.parts import ISSUER, Clock, Parts, node
from tests.support.redis import until
from tests.support.redis_forms import certificate

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


def test_a_mail_is_sent_once_and_nothing_of_it_is_kept(
    database_url: str, server: MailServer
) -> None:
    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            await one.reset()
            (row,) = await one.waiting()
            for secret in (ADA, "usher_pl_secret"):
                assert secret not in row.sealed
            await one.work()
            await one.work()
            assert await one.waiting() == []
            assert one.count("sent") == 1

    asyncio.run(check())
    (mail,) = server.mails
    assert (server.senders, server.recipients) == (["usher@usher.test"], [ADA])
    assert link_of(mail) == LINK


def test_nothing_is_sent_of_a_transaction_that_is_rolled_back(
    database_url: str, server: MailServer
) -> None:
    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:

            def work(db: peewee.Database) -> None:
                one.outbox.enqueue(db, "password_changed", ADA, {})
                raise LookupError

            with pytest.raises(LookupError):
                await one.parts.database.run(work)
            await one.work()

    asyncio.run(check())
    assert server.mails == []


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


def test_a_mail_server_that_comes_back_gets_all_that_waited(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usher.mail")

    async def check() -> None:
        with mail_server() as gone:
            pass
        async with sending(database_url, smtp(gone)) as one:
            for number in range(3):
                await one.reset(f"ada{number}@example.org")
            await one.work()
            assert one.metrics.registry.get_sample_value("usher_mail_up") == 0
            await one.work()
            assert one.count("retried") == 1, "it rests"
            with mail_server(port=gone.port) as back:
                one.ticks.forward(module.LONGEST_REST_SECONDS * 1.3)
                await one.work()
                assert len(back.mails) == 3
                assert len({session.peer for session in back.sessions}) == 1, "one connection"
            assert one.metrics.registry.get_sample_value("usher_mail_up") == 1
            assert await one.waiting() == []

    asyncio.run(check())
    assert caplog.text.count("mails are waiting:") == 1
    assert caplog.text.count("mails are sent again") == 1


def test_a_mail_that_is_refused_for_now_is_tried_again_later_and_delays_no_other(
    database_url: str, server: MailServer
) -> None:
    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            server.refused[ADA] = "450 4.2.0 grey ada@example.org"
            await one.reset()
            await one.reset("grace@example.org")
            await one.work()
            assert server.recipients == ["grace@example.org"]
            (row,) = await one.waiting()
            assert row.attempts == 1
            least = row.due_at - one.parts.clock()
            assert 7.5 <= least <= 12.5
            server.refused.clear()
            await one.work()
            assert len(server.mails) == 1
            one.parts.clock.forward(13)
            await one.work()
            assert server.recipients[1:] == [ADA]

    asyncio.run(check())


@pytest.mark.parametrize("where", ["RCPT", "DATA"])
def test_a_permanently_refused_mail_is_dropped(
    database_url: str, server: MailServer, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "usher")
    if where == "RCPT":
        server.refused[ADA] = f"550 5.1.1 no such user {ADA}"
    else:
        server.replies.append(f"554 5.7.1 not for {ADA}")

    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            await one.reset()
            await one.work()
            assert await one.waiting() == []
            assert one.count("refused") == 1
            assert not one.dispatcher.is_failing

    asyncio.run(check())
    assert server.mails == []
    assert "refused with 55" in caplog.text
    assert ADA not in caplog.text


def test_a_mail_is_not_sent_again_where_the_answer_to_it_was_lost(
    database_url: str, server: MailServer
) -> None:
    server.lost = 1

    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            await one.reset()
            for _ in range(3):
                await one.work()
                one.ticks.forward(200)
                one.parts.clock.forward(200)
            assert one.count("unknown") == 1
            assert await one.waiting() == []

    asyncio.run(check())
    assert server.tried == 1


def test_a_mail_whose_link_has_ended_is_dropped_unsent(
    database_url: str, server: MailServer
) -> None:
    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            await one.reset()
            one.parts.clock.forward(KINDS["reset_password"].seconds)
            await one.work()
            assert await one.waiting() == []
            assert one.count("expired") == 1

    asyncio.run(check())
    assert server.tried == 0


def test_of_two_nodes_one_sends_each_mail(database_url: str, server: MailServer) -> None:
    key = Encryption([generate_key()])

    async def check() -> None:
        async with (
            sending(database_url, smtp(server), key, "one") as one,
            sending(database_url, smtp(server), key, "two") as two,
        ):
            for number in range(20):
                await one.reset(f"ada{number}@example.org")

            async def until_empty(each: Sending) -> None:
                while await each.waiting():
                    await each.work()

            await asyncio.gather(until_empty(one), until_empty(two))
            assert one.count("sent") + two.count("sent") == 20

    asyncio.run(check())
    assert sorted(server.recipients) == sorted(f"ada{n}@example.org" for n in range(20))


@pytest.mark.parametrize("handed", [False, True])
def test_the_mail_of_a_node_that_died_is_sent_by_another_unless_it_may_have_been(
    database_url: str, server: MailServer, handed: bool
) -> None:
    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            await one.reset()
            claimed = await one.parts.database.run(rows.claim, one.parts.clock(), "dead")
            assert claimed is not None
            if handed:
                assert await one.parts.database.run(rows.hand, claimed, one.parts.clock())
            await one.work()
            one.ticks.forward(module.CLAIM_SECONDS - 1)
            await one.work()
            assert server.tried == 0
            one.ticks.forward(module.WATCH_SECONDS + 1)
            await one.work()
            await one.work()
            assert server.tried == (0 if handed else 1)
            assert await one.waiting() == []
            # The other wakes up: it may not send the mail that was taken from it.
            assert not await one.parts.database.run(rows.hand, claimed, one.parts.clock())

    asyncio.run(check())


def test_a_clock_that_was_set_back_keeps_no_mail_waiting(
    database_url: str, server: MailServer
) -> None:
    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            await one.reset()
            later = one.parts.clock() + 10 * 86_400
            await one.parts.database.run(
                lambda db: OutgoingMail.update({OutgoingMail.due_at: later}).execute(db)
            )
            await one.work()
            assert one.count("sent") == 1

    asyncio.run(check())


def test_mails_under_a_key_that_is_not_there_wait_for_it(
    database_url: str, server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    key = generate_key()
    encryption = Encryption([key])

    async def check() -> None:
        async with sending(database_url, smtp(server), encryption) as one:
            await one.reset()
            await one.reset("grace@example.org")
            encryption.replace_keys([generate_key()])
            await one.work()
            assert len(await one.waiting()) == 2
            encryption.replace_keys([key])
            one.parts.clock.forward(60)
            await one.work()
            assert one.count("sent") == 2

    asyncio.run(check())
    assert caplog.text.count("no encryption key fits") == 1


def test_unauthenticated_clients_fill_their_share_of_the_outbox_only(
    database_url: str, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_ASKED_ROWS", 3)
    monkeypatch.setattr(rows, "MAX_ROWS", 2)

    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            for number in range(5):
                await one.parts.database.run(
                    one.outbox.ask, "forgot", f"ada{number}@example.org", {}
                )
            for _ in range(4):
                await one.outbox.send("password_changed", ADA, {})
            kinds = [row.kind for row in await one.waiting()]
            assert kinds == ["forgot"] * 3 + ["password_changed"] * 2
            assert one.count("dropped") == 4

    asyncio.run(check())


def test_requests_of_unauthenticated_clients_delay_no_notice(
    database_url: str, server: MailServer
) -> None:
    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            for number in range(3):
                await one.reset(f"ada{number}@example.org")
            await one.outbox.send("password_changed", ADA, {})
            await one.work()

    asyncio.run(check())
    assert server.recipients[0] == ADA
    assert len(server.recipients) == 4


def test_a_mailbox_that_has_had_enough_gets_no_more(database_url: str, server: MailServer) -> None:
    async def never(_: Letter) -> bool:
        return False

    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            one.dispatcher._may = never
            await one.outbox.send("password_changed", ADA, {})
            await one.work()
            assert one.count("limited") == 1
            assert await one.waiting() == []

    asyncio.run(check())
    assert server.tried == 0


@pytest.mark.parametrize("known", [True, False])
def test_a_question_becomes_a_mail_or_nothing(
    database_url: str, server: MailServer, known: bool
) -> None:
    after: list[str] = []

    def decide(db: peewee.Database, to: str, values: dict[str, str]) -> Decided:
        letter = Letter("reset_password", to, {"link": LINK}) if known else None
        return Decided(letter, lambda: after.append(values["why"]))

    async def check() -> None:
        async with sending(database_url, smtp(server)) as one:
            one.dispatcher.on_asked({"forgot": decide})
            await one.parts.database.run(one.outbox.ask, "forgot", ADA, {"why": "asked"})
            await one.work()
            assert await one.waiting() == []
            assert one.count("not_needed") == (0 if known else 1)

    asyncio.run(check())
    assert after == ["asked"]
    assert [text_of(mail).count(LINK) for mail in server.mails] == ([1] if known else [])


def test_a_mail_with_other_values_or_a_link_elsewhere_is_a_mistake(database_url: str) -> None:
    async def check() -> None:
        async with sending(database_url, FileTransport(Path("/nonexistent"), Letters(HERE))) as one:
            wrong: list[dict[str, Any]] = [
                {},
                {"link": LINK, "more": "x"},
                {"link": "https://evil.example/x"},
                {"link": f"{ISSUER}.evil.example/x"},
            ]
            for values in wrong:
                with pytest.raises(ValueError, match="a mail reset_password"):
                    await one.outbox.send("reset_password", ADA, values)

    asyncio.run(check())


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


def test_what_is_sealed_is_read_as_it_was_written(database_url: str) -> None:
    async def check() -> None:
        async with sending(database_url, FileTransport(Path("/nonexistent"), Letters(HERE))) as one:
            found = one.outbox.open(one.outbox.seal(ADA, {"link": LINK}))
            assert msgspec.to_builtins(found) == {"to": ADA, "values": {"link": LINK}}

    asyncio.run(check())
