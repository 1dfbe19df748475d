"""One contract for every implementation of the store.

Keys that are used together carry a hash tag, as they do in Usher: a cluster wants it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.errors import StoreUnavailable
from services.redis.store import Command, Store
from services.redis.store_cluster import ClusterStore
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from tests.support.redis import RealRedis, run, until
from tests.support.redis_forms import Cluster, SentinelSet, cluster, sentinel_set

Run = Callable[[Callable[[Store], Awaitable[Any]]], Any]


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RealRedis]:
    server = RealRedis()
    yield server
    server.close()


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(scope="module")
def shared_sentinels() -> Iterator[SentinelSet]:
    with sentinel_set(replicas=0, sentinels=1) as made:
        yield made


def opened(kind: str, request: pytest.FixtureRequest) -> MemoryStore | RedisStore | ClusterStore:
    """An empty store of one kind."""
    if kind == "memory":
        return MemoryStore()
    if kind == "cluster":
        nodes: Cluster = request.getfixturevalue("shared_cluster")
        for node in nodes.masters:
            node.ask("FLUSHALL")
        return ClusterStore(nodes.url, timeout=10)
    if kind == "sentinel":
        made: SentinelSet = request.getfixturevalue("shared_sentinels")
        made.servers[0].ask("FLUSHALL")
        return RedisStore(made.url, timeout=10)
    server: RealRedis = request.getfixturevalue("shared_redis")
    server.ask("FLUSHALL")
    return RedisStore(server.url, timeout=10)


@pytest.fixture(params=["memory", "redis", "cluster", "sentinel"])
def with_store(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine function with a new, empty store of one kind, and closes it."""

    def with_it(work: Callable[[Store], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            store = opened(request.param, request)
            if not isinstance(store, MemoryStore):
                await store.connect()
            try:
                assert store.available
                assert store.kind == ("memory" if request.param == "memory" else "redis")
                return await work(store)
            finally:
                await store.close()

        return run(main())

    return with_it


def replies(with_store: Run, *commands: Command) -> list[Any]:
    async def work(store: Store) -> list[Any]:
        return await store.call(*commands)

    return list(with_store(work))


def evidence(with_store: Run, *commands: Command) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        replies(with_store, *commands)
    return caught.value.evidence


def test_replies_come_in_the_order_of_the_commands(with_store: Run) -> None:
    got = replies(
        with_store,
        *(("SET", "a", "1"), ("SET", "b", "x"), ("INCR", "a"), ("GET", b"a")),
        *(("GET", "b"), ("MGET", "a", "{a}b")),
    )
    assert got == [b"OK", b"OK", 2, b"2", b"x", [b"2", None]]


def test_an_empty_group_gives_no_replies(with_store: Run) -> None:
    assert replies(with_store) == []


def test_text_bytes_and_numbers_become_bytes(with_store: Run) -> None:
    got = replies(
        with_store,
        *(("SET", "t", "é"), ("SET", "{t}b", b"\x00\xff\r\n"), ("SET", 1, 2.5), ("GET", "1")),
        ("MGET", "t", "{t}b"),
    )
    assert got[-2:] == [b"2.5", ["é".encode(), b"\x00\xff\r\n"]]


def test_a_ticket_can_be_taken_once(with_store: Run) -> None:
    got = replies(with_store, ("SET", "t", "x", "EX", 30), ("GETDEL", "t"), ("GETDEL", "t"))
    assert got == [b"OK", b"x", None]


def test_set_nx_keeps_what_is_there(with_store: Run) -> None:
    got = replies(with_store, ("SET", "k", 1, "NX"), ("SET", "k", 2, "NX", "EX", 9), ("GET", "k"))
    assert got == [b"OK", None, b"1"]


def test_set_get_returns_the_previous_value(with_store: Run) -> None:
    got = replies(with_store, ("SET", "k", 1, "GET"), ("SET", "k", 2, "PX", 900, "GET"))
    assert got == [None, b"1"]


def test_lifetimes_are_in_seconds_and_milliseconds(with_store: Run) -> None:
    got = replies(
        with_store,
        *(("SET", "k", 1, "EX", 100), ("TTL", "k"), ("TTL", "none"), ("PTTL", "none")),
        *(("SET", "k", 1), ("TTL", "k"), ("PTTL", "k"), ("PEXPIRE", "k", 50_000), ("TTL", "k")),
    )
    assert got == [b"OK", 100, -2, -2, b"OK", -1, -1, 1, 50]


def test_an_expired_key_is_gone(with_store: Run) -> None:
    async def work(store: Store) -> None:
        await store.call(("SET", "{h}k", 1, "PX", 20), ("HSET", "h", "f", 1), ("PEXPIRE", "h", 20))
        gone = False
        for _ in range(500):
            gone = await store.call(("EXISTS", "{h}k", "h"), ("TTL", "h")) == [0, -2]
            if gone:
                break
            await asyncio.sleep(0.01)
        assert gone
        assert await store.call(("HGETALL", "h"), ("HSET", "h", "g", 1)) == [[], 1]

    with_store(work)


def test_a_lifetime_of_nothing_deletes_at_once(with_store: Run) -> None:
    got = replies(with_store, ("SET", "k", 1), ("EXPIRE", "k", 0), ("EXISTS", "k"))
    assert got == [b"OK", 1, 0]


def test_sorted_sets_are_read_by_score_then_name(with_store: Run) -> None:
    got = replies(
        with_store,
        ("ZADD", "z", 3, "c", 1, "b", 1, "a", "inf", "d"),
        ("ZRANGEBYSCORE", "z", "-inf", "+inf"),
        ("ZRANGEBYSCORE", "z", "(1", 3, "WITHSCORES"),
        ("ZRANGEBYSCORE", "z", 1, "inf", "LIMIT", 1, 2),
        ("ZREMRANGEBYSCORE", "z", "-inf", "(3"),
        *(("ZCARD", "z"), ("ZREM", "z", "c", "d", "e"), ("EXISTS", "z"), ("ZCARD", "z")),
    )
    assert got == [4, [b"a", b"b", b"c", b"d"], [b"c", b"3"], [b"b", b"c"], 2, 2, 2, 0, 0]


def test_hashes_hold_fields(with_store: Run) -> None:
    got = replies(
        with_store,
        *(("HSET", "h", "a", 1, "b", 2), ("HSET", "h", "a", 3), ("HGET", "h", "a")),
        *(("HGETALL", "h"), ("HDEL", "h", "a", "b", "c"), ("EXISTS", "h"), ("HGET", "h", "a")),
    )
    assert got[:3] == [2, 0, b"3"]
    assert dict(zip(got[3][::2], got[3][1::2], strict=True)) == {b"a": b"3", b"b": b"2"}
    assert got[4:] == [2, 0, None]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("HGET", "text", "private-field"), "HGET: WRONGTYPE"),
        (("incr", "text"), "INCR: ERR"),
        (("SET", "k", "private-value", "EX", 0), "SET: ERR"),
        ((b"ZADD", "z", "nan", "m"), "ZADD: ERR"),
        (("NONSENSE", "private"), "NONSENSE: ERR"),
        (("GET",), "GET: ERR"),
        (("GET", "a", "b"), "GET: ERR"),
    ],
)
def test_an_error_reply_names_the_command_and_nothing_private(
    with_store: Run, command: Command, expected: str
) -> None:
    assert evidence(with_store, ("SET", "text", "private-text"), command) == expected


