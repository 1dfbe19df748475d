"""Several nodes during faults: a node, Redis, the network between them, PostgreSQL."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from tests.support.databases import kinds, on_postgresql
from tests.support.nodes import Nodes, at, channel, let_in, nodes, put_out
from tests.support.postgres import postgres_server
from tests.support.redis import RealRedis, until
from tests.support.server import Client, Usher, sign_up
from tests.support.talk import Talker, start_talking, talking

pytestmark = pytest.mark.slow

# Several nodes are run on PostgreSQL, as a rule; test_nodes_flow.py has them on one SQLite file.
database_kind = kinds("postgresql")

PACE = 0.001
"""Seconds between two messages of a chatter: at 5,000 a second the log of 1,000 messages would
have forgotten some before a node that has just got its line back can read them."""
LEASE = 30.0
MARGIN = 6.0
"""Seconds on top of a lease, for a busy machine."""
WITHOUT_MESSAGES = 3.0
"""Seconds: the contract's bound where messages between nodes are lost."""


async def blocking(work: Any, *args: Any) -> Any:
    return await asyncio.to_thread(work, *args)


@contextmanager
def deaf(database_kind: str) -> Iterator[Nodes]:
    """Two nodes over one database whose messages never meet: each has a Redis of its own."""
    other = RealRedis()
    try:
        with nodes(database_kind, 1) as both:
            both.start(REDIS_URL=other.url)
            yield both
    finally:
        other.close()


class Chatter:
    """Somebody who says 0, 1, 2, … in a room; what is refused is said again later, as new."""

    def __init__(self, talker: Talker, room: str) -> None:
        self._talker, self._room = talker, room
        self.acknowledged: dict[int, str] = {}
        """What was said for certain, and its id."""
        self.refused: set[int] = set()
        self._count = 0
        self._on = True

    async def run(self) -> None:
        while self._on:
            number, self._count = self._count, self._count + 1
            reply = await self._talker.ask("message", {"room": self._room, "data": number})
            if reply["ok"]:
                self.acknowledged[number] = reply["data"]["id"]
                await asyncio.sleep(PACE)
            else:
                assert reply["error"]["code"] == "unavailable", reply
                self.refused.add(number)
                await asyncio.sleep(0.02)  # a paced retry, as a client would

    async def says_more(self, count: int = 20) -> None:
        """Wait until so much more was said for certain."""
        goal = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= goal)

    def stop(self) -> None:
        self._on = False


@asynccontextmanager
async def chattering(talker: Talker, room: str) -> AsyncIterator[Chatter]:
    chatter = Chatter(talker, room)
    task = asyncio.create_task(chatter.run())
    try:
        yield chatter
    finally:
        chatter.stop()
        await task


def in_order_and_once(talker: Talker, room: str) -> list[int]:
    """What was heard; it has to grow, in ids and in what was said."""
    orders = [tuple(map(int, m["id"].split("-"))) for m in talker.messages(room)]
    assert orders == sorted(set(orders))
    said = talker.said(room)
    numbers = [n for n in said if isinstance(n, int)]
    assert numbers == sorted(set(numbers))
    return numbers


# ---- a node dies ----------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=90)
async def test_what_a_killed_node_had_is_gone_after_its_lease(database_kind: str) -> None:
    with nodes(database_kind) as both:
        active, dying = both
        ann, bob = sign_up(active), sign_up(active)
        room = channel(ann, bob)
        async with talking(active, ann, ticket=False) as a:
            b = await start_talking(dying, at(dying, bob), ticket=False)
            await b.ok("usage", {"model": "of-the-dead"})
            await a.sees(room, a.id, b.id)
            await a.next("presence", lambda d: b.member in d["joined"])
            assert live_sockets(active, bob) == 1
            dying.process.kill()
            killed = time.monotonic()
            assert await b.code() == 1006
            await a.sees(room, a.id, seconds=LEASE + MARGIN)
            assert (await a.next("presence", lambda d: d["left"]))["left"] == [b.member]
            assert time.monotonic() - killed < LEASE + MARGIN
            await until(lambda: live_sockets(active, bob) == 0, killed + LEASE + MARGIN - now())
            assert (await a.ok("usage", {"model": "mine"}))["models"] == ["mine"]
            # No one waits for a node that is dead.
            answer = await blocking(at(active, bob).post, "/api/auth/logout?wait=true")
            assert answer.body["pending"] == 0
            # A token goes on holding one socket, for longer than a lease.
            other = both.start()
            async with talking(other, at(other, ann), ticket=False):
                assert await a.code() == 4409


def now() -> float:
    return time.monotonic()


def live_sockets(node: Any, client: Client) -> int:
    items = at(node, client).get("/api/sessions").body["items"]
    return sum(int(item["live_sockets"]) for item in items)


