"""Sending mails to a real mail server: once, in the background, despite faults."""

from __future__ import annotations

import asyncio
import logging

import pytest

from models.mail import OutgoingMail
from services.mail import dispatcher as module
from services.mail import rows
from services.mail.kinds import KINDS
from services.storage.encryption import Encryption, generate_key
from tests.mail.sendings import ADA, LINK, Sending, sending, server, smtp
from tests.support.mail_server import MailServer, link_of, mail_server

__all__ = ["server"]


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