def test_an_error_does_not_stop_the_commands_behind_it(with_store: Run) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(StoreUnavailable):
            await store.call(("SET", "k", "x"), ("INCR", "k"), ("SET", "after", 1))
        assert await store.call(("GET", "after")) == [b"1"]

    with_store(work)


@pytest.mark.parametrize("argument", [None, True, bytearray(b"x"), ["x"]])
def test_an_argument_of_a_wrong_type_issues_nothing(with_store: Run, argument: Any) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(TypeError):
            store.call(("SET", "k", 1), ("SET", "k", argument))
        assert await store.call(("EXISTS", "k"), ("PING",)) == [0, b"PONG"]

    with_store(work)


@pytest.mark.parametrize("command", [(), ("SET", "k", "\ud800")])
def test_an_impossible_command_issues_nothing(with_store: Run, command: Command) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(ValueError):
            store.call(("SET", "k", 1), command)
        assert await store.call(("EXISTS", "k")) == [0]

    with_store(work)


def test_a_group_is_issued_when_called_not_when_awaited(with_store: Run) -> None:
    async def work(store: Store) -> None:
        first = store.call(("INCR", "n"))
        second = store.call(("INCR", "n"))
        assert await second == [2]
        assert await first == [1]

    with_store(work)


def test_what_is_told_is_issued_in_order_and_its_replies_are_passed_on(with_store: Run) -> None:
    async def work(store: Store) -> None:
        came: list[list[Any] | None] = []
        store.tell(("INCR", "n"))
        store.tell(("INCR", "n"), ("SET", "{n}m", "x"), then=came.append)
        store.tell(then=came.append)
        assert await store.call(("INCR", "n")) == [3]
        await until(lambda: len(came) == 2)
        assert sorted(came, key=len) == [[], [2, b"OK"]]  # type: ignore[arg-type]  # none is None

    with_store(work)


