"""Reading what a bus has kept, in memory and over a real Redis."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.bus import Window, id_order
from tests.bus.ears import ROOM, installation, redis, said
from tests.support.redis import RealRedis, run

__all__ = ["redis"]

NO_ID = ["", "x", "1", "-", "+", "1-", "-1", "0-0", "1-1-1", "(1-0", "1 -0", "-1-0", "1-x", "٣-٣"]
NO_ID += ["9" * 20 + "-0", "1-" + "9" * 20, "9" * 5000 + "-0", "1-0\r\nFLUSHALL", "\ud800-0"]


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
