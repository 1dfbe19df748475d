"""A node whose event loop stalled exchanges no data before it has read the revocations."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.flows.test_nodes_faults import blocking, deaf
from tests.support.databases import kinds, on_postgresql
from tests.support.nodes import at, channel, nodes
from tests.support.postgres import postgres_server
from tests.support.redis import until
from tests.support.server import Client, Usher, sign_up
from tests.support.talk import Talker, start_talking, talking

pytestmark = pytest.mark.slow

# Several nodes are run on PostgreSQL, as a rule; test_nodes_flow.py has them on one SQLite file.
database_kind = kinds("postgresql")

REVOKED = 20
STOPPED_SECONDS = 1.5
"""What counts as a stall, and a little more."""


@asynccontextmanager
async def stopped(node: Usher, seconds: float = STOPPED_SECONDS) -> AsyncIterator[None]:
    """A node that does not run, for so long at least."""
    node.process.send_signal(signal.SIGSTOP)
    since = asyncio.get_running_loop().time()
    try:
        yield
        await asyncio.sleep(since + seconds - asyncio.get_running_loop().time())
    finally:
        node.process.send_signal(signal.SIGCONT)


async def all_log_out(clients: Sequence[Client], node: Usher) -> None:
    """Acknowledged, by that node, when this returns."""
    for client in clients:
        answer = await blocking(at(node, client).post, "/api/auth/logout")
        assert answer.status == 204


class OpenRequest:
    """An HTTP request that is sent now and answered later."""

    def __init__(self, node: Usher, token: str | None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=20)
        headers = {"Authorization": f"Bearer {token}"}
        self._connection.request("GET", "/api/auth/me", headers=headers)

    def status(self) -> int:
        with contextlib.closing(self._connection):
            return self._connection.getresponse().status


async def speak_while_stopped(talkers: Sequence[Talker], room: str) -> list[int]:
    """Each asks and says something. Returns how many events each has had until then."""
    await asyncio.sleep(0.1)  # until what the node wrote before has been read
    before = [len(talker.events) for talker in talkers]
    for talker in talkers:
        talker.answered = 0
        for _ in range(3):
            for event, data in (
                ("heartbeat", None),
                ("message", {"room": room, "data": "of a revoked session"}),
                ("typing", {"room": room}),
            ):
                asks = talker.asks(event, data)
                asks.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.sleep(0.1)  # until all of it lies with the stopped node
    return before


async def no_word_of(talkers: Sequence[Talker], before: Sequence[int]) -> None:
    """They are closed with 4410, and had nothing but `closing` since."""
    for talker, count in zip(talkers, before, strict=True):
        assert await talker.code() == 4410
        assert [frame["event"] for frame in talker.events[count:]] == ["closing"]
        assert talker.answered == 0, "a revoked socket got an answer"


@pytest.mark.gen_test(timeout=90)
async def test_a_suspended_node_accepts_no_message_of_a_revoked_socket(database_kind: str) -> None:
    with nodes(database_kind) as both:
        running, stalling = both
        ann = sign_up(running)
        revoked = [sign_up(running) for _ in range(REVOKED)]
        room = channel(ann, *revoked)
        async with (
            talking(running, ann) as here,
            talking(stalling, at(stalling, ann)) as there,
        ):
            talkers = [await start_talking(stalling, at(stalling, each)) for each in revoked]
            await here.sees(room, here.id, *(talker.id for talker in talkers))
            async with stopped(stalling):
                await all_log_out(revoked, running)
                await here.say(room, "said while it stood still")
                before = await speak_while_stopped(talkers, room)
                requests = [OpenRequest(stalling, each.token) for each in revoked]
            await no_word_of(talkers, before)
            assert [await blocking(each.status) for each in requests] == [401] * REVOKED
            # Who was not revoked goes on, and has missed nothing.
            await there.hears(room, "said while it stood still")
            await there.say(room, "still here")
            for talker in (here, there):
                await talker.hears(room, "still here")
                assert "of a revoked session" not in talker.said(room)
            await here.settle()
            assert not [e for e in here.events if e["event"] == "typing"]


@pytest.mark.gen_test(timeout=90)
async def test_rows_are_enough_for_a_node_that_stood_still(database_kind: str) -> None:
    with deaf(database_kind) as both:
        running, stalling = both
        revoked = [sign_up(running) for _ in range(5)]
        talkers = [await start_talking(stalling, at(stalling, each)) for each in revoked]
        async with stopped(stalling):
            await all_log_out(revoked, running)
            before = await speak_while_stopped(talkers, "channel:none")
            requests = [OpenRequest(stalling, each.token) for each in revoked]
        await no_word_of(talkers, before)
        assert [await blocking(each.status) for each in requests] == [401] * len(revoked)


@on_postgresql  # SQLite's file does not go away
@pytest.mark.gen_test(timeout=90)
async def test_without_the_database_the_news_are_enough_after_a_stall(database_kind: str) -> None:
    with nodes(database_kind) as both:
        running, stalling = both
        revoked = [sign_up(running) for _ in range(5)]
        ann = sign_up(running)
        room = channel(ann, *revoked)
        talkers = [await start_talking(stalling, at(stalling, each)) for each in revoked]
        async with talking(stalling, at(stalling, ann)) as there:
            try:
                async with stopped(stalling):
                    await all_log_out(revoked, running)
                    before = await speak_while_stopped(talkers, room)
                    postgres_server().kill()
                await no_word_of(talkers, before)
                await there.say(room, "still here")
                await there.settle()
                assert there.said(room) == ["still here"]
            finally:
                postgres_server().start()


@on_postgresql
@pytest.mark.gen_test(timeout=90)
async def test_without_both_stores_after_a_stall_no_data_is_exchanged_until_the_lease_expires(
    database_kind: str,
) -> None:
    with nodes(database_kind, LEASE_SECONDS=6) as both:
        running, stalling = both
        ann, bob = sign_up(running), sign_up(running)
        room = channel(ann, bob)
        a = await start_talking(running, ann)
        b = await start_talking(stalling, at(stalling, bob))
        try:
            async with stopped(stalling):
                await all_log_out([bob], running)
                await speak_while_stopped([b], room)
                postgres_server().kill()
                both.redis.kill()
            since = asyncio.get_running_loop().time()
            assert await b.code() == 4503
            assert asyncio.get_running_loop().time() - since < 6.5
            assert b.answered == 0
        finally:
            both.redis.start()
            postgres_server().start()
        await until(lambda: Client(stalling).get("/readyz").status == 200)
        assert "of a revoked session" not in a.said(room)
        request = OpenRequest(stalling, bob.token)
        assert await blocking(request.status) == 401
        await a.close()
