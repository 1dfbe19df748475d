"""A log in a Redis that is nearly full: messages are delivered, and the log does not grow."""

from __future__ import annotations

from random import Random

import pytest

from services.bus.bus import id_order
from services.bus.log_keys import log_key, sender_key
from services.bus.log_scripts import KEEP_IN_PLACE_LATE, KEEP_LATE
from services.redis.store_redis import RedisStore
from tests.bus.ears import received
from tests.bus.nodes import ROOM, Node, node
from tests.support.redis import RealRedis, redis_server, until

__all__ = ["redis_server"]

SENDER = "ada"


async def look(store: RedisStore, *, nearly_full: bool) -> None:
    """Until the store knows."""

    def is_known() -> bool:
        store.look_at_memory()
        return store.nearly_full is nearly_full

    await until(is_known)


async def say(node: Node, body: bytes) -> str:
    return await node.bus.keep(ROOM, body, SENDER)


async def texts(node: Node, after: str | None = None) -> tuple[list[bytes], bool]:
    window = await node.bus.read(ROOM, after, 10)
    assert not window.more
    return [message.body for message in window.messages], window.complete


@pytest.mark.gen_test
async def test_what_is_said_is_heard_everywhere_and_the_log_does_not_grow(
    redis_server: RealRedis,
) -> None:
    async with node(redis_server) as a, node(redis_server) as b:
        await received(b.bus, ROOM)
        first = await say(a, b"first")
        redis_server.use(0.93)
        await look(a.store, nearly_full=True)
        ids = [await say(a, b"%d" % number * 9000) for number in range(5)]
        await until(lambda: len(b.ear.ids()) == 6)
        assert b.ear.ids() == [first, *ids]
        assert redis_server.ask("XLEN", f"usher:{{{ROOM}}}:log") == 2
        assert redis_server.ask("MEMORY", "USAGE", f"usher:{{{ROOM}}}:log", "SAMPLES", 0) < 9000
        # Who reads learns that messages are missing; who heard them all, that none is.
        assert await texts(a) == ([b"first"], False)
        assert await texts(a, ids[-1]) == ([], True)
        redis_server.ask("CONFIG", "SET", "maxmemory", 0)
        await look(a.store, nearly_full=False)
        last = await say(a, b"last")
        assert await texts(a) == ([b"first", b"last"], False)
        assert await texts(a, ids[-1]) == ([b"last"], True)
        assert await texts(a, last) == ([], True)
        window = await b.bus.read_behind(ROOM, first, 10)
        assert ([m.body for m in window.messages], window.complete) == ([b"last"], False)


@pytest.mark.parametrize("size", [100, 5000])
@pytest.mark.gen_test
async def test_a_message_takes_the_place_of_its_senders_oldest(
    redis_server: RealRedis, size: int
) -> None:
    def text(words: str) -> bytes:
        return words.encode().ljust(size, b".")

    async with node(redis_server) as a:
        for number in range(3):
            await a.bus.keep(ROOM, text(f"ada {number}"), "ada")
            await a.bus.keep(ROOM, text(f"ben {number}"), "ben")
        redis_server.use(0.93)
        await look(a.store, nearly_full=True)
        before = memory_of(redis_server)
        for number in range(3, 500):
            await a.bus.keep(ROOM, text(f"ada {number}"), "ada")
            await a.bus.keep(ROOM, text("flood"), f"newcomer {number}")
        # Redis frees memory by nodes of 4 KiB.
        assert memory_of(redis_server) < before + 3 * size + 2 * 4096
        redis_server.ask("CONFIG", "SET", "maxmemory", 0)
        await look(a.store, nearly_full=False)
        found, complete = await texts(a)
        assert found == [
            *(text(f"ben {number}") for number in range(3)),
            *(text(f"ada {number}") for number in range(497, 500)),
        ]
        assert not complete
        await a.bus.keep(ROOM, text("after"), "newcomer")
        assert (await texts(a))[0][-1] == text("after")


@pytest.mark.gen_test
async def test_messages_of_any_size_take_all_the_bytes_of_earlier_ones_and_no_more(
    redis_server: RealRedis,
) -> None:
    random = Random(20)
    async with node(redis_server) as a:
        for _ in range(50):
            await say(a, b"x" * random.randint(1, 500))
        redis_server.use(0.93)
        await look(a.store, nearly_full=True)
        before = len(b"".join(await whole(a)))
        for _ in range(1000):
            await say(a, b"y" * random.randint(1, 500))
        after = len(b"".join(await whole(a)))
        assert before - 500 < after <= before


