"""The store over a real Redis Cluster: splitting, redirections, failover."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.testing import bind_unused_port

from services.bus.bus_redis import RedisBus
from services.errors import StoreUnavailable
from services.redis.cluster import SLOTS, read_view, slot_of
from services.redis.store import Command
from services.redis.store_cluster import ClusterStore
from services.redis.store_redis import RedisStore
from tests.support.listeners import RecordingListener
from tests.support.redis import PATIENCE, run, until, within
from tests.support.redis_forms import (
    Cluster,
    Server,
    certificate,
    cluster,
    node_id,
    replicated,
    role,
)
from tests.support.server import ask, bearer, close_code, connect, event, log_in, sign_up, usher

TAG = "{t}"
SLOT = slot_of(("GET", TAG)) or 0


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def three(shared: Cluster) -> Cluster:
    """The module's cluster, empty, with the slot of TAG at its usual node."""
    for server in shared.masters:
        server.ask("FLUSHALL")
    return shared


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[ClusterStore]:
    store = ClusterStore(url, **{"timeout": 10.0, **options})
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


async def fails(awaitable: Any) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await within(awaitable)
    return caught.value.evidence


async def eventually(store: ClusterStore, *commands: Command) -> list[Any]:
    """The replies, once there are any."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return await store.call(*commands)
        except StoreUnavailable:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


def owner(made: Cluster) -> tuple[Server, Server]:
    """The node that has TAG, and another."""
    has = made.masters[SLOT * 3 // SLOTS]
    return has, next(server for server in made.masters if server is not has)


def begin_move(source: Server, target: Server) -> None:
    assert target.ask("CLUSTER", "SETSLOT", SLOT, "IMPORTING", node_id(source)) == b"OK"
    assert source.ask("CLUSTER", "SETSLOT", SLOT, "MIGRATING", node_id(target)) == b"OK"


def move_key(key: str, source: Server, target: Server) -> None:
    assert source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000) == b"OK"


def end_move(made: Cluster, target: Server) -> None:
    # Without a new epoch an older claim to the slot would win again by gossip.
    assert target.ask("CLUSTER", "BUMPEPOCH").split()[0] in {b"BUMPED", b"STILL"}
    for server in (target, *made.servers):
        assert server.ask("CLUSTER", "SETSLOT", SLOT, "NODE", node_id(target)) == b"OK"


@pytest.fixture
def moving(three: Cluster) -> Iterator[tuple[Server, Server]]:
    """From and to where a test may move the slot of TAG; it is brought back behind it."""
    source, target = owner(three)
    yield source, target
    for server in three.masters:
        server.ask("FLUSHALL")
    end_move(three, source)
    three.settle()


# Slots and keys


@pytest.mark.parametrize("key", ["", "a", "{a}b", "x{a}{b}", "{}a", "a{b", "é", "a}{b}", 12, 1.5])
def test_a_slot_is_the_one_redis_computes(three: Cluster, key: Any) -> None:
    name = str(key) if not isinstance(key, float) else repr(key)
    assert slot_of(("GET", key)) == three.masters[0].ask("CLUSTER", "KEYSLOT", name)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("SET", "k", "v"), "k"),
        ((b"get", b"k"), "k"),
        (("MGET", "{k}a", "{k}b"), "k"),
        (("del", "{k}a", "{k}b"), "k"),
        (("EVAL", "return 1", 2, "{k}a", "{k}b", "other"), "k"),
        (("EVAL", "return 1", 0, "other"), None),
        (("PUBLISH", "k", "v"), "k"),
        (("XADD", "k", "*", "f", "v"), "k"),
        (("XRANGE", "k", "-", "+"), "k"),
        (("XREAD", "COUNT", 9, "STREAMS", "{k}a", "{k}b", "0-0", "0-0"), "k"),
        (("PING",), None),
        (("TIME",), None),
        (("GET",), None),
    ],
)
def test_the_keys_of_a_command_are_found(command: Command, key: str | None) -> None:
    assert slot_of(command) == (None if key is None else slot_of(("GET", key)))


@pytest.mark.parametrize("command", [("MGET", "a", "b"), ("EVAL", "", 2, "a", "b"), ()])
def test_keys_of_several_slots_are_a_mistake_of_the_caller(
    three: Cluster, command: Command
) -> None:
    async def work() -> None:
        async with connected(three.url) as store:
            with pytest.raises(ValueError):
                store.call(("SET", "a", 1), command)
            assert await store.call(("EXISTS", "a")) == [0]  # nothing was issued

    run(work())


def test_a_node_that_does_not_know_its_own_host_is_where_it_was_asked() -> None:
    for host in (b"", b"?", None):
        slots = [[0, 9, [host, 7000, b"id"], [b"other", 7001, b"id", []]]]
        view = read_view("asked", b"cluster_state:ok\r\ncluster_current_epoch:3\r\n", slots)
        assert view.ranges == ((0, 9, ("asked", 7000)),)
        assert view.nodes == {("asked", 7000), ("other", 7001)}
        assert (view.up, view.epoch) == (True, 3)


@pytest.mark.parametrize("url", ["redis://h", "redis+sentinel://h/m", "redis+cluster://h:x"])
def test_only_a_cluster_is_accepted(url: str) -> None:
    with pytest.raises(ValueError):
        ClusterStore(url)
    with pytest.raises(ValueError):
        RedisStore("redis+cluster://h")


# Splitting


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_group_over_all_nodes_gives_its_replies_in_order(three: Cluster, loop: str) -> None:
    async def work() -> None:
        async with connected(three.url) as store:
            keys = [f"k{number}" for number in range(60)]
            await store.call(*(("SET", key, key) for key in keys))
            got = await store.call(*(("GET", key) for key in keys), ("PING",), ("ECHO", "x"))
            assert got == [*(key.encode() for key in keys), b"PONG", b"x"]

    run(work(), loop=loop)
    assert all(server.ask("DBSIZE") > 0 for server in three.masters)


def test_replies_stay_in_order_under_many_callers(three: Cluster) -> None:
    async def work() -> None:
        async with connected(three.url) as store:

            async def caller(number: int) -> None:
                for turn in range(20):
                    key, value = f"k{number}", f"{number}-{turn}".encode()
                    group = ("SET", key, value), ("INCR", "all"), ("GET", key)
                    ok, _, got = await store.call(*group)
                    assert (ok, got) == (b"OK", value)

            await asyncio.gather(*(caller(number) for number in range(50)))
            assert await store.call(("GET", "all")) == [b"1000"]

    run(work())


def test_an_error_reply_names_its_command(three: Cluster) -> None:
    async def work() -> None:
        async with connected(three.url) as store:
            call = store.call(("SET", "a", "x"), ("INCR", "a"), ("SET", "b", 1))
            assert await fails(call) == "INCR: ERR"
            assert await store.call(("GET", "b")) == [b"1"]

    run(work())


# Redirections


def test_a_moved_slot_is_followed_and_nothing_is_done_twice(
    three: Cluster, moving: tuple[Server, Server]
) -> None:
    source, target = moving

    async def work() -> None:
        async with connected(three.url) as store:
            await store.call(("PING",))
            begin_move(source, target)
            end_move(three, target)
            calls = [store.call(("INCR", TAG), ("INCR", "other"), ("INCR", TAG)) for _ in range(5)]
            got = [await within(call) for call in calls]
            assert sorted(n for first, _, third in got for n in (first, third)) == [*range(1, 11)]
            assert all(first < third for first, _, third in got)
            assert await store.call(("INCR", TAG), ("INCR", "other")) == [11, 6]
            assert store.available

    run(work())


def test_a_migrating_slot_is_queried_at_both_ends(
    three: Cluster, moving: tuple[Server, Server]
) -> None:
    source, target = moving

    async def work() -> None:
        async with connected(three.url) as store:
            await store.call(("SET", TAG + "gone", 1), ("SET", TAG + "here", 2))
            begin_move(source, target)
            move_key(TAG + "gone", source, target)
            got = await store.call(
                *(("GET", TAG + "gone"), ("GET", TAG + "here"), ("INCR", TAG + "new")),
                *(("INCR", TAG + "gone"), ("INCR", TAG + "here")),
            )
            assert got == [b"1", b"2", 1, 2, 3]
            both = store.call(("MGET", TAG + "gone", TAG + "here"))
            assert await fails(both) == "MGET: TRYAGAIN"
            waits = store.call(("MGET", TAG + "gone", TAG + "here"))
            await asyncio.sleep(0)
            move_key(TAG + "here", source, target)
            assert await within(waits) == [[b"2", b"3"]]
            end_move(three, target)
            assert await store.call(("MGET", TAG + "gone", TAG + "new")) == [[b"2", b"1"]]

    run(work())


def test_a_command_waits_while_two_nodes_name_each_other_as_the_owner_of_its_slot(
    three: Cluster, moving: tuple[Server, Server]
) -> None:
    one, other = moving

    async def work() -> None:
        async with connected(three.url) as store:
            await store.call(("PING",))
            for server, named in ((other, one), (one, other)):
                assert server.ask("CLUSTER", "SETSLOT", SLOT, "NODE", node_id(named)) == b"OK"
            counted = store.call(("INCR", TAG))
            await asyncio.sleep(0.05)
            assert not counted.done()
            end_move(three, other)
            assert await within(counted) == [1]
            assert await store.call(("GET", TAG)) == [b"1"]

    run(work())


def test_a_slot_migrating_to_a_new_node_is_found_there() -> None:
    async def work(made: Cluster, new: Server) -> None:
        source, _ = owner(made)
        async with connected(made.url) as store:
            await store.call(("SET", TAG, 1))
            begin_move(source, new)
            move_key(TAG, source, new)
            assert await within(store.call(("INCR", TAG))) == [2]
            end_move(made, new)
            assert await within(store.call(("INCR", TAG), ("INCR", "other"))) == [3, 1]

    with cluster() as made, ExitStack() as stack:
        new = made.add(stack)
        made.settle()
        run(work(made, new))


def test_a_cluster_with_an_orphaned_slot_is_not_available_until_it_is_whole(
    three: Cluster,
) -> None:
    source, _ = owner(three)

    async def work() -> None:
        changes: list[bool] = []
        async with connected(three.url, on_change=changes.append) as store:
            for server in three.masters:
                assert server.ask("CLUSTER", "DELSLOTS", SLOT) == b"OK"
            assert await fails(store.call(("GET", TAG))) == "cluster: a slot is without a node"
            await until(lambda: not store.available)
            assert source.ask("CLUSTER", "ADDSLOTS", SLOT) == b"OK"
            await until(lambda: store.available)
            assert await store.call(("GET", TAG)) == [None]
        assert changes == [True, False, True, False]

    run(work())
    three.settle()


# Coming and going


def test_a_cluster_that_is_not_there_is_not_available_and_blocks_nothing() -> None:
    async def work() -> None:
        listener, port = bind_unused_port()
        listener.close()
        async with connected(f"redis+cluster://127.0.0.1:{port}", timeout=0.5) as store:
            assert not store.available
            assert "unreachable" not in await fails(store.call(("PING",)))
            assert await fails(store.call(("GET", "k"))) == store.reason != ""
        assert not {task.get_name() for task in asyncio.all_tasks()} & {
            "redis-cluster-keeper",
            "redis-keeper",
        }

    run(work())


def test_a_cluster_is_nearly_full_if_one_of_its_masters_is(three: Cluster) -> None:
    async def work(master: Server) -> None:
        async with connected(three.url) as store:

            def is_known() -> bool:
                store.look_at_memory()
                return store.nearly_full

            store.look_at_memory()
            await store.call(("PING",))
            assert (store.nearly_full, store.memory_share) == (False, 0.0)
            lines = master.ask("INFO", "memory").split(b"\r\n")
            used = next(x for x in lines if x.startswith(b"used_memory:")).partition(b":")[2]
            master.ask("CONFIG", "SET", "maxmemory", int(int(used) / 0.94))
            await until(is_known)
            assert store.memory_share > 0.9
            master.ask("CONFIG", "SET", "maxmemory", 0)
            await until(lambda: not is_known())

    run(work(three.masters[1]))


def test_closing_fails_what_waits(three: Cluster) -> None:
    async def work() -> None:
        async with connected(three.url) as store:
            source, _ = owner(three)
            assert source.process is not None
            source.process.send_signal(signal.SIGSTOP)
            waiting = store.call(("GET", TAG))
        source.process.send_signal(signal.SIGCONT)
        assert await fails(waiting) == "closed"
        assert await fails(store.call(("GET", TAG))) == "closed"
        await store.close()  # again
        await store.connect()
        assert not store.available

    run(work())
    three.settle()


async def subscribed(bus: RedisBus, room: str) -> None:
    if (waiting := bus.subscribe(room)) is not None:
        await waiting


def test_messages_reach_a_subscription_on_any_node(three: Cluster) -> None:
    async def work() -> None:
        async with connected(three.url) as store:
            buses = [RedisBus(three.url, store, 100, 60) for _ in range(4)]
            received = [RecordingListener() for _ in buses]
            for bus, ear in zip(buses, received, strict=True):
                bus.listen(ear)
                await bus.open()
                for number in range(9):
                    await within(subscribed(bus, f"r{number}"))
            ids = [await buses[0].keep(f"r{n}", f"kept{n}".encode()) for n in range(9)]
            buses[1].send("r3", b"passing")
            wanted = sorted([f"kept{n}".encode() for n in range(9)] + [b"passing"])
            await until(lambda: all(sorted(ear.bodies) == wanted for ear in received))
            window = await buses[2].read("r4", None, 10)
            assert [message.id for message in window.messages] == [ids[4]]
            await asyncio.gather(*(bus.close() for bus in buses))

    run(work())


@pytest.mark.slow
def test_a_dead_master_is_replaced_without_a_restart() -> None:
    async def work(made: Cluster, replica: Server) -> None:
        dying = made.masters[0]
        key = next(f"k{n}" for n in range(99) if (slot_of(("GET", f"k{n}")) or 0) < SLOTS // 3)
        changes: list[bool] = []
        async with connected(made.url, on_change=changes.append, timeout=2.0) as store:
            bus, received = RedisBus(made.url, store, 100, 60), RecordingListener()
            bus.listen(received)
            await bus.open()
            await within(subscribed(bus, key))
            await store.call(("SET", key, "kept"), ("SET", "n" + key, 1))
            replicated(dying, replica)
            assert dying.process is not None
            dying.process.send_signal(signal.SIGSTOP)
            uncertain = store.call(("INCR", key + "{" + key + "}"))
            dying.kill()
            assert "closed" in await fails(uncertain)
            assert not store.available
            assert await fails(store.call(("GET", key)))  # at once
            await until(lambda: store.available)
            assert role(replica)[0] == "master"
            # What may have been carried out was not sent again.
            assert await store.call(("GET", key), ("EXISTS", key + "{" + key + "}")) == [b"kept", 0]
            await until(lambda: bool(received.bodies) or bool(bus.send(key, b"again")))
            await bus.close()
            dying.start()  # comes back as a replica, and nobody writes to it
            await until(lambda: role(dying)[0] == "slave")
            assert await store.call(("SET", key, "new"), ("GET", key)) == [b"OK", b"new"]
            # By hand, with no connection lost: the other one answers MOVED.
            replicated(replica, dying)
            assert dying.ask("CLUSTER", "FAILOVER", "TAKEOVER") == b"OK"
            await until(lambda: role(replica)[0] == "slave")
            # It takes no commands in its first two seconds, and says so.
            assert await eventually(store, ("GET", key), ("GET", "x")) == [b"new", None]
        assert changes[:3] == [True, False, True]

    with cluster() as made, ExitStack() as stack:
        replica = made.replica_of(made.masters[0], stack)
        run(work(made, replica))


def test_tls_is_spoken_to_every_node(tmp_path: Path) -> None:
    async def work(made: Cluster) -> None:
        async with connected(made.url) as store:
            keys = [f"k{number}" for number in range(20)]
            await store.call(*(("SET", key, key) for key in keys))
            assert await store.call(*(("GET", key) for key in keys)) == [k.encode() for k in keys]
        async with connected(made.url.partition("?")[0]) as store:
            assert "certificate verify failed" in store.reason

    with cluster(certificate(tmp_path)) as made:
        run(work(made))


# A whole server


@pytest.mark.slow
@pytest.mark.gen_test
async def test_usher_runs_on_a_cluster(database_kind: str, three: Cluster) -> None:
    with usher(database_kind, REDIS_URL=three.url) as server:
        ada = sign_up(server)
        assert ada.get("/readyz").body["redis"] == "ok"
        async with connect(server, f"?ticket={ada.ticket()}") as socket:
            await event(socket, "joined")
            assert (await ask(socket, "heartbeat"))["ok"]
            assert ada.post("/api/auth/logout").status == 204
            assert await close_code(socket) == 4410
        async with connect(server, subprotocols=bearer(ada.token)) as again:
            assert await close_code(again) == 4401
        assert log_in(server, ada.user["email"]).token
    assert sum(server.ask("DBSIZE") for server in three.masters) > 0


# Tried with writes


def test_every_master_is_tried_with_writes_and_a_full_one_counts_as_away(three: Cluster) -> None:
    async def work() -> None:
        async with connected(three.url, tried=True) as store:
            await until(lambda: store.available)
            assert await store.call(("SET", "a", 1), ("SET", "b", 2), ("SET", "c", 3))
            full = three.masters[1]
            full.ask("CONFIG", "SET", "maxmemory", 1)
            await until(lambda: not store.available)
            full.ask("CONFIG", "SET", "maxmemory", 0)
            await until(lambda: store.available)
            assert await store.call(("SET", "a", 1), ("SET", "b", 2), ("SET", "c", 3))

    run(work())
