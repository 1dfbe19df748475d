"""Many frames of one socket under way at once: order, bounds, and what a cut leaves undone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest

from handlers.websocket.replies import UNDER_WAY, UNDER_WAY_BYTES, ReplyQueue
from services.bus.bus_redis import RedisBus
from services.bus.log_keys import log_key
from services.grants.rules import Right
from services.rooms.room_names import channel_room
from services.websocket.frames import Opcode
from services.websocket.protocol import CloseCode, Frame
from tests.support.parts import Parts, Peer, client_frame, node, open_socket, redis_away
from tests.support.redis import RealRedis, redis_server, until, within

__all__ = ["redis_server"]

MANY = 10 * UNDER_WAY


async def nothing() -> None:
    """An outcome."""


def take(replies: ReplyQueue, size: int = 1, *, alone: bool = False) -> bool:
    outcome = nothing()
    full = replies.add(Frame("message", data=msgspec.Raw(b"x" * size)), outcome, alone)
    outcome.close()  # nobody waits for it here
    return full


# ---- how many ------------------------------------------------------------------------------


def test_so_many_are_accepted_and_others_again_when_half_are_answered() -> None:
    replies = ReplyQueue()
    assert [take(replies) for _ in range(UNDER_WAY)] == [False] * (UNDER_WAY - 1) + [True]
    half = UNDER_WAY // 2
    assert [replies.done() for _ in range(half)] == [False] * (half - 1) + [True]
    assert not replies.done(), "there was room already"
    assert [take(replies) for _ in range(half + 1)] == [False] * half + [True]


def test_large_ones_fill_it_sooner() -> None:
    replies = ReplyQueue()
    assert not take(replies, UNDER_WAY_BYTES - 1)
    assert take(replies)
    assert replies.done(), "only the small one is left"
    assert take(replies, UNDER_WAY_BYTES), "one of the largest goes alone"
    assert not replies.done()
    assert replies.done()


def test_nothing_is_accepted_behind_one_that_is_alone_until_all_are_answered() -> None:
    replies = ReplyQueue()
    assert not take(replies)
    assert take(replies, alone=True)
    assert [replies.done(), replies.done()] == [False, True]
    assert replies.first() is None
    assert not take(replies), "it is over with the answer"


def test_each_has_its_turn_as_it_came() -> None:
    replies = ReplyQueue()
    frames = [Frame("message", msgspec.Raw(b"%d" % n)) for n in range(3)]
    for frame in frames:
        outcome = nothing()
        replies.add(frame, outcome, alone=False)
        outcome.close()
    seen = []
    while (turn := replies.first()) is not None:
        seen.append(turn[0])
        replies.done()
    assert seen == frames


# ---- on a socket ---------------------------------------------------------------------------


class Speaker:
    """A socket that says many things in one breath, in a channel of its own user."""

    def __init__(self, parts: Parts, peer: Peer, owner: str, channel: str) -> None:
        self.parts, self.peer, self.owner, self.channel = parts, peer, owner, channel
        self.room = channel_room(channel)
        self.messages: list[Any] = []

    def frame(self, number: int, event: str = "message", **data: Any) -> bytes:
        body = {"event": event, "id": number, "data": {"room": self.room, **data}}
        return client_frame(Opcode.TEXT, msgspec.json.encode(body))

    def says(self, numbers: range, text: str = "") -> bytes:
        return b"".join(self.frame(number, data=[number, text]) for number in numbers)

    async def replies(self, count: int) -> list[Any]:
        """So many replies, in their order; messages that come between are noted."""
        found: list[Any] = []
        while len(found) < count:
            event = await self.peer.event()
            if event["event"] == "reply":
                found.append(event)
            elif event["event"] == "message":
                self.messages.append(event["data"])
        return found

    async def said(self, count: int) -> list[int]:
        """What members heard, once it is so much."""
        while len(self.messages) < count:
            event = await self.peer.event()
            if event["event"] == "message":
                self.messages.append(event["data"])
        return [message["data"][0] for message in self.messages]

    @property
    def issued(self) -> int:
        """How many messages were given to Redis."""
        return sum(group[0][0] == "EVAL" for group in self.parts.store.groups)


@asynccontextmanager
async def speaker(where: str, redis: RealRedis | None) -> AsyncIterator[Speaker]:
    async with node(where, redis) as parts:
        if isinstance(parts.bus, RedisBus):
            parts.bus._store = parts.store  # which counts
        owner, user = await parts.user("Owner"), await parts.user("Ada")
        channel = (await parts.channels.create(owner, "Herons")).id
        await parts.channels.put_member(owner, channel, user, Right.WRITE)
        parts.clock.forward(1)
        peer = await open_socket(parts, await parts.signed_in(user))
        parts.store.groups.clear()
        yield Speaker(parts, peer, owner, channel)


@contextmanager
def paused(redis: RealRedis) -> Iterator[None]:
    """Redis answers nothing meanwhile, and all it is asked once it goes on."""
    redis.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        redis.send_signal(signal.SIGCONT)


def order(message_id: str) -> tuple[int, ...]:
    return tuple(map(int, message_id.split("-")))


def ok(replies: list[Any]) -> list[int]:
    assert all(reply["ok"] for reply in replies), replies
    return [reply["id"] for reply in replies]


def logged(redis: RealRedis, room: str) -> list[int]:
    """What the room's log has."""
    entries = redis.ask("XRANGE", log_key(room), "-", "+")
    return [msgspec.json.decode(b"{" + fields[3])["data"][0] for _, fields in entries]


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", ["redis", "memory"])
async def test_pipelined_messages_are_logged_received_and_answered_in_order(
    database_url: str, redis_server: RealRedis, kind: str
) -> None:
    async with speaker(database_url, redis_server if kind == "redis" else None) as s:
        await s.peer.send(s.says(range(MANY)))
        replies = await s.replies(MANY)
        assert ok(replies) == list(range(MANY))
        ids = [reply["data"]["id"] for reply in replies]
        assert ids == sorted(set(ids), key=order)
        assert await s.said(MANY) == list(range(MANY))
        assert [message["id"] for message in s.messages] == ids