def test_what_is_told_and_fails_passes_nothing_on(with_store: Run) -> None:
    async def work(store: Store) -> None:
        came: list[list[Any] | None] = []
        store.tell(("SET", "k", "text"), ("INCR", "k"), ("SET", "{k}behind", 1), then=came.append)
        await until(lambda: came == [None])
        assert await store.call(("GET", "{k}behind")) == [b"1"]
        with pytest.raises(TypeError):
            store.tell(("SET", "k", None))  # type: ignore[arg-type]  # on purpose
        await store.close()
        store.tell(("SET", "k", 1))
        store.tell(("SET", "k", 1), then=came.append)
        await until(lambda: came == [None, None])

    with_store(work)


def test_a_closed_store_refuses(with_store: Run) -> None:
    async def work(store: Store) -> None:
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.call(("PING",))

    with_store(work)


# Memory alone


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_memory_refuses_more_than_its_bound_and_evicts_nothing() -> None:
    async def work() -> None:
        store = MemoryStore(max_entries=3)
        await store.call(("SET", "a", 1), ("HSET", "h", "f", 1, "g", 2))
        for command in (("SET", "b", 1), ("HSET", "h", "i", 1), ("ZADD", "z", 1, "m")):
            with pytest.raises(StoreUnavailable, match="OOM"):
                await store.call(command)
        # What is there may change, and what goes makes room.
        changed = await store.call(("SET", "a", 2), ("HSET", "h", "f", 2), ("HDEL", "h", "g"))
        assert changed == [b"OK", 0, 1]
        assert await store.call(("ZADD", "z", 1, "m"), ("GET", "a")) == [1, b"2"]

    run(work())


def test_memory_gives_the_room_of_expired_keys_back() -> None:
    async def work() -> None:
        clock = Clock()
        store = MemoryStore(max_entries=2, clock=clock)
        await store.call(("SET", "a", 1, "EX", 5), ("ZADD", "z", 1, "m"), ("EXPIRE", "z", 10))
        clock.now += 5
        assert await store.call(("SET", "b", 1), ("EXISTS", "a"), ("TTL", "z")) == [b"OK", 0, 5]

    run(work())


def test_memory_does_not_grow_with_leases_that_are_renewed() -> None:
    async def work() -> None:
        store = MemoryStore()
        for _ in range(5000):
            await store.call(("SET", "lease", 1, "EX", 30))
        assert len(store._queue) < 100

    run(work())