@pytest.mark.gen_test(timeout=60)
async def test_a_client_that_reconnects_to_another_node_misses_no_message(
    database_kind: str,
) -> None:
    with nodes(database_kind, 3) as three:
        ann, bob = sign_up(three[0]), sign_up(three[0])
        room = channel(ann, bob)
        async with talking(three[0], ann) as a, chattering(a, room) as chatter:
            for node in (three[1], three[2]):
                b = await start_talking(node, at(node, bob))
                await b.received(room, 1)
                node.process.kill()
                await b.code()
                last = b.messages(room)[-1]
                await chatter.says_more()
                async with talking(three[0], bob) as back:
                    missed = await read_all(back, room, last["id"])
                    live = await back.received(room, 1)
                    together = {m["id"]: m["data"] for m in [last, *missed, *live]}
                    numbers = list(together.values())
                    assert numbers == list(range(last["data"], numbers[-1] + 1))


async def read_all(talker: Talker, room: str, after: str) -> list[Any]:
    """Everything behind an id; there must be no gap."""
    read: list[Any] = []
    more = True
    while more:
        part = await talker.ok("history", {"room": room, "after": after})
        assert part["complete"] is True
        read += part["messages"]
        more, after = part["more"], read[-1]["id"] if read else after
    return read


# ---- every message between nodes is lost ----------------------------------------------------


@pytest.mark.gen_test(timeout=60)
async def test_with_every_message_lost_sockets_still_go_within_three_seconds(
    database_kind: str,
) -> None:
    with deaf(database_kind) as both:
        first, second = both

        def log_out(client: Client) -> None:
            assert client.post("/api/auth/logout").status == 204

        def disable(client: Client) -> None:
            path = f"/api/admin/users/{client.user['id']}"
            assert both.admin.call("PATCH", path, {"disabled": True}).status == 200

        def promote(client: Client) -> None:
            path = f"/api/admin/users/{client.user['id']}"
            assert both.admin.call("PATCH", path, {"role": "admin"}).status == 200

        for end, code in ((log_out, 4410), (disable, 4410), (promote, 4419)):
            user = sign_up(first)
            sockets = [await start_talking(second, at(second, user)) for _ in range(3)]
            await blocking(end, user)
            since = time.monotonic()
            for socket in sockets:
                assert await socket.code() == code
            assert time.monotonic() - since < WITHOUT_MESSAGES


@pytest.mark.gen_test(timeout=60)
async def test_with_every_message_lost_rights_still_go_within_three_seconds(
    database_kind: str,
) -> None:
    with deaf(database_kind) as both:
        first, second = both
        ann, bob = sign_up(first), sign_up(first)
        room = channel(ann)
        async with (
            talking(second, at(second, ann)) as a,
            talking(second, at(second, bob)) as b,
        ):
            for change, inside in ((let_in, True), (put_out, False)) * 2:
                await blocking(change, ann, room, bob)
                reported = await b.next("access-changed", seconds=WITHOUT_MESSAGES)
                assert (room in reported["rooms"]) is inside
                await a.say(room, inside)
                await a.hears(room, inside)
            await b.settle()
            assert b.said(room) == [True, True]


@pytest.mark.gen_test(timeout=60)
async def test_a_cut_line_loses_no_message_and_repeats_none(database_kind: str) -> None:
    with nodes(database_kind) as both:
        ann = sign_up(both[0])
        room = channel(ann)
        async with (
            talking(both[0], ann) as a,
            talking(both[1], at(both[1], ann)) as b,
            talking(both[1], at(both[1], ann)) as speaker,
        ):
            async with chattering(speaker, room) as chatter:
                for kind in ("pubsub", "normal", "pubsub") * 3:
                    await chatter.says_more()
                    both.redis.ask("CLIENT", "KILL", "TYPE", kind)
                await chatter.says_more()
            certain = list(chatter.acknowledged)
            for talker in (a, b, speaker):
                await talker.hears(room, certain[-1])
                received = in_order_and_once(talker, room)
                assert set(received) >= set(certain), set(certain) - set(received)
                assert set(received) - set(certain) <= chatter.refused


@pytest.mark.gen_test(timeout=60)
async def test_news_that_were_missed_while_the_line_was_cut_are_acted_upon(
    database_kind: str,
) -> None:
    with nodes(database_kind) as both:
        for _ in range(3):
            user = sign_up(both[0])
            b = await start_talking(both[1], at(both[1], user))
            for kind in ("pubsub", "normal"):
                both.redis.ask("CLIENT", "KILL", "TYPE", kind)
            assert (await blocking(user.post, "/api/auth/logout")).status == 204
            since = time.monotonic()
            assert await b.code() == 4410
            assert time.monotonic() - since < WITHOUT_MESSAGES