@pytest.mark.gen_test
async def test_every_frame_between_messages_is_answered_once_and_in_its_turn(
    database_url: str, redis_server: RealRedis
) -> None:
    async with speaker(database_url, redis_server) as s:
        foreign = {"room": "channel:nobody-knows"}
        kinds: list[tuple[str, dict[str, Any], str | None]] = [
            ("message", {"data": [0]}, None),
            ("heartbeat", {}, None),
            ("message", {**foreign, "data": 0}, "forbidden"),
            ("message", {"data": [1]}, None),
            ("nonsense", {}, "unknown_event"),
            ("message", {"room": 7}, "bad_request"),
            ("typing", {}, None),
            ("usage", {"model": "gpt"}, None),
            ("typing", foreign, "forbidden"),
            ("presence", {}, None),
        ]
        asked = [kinds[number % len(kinds)] for number in range(MANY)]
        with paused(redis_server):  # so that the first message holds up all of them
            frames = (s.frame(n, name, **data) for n, (name, data, _) in enumerate(asked))
            await s.peer.send(b"".join(frames))
            await until(lambda: s.issued == 1)
        replies = await s.replies(MANY)
        assert [reply["id"] for reply in replies] == list(range(MANY))
        errors = [reply.get("error", {}).get("code") for reply in replies]
        assert errors == [error for _, _, error in asked]


@pytest.mark.gen_test
async def test_no_more_than_the_bound_is_read_while_redis_does_not_answer(
    database_url: str, redis_server: RealRedis
) -> None:
    async with speaker(database_url, redis_server) as s:
        with paused(redis_server):
            await s.peer.send(s.says(range(MANY)))
            await until(lambda: s.issued == UNDER_WAY)
            await asyncio.sleep(0.05)  # more would be issued by now
            assert s.issued == UNDER_WAY
        assert ok(await s.replies(MANY)) == list(range(MANY))
        assert await s.said(MANY) == list(range(MANY))


@pytest.mark.gen_test
async def test_of_large_messages_no_more_bytes_wait_than_the_bound(
    database_url: str, redis_server: RealRedis
) -> None:
    async with speaker(database_url, redis_server) as s:
        with paused(redis_server):
            sending = asyncio.create_task(s.peer.send(s.says(range(8), "x" * 40_000)))
            await until(lambda: s.issued == 2)
            await asyncio.sleep(0.05)
            assert s.issued == 2
        assert ok(await s.replies(8)) == list(range(8))
        await within(sending)