@pytest.mark.parametrize(("before", "now"), [(1000, 20), (20_000, 1030)])
@pytest.mark.gen_test
async def test_many_short_messages_in_the_place_of_a_few_long_ones_take_no_more_memory(
    redis_server: RealRedis, before: int, now: int
) -> None:
    async with node(redis_server) as a:
        for _ in range(50):
            await say(a, b"x" * before)
        redis_server.use(0.93)
        await look(a.store, nearly_full=True)
        took = memory_of(redis_server)
        for _ in range(50 * before // now):
            await say(a, b"y" * now)
        assert memory_of(redis_server) < took + 3 * 4096


@pytest.mark.gen_test
async def test_with_hardly_any_memory_left_messages_only_free_what_their_sender_has(
    redis_server: RealRedis,
) -> None:
    async with node(redis_server) as a, node(redis_server) as b:
        await received(b.bus, ROOM)
        for number in range(4):
            await a.bus.keep(ROOM, b"ada %d" % number, "ada")
            await a.bus.keep(ROOM, b"ben %d" % number, "ben")
        redis_server.use(0.975)
        await look(a.store, nearly_full=True)
        ids = [await a.bus.keep(ROOM, b"not %d" % number, "ada") for number in range(2)]
        await until(lambda: len(b.ear.ids()) == 10)
        assert b.ear.ids()[-2:] == ids, "they are delivered"
        found, complete = await texts(a)
        assert found == [b"ben 0", b"ben 1", b"ada 2", b"ben 2", b"ada 3", b"ben 3"]
        assert not complete


@pytest.mark.gen_test
async def test_the_list_of_a_senders_messages_is_as_long_as_what_the_log_has_of_them(
    redis_server: RealRedis,
) -> None:
    async with node(redis_server) as a:
        await say(a, b"small")
        for _ in range(200):
            await say(a, b"x" * 20_000)
        in_log = redis_server.ask("XLEN", log_key(ROOM))
        assert in_log < 60
        assert redis_server.ask("LLEN", sender_key(ROOM, SENDER)) == in_log


@pytest.mark.gen_test
async def test_ids_increase_with_a_clock_that_is_behind(redis_server: RealRedis) -> None:
    ahead = (int(redis_server.ask("TIME")[0]) + 3600) * 1000
    keys = ["log", "count", "said", "by", "freed"]
    ids = []
    said = ("one", "two", "much longer than the one before it", "six")
    for script, before in ((KEEP_LATE, 4), (KEEP_IN_PLACE_LATE, 5)):
        for text in said:
            limits = 1000, 3_600_000, text, 500, 1_000_000, ahead, 1000
            kept = redis_server.ask("EVAL", script, before, *keys[:before], *limits, 64, 1)
            ids.append(id_order(kept.decode()))
    assert ids == sorted(set(ids))
    assert ids[0] == (ahead, 0)
    left = [fields[3] for _, fields in redis_server.ask("XRANGE", "log", "-", "+")]
    assert left[-1] == b"six"
    assert sum(map(len, left)) <= sum(map(len, said))


async def whole(node: Node) -> list[bytes]:
    return [message.body for message in (await node.bus.read(ROOM, None, 1000)).messages]


def memory_of(redis: RealRedis) -> int:
    keys = redis.ask("KEYS", f"usher:{{{ROOM}}}:*")
    return sum(redis.ask("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys)


@pytest.mark.gen_test
async def test_messages_between_nodes_are_kept(redis_server: RealRedis) -> None:
    async with node(redis_server) as a:
        redis_server.use(0.93)
        await look(a.store, nearly_full=True)
        await a.bus.keep(ROOM, b"revoked")
        assert await texts(a) == ([b"revoked"], True)


@pytest.mark.gen_test
async def test_pages_of_counted_messages_are_skipped(redis_server: RealRedis) -> None:
    async with node(redis_server) as a:
        await a.bus.keep(ROOM, b"first", SENDER)
        for number in range(5):
            redis_server.ask("XADD", f"usher:{{{ROOM}}}:log", "*", "n", number + 2)
        await a.bus.keep(ROOM, b"last", SENDER)
        first = await a.bus.read(ROOM, None, 2)
        assert ([m.body for m in first.messages], first.more) == ([b"first"], True)
        for read in (a.bus.read, a.bus.read_behind):
            then = await read(ROOM, first.messages[0].id, 2)
            assert [m.body for m in then.messages] == [b"last"]
            assert not then.complete
            assert not then.more
