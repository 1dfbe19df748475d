"""The master that sentinels name: looked up, verified, and followed through a failover."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.bus.bus_redis import RedisBus
from services.errors import StoreUnavailable
from services.redis.store_redis import RedisStore
from services.redis.url import names_many, read_url
from tests.support.listeners import RecordingListener
from tests.support.redis import run, until, within
from tests.support.redis_forms import (
    MASTER_NAME,
    PASSWORD,
    SENTINEL_PASSWORD,
    SENTINEL_QUOTED,
    SentinelSet,
    Server,
    certificate,
    replicated,
    role,
    sentinel_set,
)
from tests.support.server import ask, bearer, close_code, connect, event, sign_up, usher, wait_until


@pytest.fixture(scope="module")
def lone() -> Iterator[SentinelSet]:
    """One master, no replica, three sentinels: what needs no fail-over."""
    with sentinel_set(replicas=0) as made:
        yield made


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, **{"timeout": 5.0, **options})
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


def send(server: Server, number: signal.Signals) -> None:
    assert server.process is not None
    server.process.send_signal(number)


# The URL


def test_a_url_is_accepted_apart() -> None:
    read = read_url(
        "rediss+sentinel://u:p%40@a,[::1]:7,B.example:1/main/3"
        "?ssl_cert_reqs=none&sentinel_username=s&sentinel_password=x%2F"
    )
    assert read.hosts == (("a", 26379), ("::1", 7), ("B.example", 1))
    assert read.master_name == "main"
    assert read.server.reveal() == "rediss://u:p%40@localhost/3?ssl_cert_reqs=none"
    assert read.sentinel.reveal() == "rediss://s:x%2F@localhost?ssl_cert_reqs=none"
    assert "p%40" not in repr(read)
    assert "x%2F" not in repr(read)
    plain = read_url("redis+cluster://a,b:1")
    assert (plain.hosts, plain.master_name) == ((("a", 6379), ("b", 1)), "")


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:hush@h",
        "redis+sentinel://:hush@h,/m",
        "redis+sentinel://:hush@h:99999/m",
        "redis+sentinel://:hush@h/m/n",
        "redis+sentinel://:hu/sh@h/m",
        "redis+sentinel://h/m?sentinel_username=hush",
        "rediss+sentinel://:hush@h/m?ssl_ca_certs=/no/such/file",
        "http+sentinel://:hush@h/m",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_quoting_it(url: str) -> None:
    assert names_many(url)
    with pytest.raises(ValueError) as caught:
        RedisStore(url)
    assert "hu" not in str(caught.value)


# Finding the master


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_master_is_found_through_the_sentinels(lone: SentinelSet, loop: str) -> None:
    async def work() -> None:
        async with connected(lone.url) as store:
            assert await store.call(("SET", "k", loop), ("GET", "k")) == [b"OK", loop.encode()]

    run(work(), loop=loop)
    assert lone.servers[0].ask("GET", "k") == loop.encode()


def test_the_database_of_the_url_is_used(lone: SentinelSet) -> None:
    async def work() -> None:
        async with connected(lone.url.replace(MASTER_NAME, f"{MASTER_NAME}/3")) as store:
            await store.call(("SET", "k", 1))
            assert b"db3:keys=1" in lone.servers[0].ask("INFO", "keyspace")

    run(work())


def test_sentinels_that_are_dead_or_frozen_block_nothing(lone: SentinelSet) -> None:
    async def work() -> None:
        async with connected(lone.url, timeout=1.0) as store:
            assert store.available
            assert await store.call(("PING",)) == [b"PONG"]

    dead, frozen, _ = lone.sentinels
    dead.kill()
    send(frozen, signal.SIGSTOP)
    try:
        run(work())
    finally:
        send(frozen, signal.SIGCONT)
        dead.start()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (f"/{MASTER_NAME}?", "/another?", "SENTINEL: ERR"),
        (SENTINEL_QUOTED, "wrong", "AUTH: WRONGPASS"),
        (f"?sentinel_password={SENTINEL_QUOTED}", "", "PING: NOAUTH"),
        ("red%2F", "wrong", "AUTH: WRONGPASS"),
    ],
)
def test_errors_do_not_contain_passwords(
    lone: SentinelSet, caplog: pytest.LogCaptureFixture, old: str, new: str, reason: str
) -> None:
    async def work() -> None:
        assert old in lone.url
        async with connected(lone.url.replace(old, new)) as store:
            assert not store.available
            assert store.reason == reason

    run(work())
    assert reason in caplog.text
    for secret in (PASSWORD, SENTINEL_PASSWORD, "wrong", "p%40ss"):
        assert secret not in caplog.text


def test_a_demoted_master_is_left_and_not_taken_again(lone: SentinelSet) -> None:
    async def work() -> None:
        (master,) = lone.servers
        changes: list[bool] = []
        async with connected(lone.url, on_change=changes.append) as store:
            assert master.ask("REPLICAOF", "127.0.0.1", 1) == b"OK"
            with pytest.raises(StoreUnavailable, match="SET: READONLY"):
                await store.call(("SET", "k", 1))
            assert not store.available
            await until(lambda: "not the master" in store.reason)
            assert master.ask("REPLICAOF", "NO", "ONE") == b"OK"
            await until(lambda: store.available)
            assert await store.call(("SET", "k", 1)) == [b"OK"]
        assert changes == [True, False, True, False]

    run(work())


def test_tls_is_spoken_to_sentinels_and_servers(tmp_path: Path) -> None:
    async def work(made: SentinelSet) -> None:
        async with connected(made.url) as store:
            assert await store.call(("SET", "k", 1)) == [b"OK"]
        async with connected(made.url.partition("&ssl")[0]) as store:
            assert "certificate verify failed" in store.reason

    with sentinel_set(certificate(tmp_path), replicas=0, sentinels=1) as made:
        run(work(made))


# Fail-over


def test_store_and_subscription_follow_the_master() -> None:
    async def work(made: SentinelSet) -> None:
        master, replica = made.servers
        changes: list[bool] = []
        async with connected(made.url, on_change=changes.append, timeout=1.0) as store:
            bus, received = RedisBus(made.url, store, 100, 60), RecordingListener()
            bus.listen(received)
            await bus.open()
            waiting = bus.subscribe("r")
            assert waiting is not None
            await within(waiting)
            await store.call(("SET", "kept", 1))
            replicated(master, replica)
            send(made.sentinels[0], signal.SIGSTOP)  # it will still name the old master
            master.kill()
            await until(lambda: not store.available)
            await until(lambda: store.available)
            assert role(replica)[0] == "master"
            assert await store.call(("GET", "kept"), ("SET", "new", 1)) == [b"1", b"OK"]
            await until(lambda: received.gaps == 1)
            await bus.keep("r", b"after")
            await until(lambda: received.bodies == [b"after"])
            await bus.close()
            # The old master comes back, and a sentinel that slept through it all.
            master.start()
            send(made.sentinels[0], signal.SIGCONT)
            async with connected(made.url) as late:
                await until(lambda: late.available)
                assert await late.call(("GET", "new")) == [b"1"]
        assert changes == [True, False, True, False]

    with sentinel_set() as made:
        run(work(made))


@pytest.mark.slow
@pytest.mark.gen_test(timeout=60)
async def test_usher_continues_after_a_fail_over(database_kind: str) -> None:
    with sentinel_set() as made, usher(database_kind, REDIS_URL=made.url) as server:
        master = made.servers[0]
        ada, eve = sign_up(server), sign_up(server)
        assert eve.post("/api/auth/logout").status == 204
        async with connect(server, f"?ticket={ada.ticket()}") as socket:
            await event(socket, "joined")
            replicated(*made.servers)
            master.kill()
            wait_until(lambda: ada.get("/readyz").body["redis"] == "fallback")
            assert ada.get("/readyz").status == 200
            async with connect(server, subprotocols=bearer(eve.token)) as refused:
                assert await close_code(refused) == 4401  # the database knows
            await asyncio.to_thread(wait_until, lambda: ada.get("/readyz").body["redis"] == "ok")
            assert role(made.servers[1])[0] == "master"
            async with connect(server, subprotocols=bearer(eve.token)) as refused:
                assert await close_code(refused) == 4401
            assert (await ask(socket, "heartbeat"))["ok"]
            async with connect(server, f"?ticket={ada.ticket()}") as another:
                await event(another, "joined")
            assert ada.post("/api/auth/logout").status == 204
            assert await close_code(socket) == 4410
        for password in (PASSWORD, SENTINEL_PASSWORD, "p%40ss"):
            assert password not in server.log