@pytest.mark.gen_test
async def test_after_a_close_no_further_frame_is_processed(
    database_url: str, redis_server: RealRedis
) -> None:
    async with speaker(database_url, redis_server) as s:
        with paused(redis_server):
            few = range(UNDER_WAY - 2)
            held = s.frame(99, "usage", model="gpt")
            await s.peer.send(s.says(few) + held + s.says(range(100, 200)))
            await until(lambda: s.issued == len(few))
            before = len(s.parts.store.groups)
            # The signed-out user's socket: closed before its logout is answered.
            s.peer.client.close(CloseCode.SESSION_REVOKED)
        frames = await s.peer.last_words()
        assert not [text for kind, text in frames if kind == Opcode.TEXT and b'"reply"' in text]
        await until(lambda: logged(redis_server, s.room) == list(few))
        await until(lambda: s.peer.client._replies is None)
        await s.parts.store.call(("PING",))
        assert logged(redis_server, s.room) == list(few), "issued before the cut, and no other"
        names = {c[0] for group in s.parts.store.groups[before:] for c in group}
        assert names <= {"DEL", "ZREM", "PUBLISH", "PING"}, "the socket's own leaving"


@pytest.mark.gen_test
async def test_a_right_that_is_taken_away_counts_for_every_message_not_yet_read(
    database_url: str, redis_server: RealRedis
) -> None:
    async with speaker(database_url, redis_server) as s:
        with paused(redis_server):
            await s.peer.send(s.says(range(MANY)))
            await until(lambda: s.issued == UNDER_WAY)
            await s.peer.client.membership.change(s.channel, None)
        replies = await s.replies(MANY)
        assert [reply["id"] for reply in replies] == list(range(MANY))
        assert [reply["ok"] for reply in replies].count(True) == UNDER_WAY
        codes = {reply["error"]["code"] for reply in replies[UNDER_WAY:]}
        assert codes == {"forbidden"}
        assert logged(redis_server, s.room) == list(range(UNDER_WAY))


@pytest.mark.gen_test
async def test_without_redis_each_is_refused_by_itself_and_the_socket_continues(
    database_url: str, redis_server: RealRedis
) -> None:
    async with speaker(database_url, redis_server) as s:
        with paused(redis_server):
            await s.peer.send(s.says(range(MANY)))
            await until(lambda: s.issued == UNDER_WAY)
        await redis_away(s.parts, redis_server)
        replies = await s.replies(MANY)
        assert [reply["id"] for reply in replies] == list(range(MANY))
        codes = {reply["error"]["code"] for reply in replies if not reply["ok"]}
        assert codes == {"unavailable"}
        await s.peer.send(s.frame(1000, "heartbeat"))
        assert ok(await s.replies(1)) == [1000]


@pytest.mark.gen_test
async def test_where_redis_does_not_keep_the_order_messages_go_one_at_a_time(
    database_url: str, redis_server: RealRedis
) -> None:
    async with speaker(database_url, redis_server) as s:
        s.parts.context.may_overlap = False  # as on a cluster, whose slots may move
        with paused(redis_server):
            await s.peer.send(s.says(range(MANY)))
            await until(lambda: s.issued)
            await asyncio.sleep(0.05)
            assert s.issued == 1
        assert ok(await s.replies(MANY)) == list(range(MANY))
        assert await s.said(MANY) == list(range(MANY))


@pytest.mark.gen_test
async def test_a_fault_of_ours_is_answered_and_those_behind_it_have_their_turn(
    database_url: str, redis_server: RealRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaker(database_url, redis_server) as s:
        people = s.parts.presence.people

        async def faulty(room: str) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(s.parts.presence, "people", faulty)
        await s.peer.send(s.says(range(3)) + s.frame(3, "presence") + s.says(range(4, 7)))
        replies = await s.replies(7)
        assert [reply["id"] for reply in replies] == list(range(7))
        assert [reply["ok"] for reply in replies] == [True] * 3 + [False] + [True] * 3
        assert replies[3]["error"]["code"] == "internal"
        monkeypatch.setattr(s.parts.presence, "people", people)
        await s.peer.send(s.frame(8, "presence"))
        assert ok(await s.replies(1)) == [8]
