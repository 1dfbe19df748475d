"""What enters the outbox, for whom there is room in it, and what lies sealed in it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import peewee
import pytest

from services.mail import rows
from services.mail.letters import Letters
from services.mail.transports import FileTransport
from services.mail_outbox import Decided, Letter
from services.storage.encryption import Encryption, generate_key
from tests.mail.sendings import ADA, HERE, LINK, sending, server, smtp
from tests.support.mail_server import MailServer, text_of
from tests.support.parts import ISSUER

__all__ = ["server"]


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


def test_what_is_sealed_is_read_as_it_was_written(database_url: str) -> None:
    async def check() -> None:
        async with sending(database_url, FileTransport(Path("/nonexistent"), Letters(HERE))) as one:
            found = one.outbox.open(one.outbox.seal(ADA, {"link": LINK}))
            assert msgspec.to_builtins(found) == {"to": ADA, "values": {"link": LINK}}

    asyncio.run(check())