# Memory against Redis

KEYS = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from(["x", "y", "z"])
VALUES = st.one_of(
    st.binary(max_size=4), st.integers(-3, 3), st.sampled_from(["1", "-0", "+1", " 1", "1e3"])
)
SCORES = st.one_of(
    st.integers(-3, 3),
    st.floats(allow_nan=False, width=32),
    st.sampled_from(["inf", "-inf", "nan", "x", ".5", "1e400", "1_0"]),
)
BOUNDS = st.one_of(
    st.integers(-3, 3), st.sampled_from(["-inf", "+inf", "(0", "(1", "(-inf", "x", "1.5"])
)
LIFE = st.sampled_from([0, -1, 1000, 1001, "x", 10**19, 2**60])


def joined(name: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Command]:
    return st.tuples(st.just(name), *parts)


def flat(*parts: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    pairs = st.lists(st.tuples(*parts), min_size=1, max_size=3)
    return pairs.map(lambda found: tuple(part for pair in found for part in pair))


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    joined("GET", KEYS),
    joined("MGET", KEYS, KEYS),
    joined("SET", KEYS, VALUES),
    joined("SET", KEYS, VALUES, st.just("nx")),
    joined("SET", KEYS, VALUES, st.just("GET")),
    joined("SET", KEYS, VALUES, st.sampled_from(["EX", "ex", "PX", "XYZ"]), LIFE),
    joined("SET", KEYS, VALUES, st.just("EX"), LIFE, st.just("NX")),
    joined("GETDEL", KEYS),
    joined("DEL", KEYS, KEYS),
    joined("EXISTS", KEYS, KEYS),
    joined("INCR", KEYS),
    joined("EXPIRE", KEYS, LIFE),
    joined("TTL", KEYS),
    st.builds(lambda k, p: ("ZADD", k, *p), KEYS, flat(SCORES, NAMES)),
    joined("ZREM", KEYS, NAMES, NAMES),
    joined("ZCARD", KEYS),
    joined("ZRANGEBYSCORE", KEYS, BOUNDS, BOUNDS),
    joined("ZRANGEBYSCORE", KEYS, BOUNDS, BOUNDS, st.just("WITHSCORES")),
    joined("ZRANGEBYSCORE", KEYS, BOUNDS, BOUNDS, st.just("LIMIT"), *[st.integers(-1, 3)] * 2),
    joined("ZREMRANGEBYSCORE", KEYS, BOUNDS, BOUNDS),
    st.builds(lambda k, p: ("HSET", k, *p), KEYS, flat(NAMES, VALUES)),
    joined("HGET", KEYS, NAMES),
    joined("HGETALL", KEYS),
    joined("HDEL", KEYS, NAMES, NAMES),
    st.builds(lambda n, p: (n, *p), st.sampled_from(["SET", "HSET", "ZADD", "TTL"]), flat(NAMES)),
)


async def outcome(store: Store, command: Command) -> Any:
    try:
        (reply,) = await store.call(command)
    except StoreUnavailable as error:
        return error.evidence
    if command[0] == "HGETALL":
        return dict(zip(reply[::2], reply[1::2], strict=True))
    if command[0] == "ZRANGEBYSCORE" and "WITHSCORES" in command:
        # Newer servers write scores shorter; the numbers are the same.
        return [(name, float(score)) for name, score in zip(reply[::2], reply[1::2], strict=True)]
    return reply


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(commands=st.lists(COMMANDS, min_size=1, max_size=30))
def test_memory_replies_as_redis_does(shared_redis: RealRedis, commands: list[Command]) -> None:
    async def work() -> None:
        shared_redis.ask("FLUSHALL")
        memory, redis = MemoryStore(), RedisStore(shared_redis.url, timeout=10)
        await redis.connect()
        await until(lambda: redis.available)
        try:
            for command in commands:
                assert await outcome(memory, command) == await outcome(redis, command), command
        finally:
            await redis.close()

    run(work())
