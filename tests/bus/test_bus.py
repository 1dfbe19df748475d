"""The bus between nodes: one suite for both implementations, in memory and over a real Redis."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.bus import LARGE_BYTES, SENDER_BYTES, Bus, LoggedMessage, Window, id_order
from services.bus.bus_memory import MemoryBus
from services.bus.bus_redis import RedisBus
from services.bus.log_keys import log_key
from services.redis.store_redis import RedisStore
from tests.support.parts import Clock
from tests.support.redis import PATIENCE, RealRedis, run, until, within

ROOM = "channel:herons"
BODIES = [
    b"",
    b" ",
    b"k1-1 a kept one in disguise",
    b"p",
    b"\x00\r\n$3\r\n*1",
    bytes(range(256)),
    b"x" * 70_000,
]
NO_ID = ["", "x", "1", "-", "+", "1-", "-1", "0-0", "1-1-1", "(1-0", "1 -0", "-1-0", "1-x", "٣-٣"]
NO_ID += ["9" * 20 + "-0", "1-" + "9" * 20, "9" * 5000 + "-0", "1-0\r\nFLUSHALL", "\ud800-0"]


@dataclass
class Ear:
    """A listener that records its calls."""

    kept_messages: list[tuple[str, LoggedMessage]] = field(default_factory=list)
    said: list[tuple[str, bytes]] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def logged(self, room: str, message: LoggedMessage) -> None:
        self.kept_messages.append((room, message))

    def ephemeral(self, room: str, body: bytes) -> None:
        self.said.append((room, body))

    def gap(self, room: str) -> None:
        self.gaps.append(room)

    def bodies(self, room: str = ROOM) -> list[bytes]:
        return [message.body for where, message in self.kept_messages if where == room]

    def ids(self, room: str = ROOM) -> list[str]:
        return [message.id for where, message in self.kept_messages if where == room]

    async def hears(self, count: int) -> None:
        """Wait until so many messages of either kind came, and no more."""
        await until(lambda: len(self.kept_messages) + len(self.said) >= count)
        await asyncio.sleep(0.01)
        assert len(self.kept_messages) + len(self.said) == count


@dataclass
class Installation:
    """A bus with a listener."""

    bus: Bus
    ear: Ear
    clock: Clock | None

    async def later(self, seconds: float) -> None:
        """Let time pass. Redis has a clock of its own, which no test can turn."""
        if self.clock is not None:
            self.clock.forward(seconds)
        else:
            await asyncio.sleep(seconds)

    def now(self) -> float:
        return self.clock() if self.clock is not None else time.time()

    async def hear(self, *rooms: str) -> None:
        await received(self.bus, *rooms)

    async def say(self, *bodies: bytes, room: str = ROOM) -> list[str]:
        return [await self.bus.keep(room, body) for body in bodies]

    async def read(self, after: str | None = None, limit: int = 100, since: float = 0.0) -> Window:
        window = await self.bus.read(ROOM, after, limit, since)
        ids = [message.id for message in window.messages]
        assert ids == sorted(set(ids), key=id_order), "oldest first, each once"
        return window


async def received(bus: Bus, *rooms: str) -> None:
    """Subscribe, and wait until it is certain."""
    for future in [bus.subscribe(room) for room in rooms]:
        if future is not None:
            await within(future)


def said(window: Window) -> list[bytes]:
    return [message.body for message in window.messages]


@asynccontextmanager
async def installation(
    redis: RealRedis | None,
    messages: int = 1000,
    seconds: float = 3600.0,
    sender_bytes: int = SENDER_BYTES,
) -> AsyncIterator[Installation]:
    clock = Clock() if redis is None else None
    store = None
    if redis is None:
        assert clock is not None
        bus: Bus = MemoryBus(messages, seconds, clock, sender_bytes)
    else:
        store = RedisStore(redis.url, timeout=PATIENCE)
        await store.connect()
        over_redis = RedisBus(redis.url, store, messages, seconds, sender_bytes=sender_bytes)
        await over_redis.open()
        bus = over_redis
    ear = Ear()
    bus.listen(ear)
    try:
        yield Installation(bus, ear, clock)
    finally:
        await bus.close()
        if store is not None:
            await store.close()


@pytest.fixture(params=["memory", "redis"])
def redis(request: pytest.FixtureRequest) -> Iterator[RealRedis | None]:
    """A real Redis whose streams are trimmed to the message; None: all in memory."""
    if request.param == "memory":
        yield None
        return
    server = RealRedis("--stream-node-max-entries", "1")
    yield server
    server.close()


# ---- kept messages, live -------------------------------------------------------------------


@pytest.mark.gen_test
async def test_what_is_kept_without_waiting_has_the_order_of_the_calls(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        assert h.bus.keeps_order
        await h.hear(ROOM)
        bodies = [f"{n}".encode() for n in range(200)]
        kept = [h.bus.keep(ROOM, body) for body in bodies]
        ids = [await each for each in reversed(kept)]
        assert ids == sorted(set(ids), key=id_order, reverse=True)
        await h.ear.hears(len(bodies))
        assert h.ear.bodies() == bodies
        assert said(await h.read(limit=len(bodies))) == bodies


@pytest.mark.gen_test
async def test_kept_messages_arrive_in_the_order_of_the_log_with_ids_that_grow(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        given = await h.say(*(b"%d" % n for n in range(50)))
        await h.ear.hears(50)
        assert h.ear.bodies() == [b"%d" % n for n in range(50)]
        assert h.ear.ids() == given
        orders = [id_order(message_id) for message_id in given]
        assert orders == sorted(set(orders))
        assert min(orders) > (0, 0)


@pytest.mark.gen_test
async def test_a_message_id_contains_its_time(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        (message_id,) = await h.say(b"now")
        assert id_order(message_id)[0] / 1000 == pytest.approx(h.now(), abs=60)


@pytest.mark.gen_test
async def test_messages_of_concurrent_senders_are_received_in_one_order(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        given = await asyncio.gather(*(h.bus.keep(ROOM, b"%d" % n) for n in range(300)))
        await h.ear.hears(300)
        assert sorted(h.ear.ids(), key=id_order) == h.ear.ids()
        assert {*h.ear.ids()} == {*given}
        assert [m.id for m in (await h.read(limit=300)).messages] == h.ear.ids()
        by_id = {message.id: message.body for _, message in h.ear.kept_messages}
        assert [by_id[message_id] for message_id in given] == [b"%d" % n for n in range(300)]


@pytest.mark.gen_test
async def test_any_bytes_are_carried_as_they_are(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        await h.say(*BODIES)
        for body in BODIES:
            await h.bus.send(ROOM, body)
        await h.ear.hears(2 * len(BODIES))
        assert h.ear.bodies() == BODIES
        assert h.ear.said == [(ROOM, body) for body in BODIES]
        assert said(await h.read()) == BODIES


@pytest.mark.parametrize(
    "room", ["user:ü", "channel:a}b{c", "channel:{}", "a b\r\nQUIT", "x" * 500]
)
@pytest.mark.gen_test
async def test_a_room_may_have_any_name(redis: RealRedis | None, room: str) -> None:
    async with installation(redis) as h:
        await h.hear(room)
        (message_id,) = await h.say(b"kept", room=room)
        await h.bus.send(room, b"passing")
        await h.ear.hears(2)
        assert h.ear.kept_messages == [(room, LoggedMessage(message_id, b"kept"))]
        assert h.ear.said == [(room, b"passing")]
        assert said(await h.bus.read(room, None, 5)) == [b"kept"]


@pytest.mark.gen_test
async def test_a_room_is_received_from_subscribe_to_unsubscribe_and_no_other(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        await h.say(b"before")
        await h.bus.send(ROOM, b"before")
        await h.hear(ROOM, "channel:witness")
        await h.say(b"during")
        await h.say(b"elsewhere", room="channel:another")
        await h.ear.hears(1)
        h.bus.unsubscribe(ROOM)
        await h.say(b"behind")
        await h.bus.send(ROOM, b"behind")
        await h.say(b"a sign", room="channel:witness")  # behind it nothing is on its way any more
        await h.ear.hears(2)
        assert h.ear.bodies() == [b"during"]
        await h.hear(ROOM)
        await h.say(b"again")
        await h.ear.hears(3)
        assert h.ear.bodies() == [b"during", b"again"]
        assert h.ear.gaps == []


@pytest.mark.gen_test
async def test_what_is_received_already_needs_no_waiting_and_is_reported_once(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        assert h.bus.subscribe(ROOM) is None
        await h.say(b"once")
        await h.ear.hears(1)
        h.bus.unsubscribe("channel:never-heard")
        await h.say(b"still")
        await h.ear.hears(2)


@pytest.mark.gen_test
async def test_going_in_and_out_and_in_within_one_turn_ends_inside(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        for _ in range(3):
            h.bus.subscribe(ROOM)
            h.bus.unsubscribe(ROOM)
        await h.hear(ROOM)
        await h.say(b"inside")
        await until(lambda: b"inside" in h.ear.bodies())
        h.bus.subscribe(ROOM)
        h.bus.unsubscribe(ROOM)
        await h.say(b"outside")
        await h.hear("channel:witness")
        await h.say(b"a sign", room="channel:witness")
        await until(lambda: h.ear.bodies("channel:witness"))
        assert h.ear.bodies() == [b"inside"]


@pytest.mark.gen_test
async def test_after_close_nothing_is_reported(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        await h.bus.close()
        await h.say(b"too late")
        await h.bus.send(ROOM, b"too late")
        await asyncio.sleep(0.05)  # nothing comes; what could, would be here by now
        assert (h.ear.kept_messages, h.ear.said) == ([], [])
        assert said(await h.read()) == [b"too late"], "it was said all the same"


# ---- the bytes of one sender ---------------------------------------------------------------

LARGE = LARGE_BYTES + 1


async def fill(bus: Bus, sender: str, sizes: list[int]) -> list[str]:
    """Messages of these sizes; each begins with its sender and number."""
    texts = [f"{sender} {n}".encode().ljust(size) for n, size in enumerate(sizes)]
    return [await bus.keep(ROOM, text, sender) for text in texts]


async def heads(h: Installation) -> list[str]:
    """Sender and number of each message in the log."""
    return [" ".join(body[:12].decode().split()[:2]) for body in said(await h.read(limit=1000))]


@pytest.mark.gen_test
async def test_a_senders_newest_large_messages_are_kept_up_to_their_bytes(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, sender_bytes=10 * LARGE) as h:
        await fill(h.bus, "ben", [LARGE] * 2)
        ids = await fill(h.bus, "ada", [LARGE] * 25)
        await fill(h.bus, "ben", [LARGE])
        kept = [f"ada {n}" for n in range(15, 25)]
        assert await heads(h) == ["ben 0", "ben 1", *kept, "ben 0"], "nobody else's are removed"
        assert (await h.read(ids[15])).complete
        assert not (await h.read(ids[0])).complete
        assert not (await h.read()).complete, "there is a hole behind the messages of ben"


@pytest.mark.gen_test
async def test_one_message_above_the_bytes_of_its_sender_replaces_the_others(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, sender_bytes=4 * LARGE) as h:
        await fill(h.bus, "ada", [LARGE, LARGE, 70_000])
        assert await heads(h) == ["ada 2"]
        await fill(h.bus, "ada", [LARGE])
        assert await heads(h) == ["ada 0"]


@pytest.mark.gen_test
async def test_small_messages_and_those_without_a_sender_have_no_share_of_bytes(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, sender_bytes=2 * LARGE) as h:
        await fill(h.bus, "ada", [LARGE_BYTES] * 20)
        await fill(h.bus, "", [LARGE] * 20)
        assert len(await heads(h)) == 40


@pytest.mark.gen_test
async def test_messages_that_the_log_lost_already_count_until_newer_ones_push_them_out(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, messages=10, sender_bytes=20 * LARGE) as h:
        await fill(h.bus, "ada", [LARGE] * 100)
        found = await heads(h)
        assert found[-5:] == [f"ada {n}" for n in range(95, 100)]
        assert 5 <= len(found) <= 11, "approximately, as Redis trims"


@pytest.mark.gen_test
async def test_the_bytes_of_a_sender_are_limited_where_they_are_kept(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        for sender in ("ada", "ben"):
            await fill(h.bus, sender, [60_000] * 200)  # 12 MB
        kept = sum(map(len, said(await h.read(limit=1000))))
        assert 2 * (SENDER_BYTES - 60_000) < kept <= 2 * SENDER_BYTES
        if redis is not None:
            used = redis.ask("MEMORY", "USAGE", log_key(ROOM), "SAMPLES", "0")
            assert kept < int(used) < 1.5 * kept


# ---- passing messages ----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_an_ephemeral_message_is_received_and_not_logged(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        h.bus.send(ROOM, b"issued when called")  # nobody awaits it
        await h.bus.send(ROOM, b"and awaited")
        await h.ear.hears(2)
        assert h.ear.said == [(ROOM, b"issued when called"), (ROOM, b"and awaited")]
        assert await h.read() == Window([], complete=True)


@pytest.mark.gen_test
async def test_sending_without_listeners_succeeds(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        await h.bus.send(ROOM, b"hello?")
        (message_id,) = await h.say(b"hello?")
        assert (await h.read()).messages == [LoggedMessage(message_id, b"hello?")]


# ---- reading -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_room_where_nothing_was_said_is_complete_and_empty(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        assert await h.read() == Window([], complete=True, more=False)
        window = await h.bus.read_behind(ROOM, "1-0", 5)
        assert (window.messages, window.complete, window.more) == ([], True, False)


@pytest.mark.gen_test
async def test_what_is_behind_an_id_is_given_and_nothing_else(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        ids = await h.say(*(b"%d" % n for n in range(5)))
        for n, after in enumerate(ids):
            window = await h.read(after)
            assert said(window) == [b"%d" % later for later in range(n + 1, 5)]
            assert (window.complete, window.more) == (True, False)
        await h.say(b"another", room="channel:another")
        assert await h.read(ids[-1]) == Window([], complete=True)


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
@pytest.mark.gen_test
async def test_a_window_has_a_limit_and_says_whether_there_is_more(
    redis: RealRedis | None, limit: int
) -> None:
    async with installation(redis) as h:
        ids = await h.say(*(b"%d" % n for n in range(5)))
        window = await h.read(limit=limit)
        assert said(window) == [b"%d" % n for n in range(min(limit, 5))]
        assert (window.complete, window.more) == (True, limit < 5)
        window = await h.read(ids[0], limit)
        assert said(window) == [b"%d" % n for n in range(1, min(limit + 1, 5))]
        assert (window.complete, window.more) == (True, limit < 4)


@pytest.mark.gen_test
async def test_page_by_page_everything_is_read_once(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        given = await h.say(*(b"%d" % n for n in range(23)))
        after, found, pages = None, list[str](), 0
        for pages in itertools.count(1):  # noqa: B007 - how many it takes is looked at
            window = await h.read(after, 5)
            assert window.complete
            found += [message.id for message in window.messages]
            if not window.more:
                break
            after = found[-1]
        assert (found, pages) == (given, 5)


@pytest.mark.gen_test
async def test_an_id_that_was_never_given_out_leaves_the_window_incomplete(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        (elsewhere,) = await h.say(b"elsewhere", room="channel:another")
        await h.later(0.005)
        await h.say(b"a", b"b")
        for after in (elsewhere, "1-1"):
            window = await h.read(after)
            assert (said(window), window.complete) == ([b"a", b"b"], False)
        window = await h.read("9" * 18 + "-0")
        assert (said(window), window.complete, window.more) == ([], False, False)


@pytest.mark.parametrize("after", NO_ID)
@pytest.mark.gen_test
async def test_what_is_no_id_leaves_the_window_empty_and_incomplete(
    redis: RealRedis | None, after: str
) -> None:
    async with installation(redis) as h:
        await h.say(b"a")
        window = await h.read(after)
        assert (said(window), window.complete, window.more) == ([], False, False)
        assert id_order(after) == (0, 0)


@pytest.mark.gen_test
async def test_a_log_is_bounded_in_length_and_says_what_it_has_lost(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, messages=10) as h:
        first, second, *_, last = await h.say(*(b"%d" % n for n in range(40)))
        window = await h.read()
        assert said(window) == [b"%d" % n for n in range(30, 40)]
        assert not window.complete
        for forgotten in (first, second):
            window = await h.read(forgotten)
            assert (len(window.messages), window.complete) == (10, False)
        assert await h.read(last) == Window([], complete=True)
        oldest = (await h.read(limit=1)).messages[0].id
        window = await h.read(oldest)
        assert (len(window.messages), window.complete) == (9, True)


@pytest.mark.gen_test
async def test_old_messages_of_a_live_log_are_passed_over(redis: RealRedis | None) -> None:
    async with installation(redis, seconds=2.0) as h:
        first, _ = await h.say(b"old", b"old too")
        await h.later(1.2)
        (young,) = await h.say(b"young")
        await h.later(1.2)
        window = await h.read()
        assert (said(window), window.complete) == ([b"young"], False)
        window = await h.read(first)
        assert (said(window), window.complete) == ([b"young"], False), "one was missed and is gone"
        assert await h.read(young) == Window([], complete=True)
        await h.say(b"younger")
        assert said(await h.read(limit=1)) == [b"young"]
        assert (await h.read(limit=1)).more


@pytest.mark.gen_test
async def test_an_old_id_is_complete_if_all_later_messages_are_in_the_log(
    redis: RealRedis | None,
) -> None:
    async with installation(redis, seconds=2.0) as h:
        (old,) = await h.say(b"old")
        await h.later(1.2)
        await h.say(b"young")
        await h.later(1.2)
        window = await h.read(old)
        assert (said(window), window.complete) == ([b"young"], True)


@pytest.mark.gen_test
async def test_a_log_that_went_silent_for_too_long_is_forgotten(redis: RealRedis | None) -> None:
    async with installation(redis, seconds=0.3) as h:
        (before,) = await h.say(b"old")
        await h.later(0.5)
        h.bus.forget_old()
        window = await h.read(before)
        assert (said(window), window.complete) == ([], False)
        (after,) = await h.say(b"new")
        assert id_order(after) > id_order(before)
        window = await h.read(before)
        assert (said(window), window.complete) == ([b"new"], False)


@pytest.mark.gen_test
async def test_forgetting_what_is_old_leaves_what_is_young(redis: RealRedis | None) -> None:
    async with installation(redis, seconds=60.0) as h:
        ids = await h.say(b"a", b"b")
        h.bus.forget_old()
        assert said(await h.read()) == [b"a", b"b"]
        assert (await h.read(ids[0])).complete


@pytest.mark.gen_test
async def test_what_was_said_before_the_reader_may_read_is_passed_over(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        first, _ = await h.say(b"a", b"b")
        await h.later(0.02)
        since = h.now()
        await h.later(0.02)
        third, _ = await h.say(b"c", b"d")
        for after, complete in ((None, False), (first, False), (third, True)):
            window = await h.read(after, since=since)
            assert said(window) == ([b"d"] if after == third else [b"c", b"d"])
            assert window.complete is complete
        window = await h.read(limit=1, since=since)
        assert (said(window), window.complete, window.more) == ([b"c"], False, True)
        assert (await h.read(since=since - 3600)).complete
        assert said(await h.read(since=h.now() + 3600)) == []


@pytest.mark.gen_test
async def test_behind_an_id_is_read_whether_or_not_the_log_has_it(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        ids = await h.say(*(b"%d" % n for n in range(5)))
        everything = await h.bus.read_behind(ROOM, "1-1", 10)
        assert [message.id for message in everything.messages] == ids
        part = await h.bus.read_behind(ROOM, ids[1], 2)
        assert ([message.id for message in part.messages], part.more) == (ids[2:4], True)
        rest = await h.bus.read_behind(ROOM, ids[3], 2)
        assert ([message.id for message in rest.messages], rest.more) == (ids[4:], False)
        assert not (await h.bus.read_behind(ROOM, ids[4], 2)).messages
        before, window, after = h.now(), await h.bus.read_behind(ROOM, "1-0", 2), h.now()
        assert before - 0.001 <= window.now <= after + 0.001, "here Redis has the same clock"


# ---- ids -----------------------------------------------------------------------------------


@given(st.tuples(st.integers(0, 10**19 - 1), st.integers(0, 10**19 - 1)))
def test_ids_are_compared_as_numbers(order: tuple[int, int]) -> None:
    assert id_order(f"{order[0]}-{order[1]}") == order
    assert LoggedMessage(f"{order[0]}-{order[1]}", b"").order == order


@given(st.text())
def test_any_text_has_an_order(text: str) -> None:
    milliseconds, number = id_order(text)
    assert milliseconds >= 0
    assert number >= 0
    assert (milliseconds, number) == (0, 0) or text.count("-") == 1


def test_ids_do_not_compare_as_text_does() -> None:
    assert LoggedMessage("10-0", b"").order > LoggedMessage("9-0", b"").order
    assert LoggedMessage("9-10", b"").order > LoggedMessage("9-9", b"").order


# ---- any window of any log -----------------------------------------------------------------


@pytest.fixture(scope="module")
def logs() -> Iterator[RealRedis]:
    server = RealRedis("--stream-node-max-entries", "1")
    yield server
    server.close()


@pytest.mark.parametrize("kind", ["memory", "redis"])
@given(
    count=st.integers(0, 12),
    size=st.integers(1, 8),
    after=st.integers(-1, 11),
    limit=st.integers(1, 9),
)
def test_a_window_is_what_the_log_has_behind_an_id(
    logs: RealRedis, kind: str, count: int, size: int, after: int, limit: int
) -> None:
    async def check() -> None:
        async with installation(logs if kind == "redis" else None, messages=size) as h:
            room = f"channel:{time.monotonic_ns()}"
            ids = await h.say(*(b"%d" % n for n in range(count)), room=room)
            known = ids[-size:]
            asked = ids[after] if 0 <= after < count else None
            window = await h.bus.read(room, asked, limit)
            behind = known if asked is None else [i for i in known if id_order(i) > id_order(asked)]
            assert [message.id for message in window.messages] == behind[:limit]
            assert window.more == (len(behind) > limit)
            assert window.complete == (asked in known if asked else len(known) == count)

    run(check())
