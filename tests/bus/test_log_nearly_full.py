"""A log in a Redis that is nearly full: messages are delivered, and only counted."""

from __future__ import annotations

import pytest

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