# ---- Redis ----------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=90)
async def test_redis_may_crash_and_restart_empty_during_traffic(
    database_kind: str,
) -> None:
    with nodes(database_kind) as both:
        ann, bob = sign_up(both[0]), sign_up(both[0])
        room = channel(ann, bob)
        async with (
            talking(both[0], ann) as a,
            talking(both[1], at(both[1], bob)) as b,
            chattering(a, room) as chatter,
        ):
            await chatter.says_more()
            known = (await b.received(room, 20))[-1]
            both.redis.kill()
            await until(lambda: len(chatter.refused) > 5)
            last = max(chatter.acknowledged)  # it may have died with Redis, unsent
            assert await b.refused("history", {"room": room}) == "unavailable"
            both.redis.start()
            await chatter.says_more(50)
            certain = list(chatter.acknowledged)
            for talker in (a, b):
                assert talker.is_open
                await talker.hears(room, certain[-1])
                received = in_order_and_once(talker, room)
                assert set(certain) - set(received) <= {last}
            part = await b.ok("history", {"room": room, "after": known["id"]})
            assert part["complete"] is False
            await b.sees(room, a.id, b.id, seconds=15)
            # Earlier revocations still apply.
            await blocking(put_out, ann, room, bob)
            await b.next("access-changed")
            assert room not in (await b.ok("join-channels"))["rooms"]


@pytest.mark.gen_test(timeout=90)
async def test_without_redis_revocations_and_rights_still_count_on_every_node(
    database_kind: str,
) -> None:
    with nodes(database_kind) as both:
        ann, bob = sign_up(both[0]), sign_up(both[0])
        room = channel(ann, bob)
        b = await start_talking(both[1], at(both[1], bob))
        async with talking(both[0], ann) as a:
            both.redis.kill()
            await blocking(put_out, ann, room, bob)
            reported = await b.next("access-changed", seconds=WITHOUT_MESSAGES)
            assert room not in reported["rooms"]
            assert await b.refused("message", {"room": room, "data": 1}) == "forbidden"
            assert await a.refused("message", {"room": room, "data": 1}) == "unavailable"
            assert await a.refused("usage", {"model": "m"}) == "unavailable"
            answer = await blocking(bob.post, "/api/auth/logout?wait=true")
            assert answer.status == 200
            assert answer.body["pending"] is None
            assert await b.code(WITHOUT_MESSAGES) == 4410
            # Who comes now is checked against the database, and is in their rooms.
            carl = sign_up(both[1])
            async with talking(both[1], at(both[1], ann), ticket=False) as other:
                assert room in other.joined["rooms"]
                both.redis.start()
                await until(lambda: both.listeners(room) == 2)
                await until(lambda: all(redis_of(each) == "ok" for each in both))
                await other.say(room, "back")
                for talker in (a, other):
                    await talker.hears(room, "back")
            assert carl.user["role"] == "user"


def redis_of(server: Usher) -> str:
    """What a node says of its own line to Redis; that of the rooms may be up before it."""
    return str(Client(server).get("/readyz").body["redis"])


@pytest.mark.gen_test(timeout=60)
async def test_a_paused_redis_repeats_nothing_when_it_continues(database_kind: str) -> None:
    with nodes(database_kind) as both:
        ann = sign_up(both[0])
        room = channel(ann)
        async with talking(both[0], ann) as a, talking(both[1], at(both[1], ann)) as b:
            async with chattering(a, room) as chatter:
                await chatter.says_more()
                both.redis.send_signal(signal.SIGSTOP)
                await until(lambda: len(chatter.refused) > 10)
                await b.settle()
                both.redis.send_signal(signal.SIGCONT)
                await chatter.says_more(50)
            certain = list(chatter.acknowledged)
            for talker in (a, b):
                await talker.hears(room, certain[-1])
                received = in_order_and_once(talker, room)
                assert set(certain) <= set(received) <= set(certain) | chatter.refused


# ---- PostgreSQL -----------------------------------------------------------------------------


@on_postgresql  # SQLite's file does not go away
@pytest.mark.gen_test(timeout=90)
async def test_without_the_database_rooms_continue_and_nothing_new_is_granted(
    database_kind: str,
) -> None:
    with nodes(database_kind) as both:
        ann, bob = sign_up(both[0]), sign_up(both[0])
        room = channel(ann, bob)
        async with talking(both[0], ann) as a, talking(both[1], at(both[1], bob)) as b:
            try:
                postgres_server().kill()
                known = await a.say(room, "still here")
                await b.hears(room, "still here")
                await b.sees(room, a.id, b.id)
                # Rights can't be looked up: that is no reason to give them.
                assert await b.refused("join-channels") == "unavailable"
                assert await b.refused("history", {"room": room}) == "unavailable"
                refused = ann.call("DELETE", f"/api/channels/{room[8:]}/members/{b.id}")
                assert refused.status == 503
            finally:
                postgres_server().start()
            await until(lambda: at(both[0], ann).get("/readyz").status == 200)
            await until(lambda: at(both[1], ann).get("/readyz").status == 200)
            await a.say(room, "again")
            part = await b.ok("history", {"room": room, "after": known})
            assert [message["data"] for message in part["messages"]] == ["again"]
            await blocking(put_out, ann, room, bob)
            assert room not in (await b.next("access-changed"))["rooms"]
