"""Measures what the simulation needs and no other benchmark gives: Redis, presence, PostgreSQL.

    python -m benchmarks.scale.costs

The services of Usher are called as a node calls them, on a Redis and a PostgreSQL of their own.
CPU is user and system time of the process named. The results belong into inputs.json.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import asyncpg
import redis

from benchmarks import machine
from benchmarks.accounts import sign_in
from benchmarks.compare import Subject, cpu_seconds
from benchmarks.compare_calls import Chain
from benchmarks.errors import BenchmarkFailed
from benchmarks.reactor import Reactor
from benchmarks.servers import free_port, running, usher_command
from benchmarks.sizes import LIMITS
from services.bus.bus import LoggedMessage
from services.bus.bus_redis import RedisBus
from services.bus.log_keys import channel
from services.embedded.binary import find_redis_server
from services.embedded.redis_server import EmbeddedRedis
from services.redis.store_redis import RedisStore
from services.sockets.room_index import Entry, Here, RoomIndex
from services.sockets.session_pool import SessionPool, SocketSession
from services.websocket.protocol import Member
from tests.support.databases import postgres_template
from tests.support.postgres import postgres_server

ROUNDS = 5
SOCKETS = 10_000
NODES = 200
MESSAGES = 500
REFRESHES, LANES = 300, 10
IDLE_SECONDS = 10
BODY = b"x" * 250
Costs = dict[str, float]


class Meter:
    """CPU µs of Redis and of this process for each of so many operations."""

    def __init__(self, store: int) -> None:
        self._pids = store, os.getpid()

    async def measure(
        self, work: Callable[[], Awaitable[object]], count: int
    ) -> tuple[float, float]:
        """Medians over the rounds; the first warms up."""
        found: list[tuple[float, float]] = []
        for _ in range(ROUNDS + 1):
            before = [cpu_seconds(pid) for pid in self._pids]
            await work()
            after = [cpu_seconds(pid) for pid in self._pids]
            redis_cpu, own = ((b - a) * 1e6 / count for a, b in zip(before, after, strict=True))
            found.append((redis_cpu, own))
        return median(one[0] for one in found[1:]), median(one[1] for one in found[1:])


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[tuple[EmbeddedRedis, RedisStore]]:
    """Usher's embedded Redis, and a store on it."""
    program = find_redis_server()
    if program is None:
        raise BenchmarkFailed("no redis-server here")
    server = EmbeddedRedis(folder, program)
    await server.start()
    store = RedisStore(server.url)
    await store.connect()
    try:
        yield server, store
    finally:
        await store.close()
        await server.stop()


def _sessions(count: int) -> list[SocketSession]:
    now = time.time()
    return [
        SocketSession(
            secrets.token_urlsafe(16),
            secrets.token_urlsafe(16),
            secrets.token_urlsafe(16),
            f"Person {number}",
            "user",
            "node-1",
            now,
            now + 900,
        )
        for number in range(count)
    ]


async def leases(meter: Meter, store: RedisStore) -> Costs:
    """Renewing the record of a socket, and its entry in the index of a room."""
    pool, sessions = SessionPool(store), _sessions(SOCKETS)
    record = await meter.measure(lambda: pool.renew(sessions), SOCKETS)
    index = RoomIndex(store, time.time)
    entries = [Entry(s.user_id, s.node, s.name, s.session_id) for s in sessions]

    async def renew() -> None:
        for start in range(0, SOCKETS, 200):
            await index.write("channel:large", entries[start : start + 200])

    async def renew_small() -> None:
        for start in range(0, SOCKETS, 200):
            batch = range(start, start + 200)
            await asyncio.gather(*(index.write(f"channel:{n}", entries[n : n + 1]) for n in batch))

    entry = await meter.measure(renew, SOCKETS)
    small = await meter.measure(renew_small, SOCKETS)
    read = await meter.measure(lambda: index.read("channel:large"), SOCKETS)

    async def read_small() -> None:
        for start in range(0, SOCKETS, 200):
            batch = range(start, start + 200)
            await asyncio.gather(*(index.read(f"channel:{n}") for n in batch))

    tiny = await meter.measure(read_small, SOCKETS)
    return {
        "lease of a socket, Redis": record[0],
        "lease of a socket, node": record[1],
        "lease in a large room, Redis": entry[0],
        "lease in a large room, node": entry[1],
        "lease in a room, Redis": small[0],
        "lease in a room, node": small[1],
        "presence entry read, Redis": read[0],
        "presence entry read, node": read[1],
        "presence read of a room, Redis": tiny[0],
        "presence read of a room, node": tiny[1],
    }


async def memory(server: EmbeddedRedis, store: RedisStore) -> Costs:
    """Bytes of Redis for the record of a socket, and for its entry in a room."""
    with redis.Redis.from_url(server.url) as client:

        def used() -> int:
            return int(client.info("memory")["used_memory"])

        client.flushall()
        sessions = _sessions(SOCKETS)
        before = used()
        await SessionPool(store).renew(sessions)
        record = (used() - before) / SOCKETS
        before = used()
        entries = [Entry(s.user_id, s.node, s.name, s.session_id) for s in sessions]
        await RoomIndex(store, time.time).write("channel:large", entries)
        entry = (used() - before) / SOCKETS
    return {"socket in Redis, bytes": record, "room entry in Redis, bytes": entry}


async def messages(meter: Meter, url: str, store: RedisStore) -> Costs:
    """A message to a room: into its log, and to each node that subscribes."""
    sender = RedisBus(url, store, 1_000, 86_400)
    await sender.open()

    async def keep() -> None:
        for _ in range(MESSAGES):
            await sender.keep("channel:busy", BODY)

    alone = await meter.measure(keep, MESSAGES)
    readers = []
    for _ in range(NODES):
        reader, writer = await asyncio.open_unix_connection(url.removeprefix("unix://"))
        writer.write(b"SUBSCRIBE " + channel("channel:busy").encode() + b"\r\n")
        readers.append((asyncio.ensure_future(_drain(reader)), writer))
    await asyncio.sleep(1)
    told = await meter.measure(keep, MESSAGES)
    for task, writer in readers:
        task.cancel()
        writer.close()
    received = await _received(meter, sender, keep)
    await sender.close()
    return {
        "message kept, Redis": alone[0],
        "message to a subscribed node, Redis": (told[0] - alone[0]) / NODES,
        "message received, node": received - alone[1],
    }


class _Listener:
    """What a node does with a message after it was received is not counted here."""

    def logged(self, room: str, message: LoggedMessage) -> None: ...

    def ephemeral(self, room: str, body: bytes) -> None: ...

    def gap(self, room: str) -> None: ...


async def _received(meter: Meter, bus: RedisBus, keep: Callable[[], Awaitable[None]]) -> float:
    """CPU µs of this process for a message that it sends and receives."""
    bus.listen(_Listener())
    subscribed = bus.subscribe("channel:busy")
    if subscribed is not None:
        await subscribed
    return (await meter.measure(keep, MESSAGES))[1]


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


def presence_memory(count: int = 200_000) -> Costs:
    """Bytes of a node for each user in a room that it has a member of."""
    before = machine.resident_bytes(os.getpid())
    entries = {}
    shown = {}
    for number in range(count):
        user = secrets.token_urlsafe(16)
        here = Here(user, "node-1", f"Person {number}")
        entries[user, "node-1"] = here
        shown[user] = Member(user, here.name)
    used = (machine.resident_bytes(os.getpid()) - before) / count
    assert len(entries) == len(shown)
    return {"user in presence, node, bytes": used}


def refreshes() -> Costs:
    """CPU of PostgreSQL, the node and Redis for a refresh of a login session."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usher-scale-")))
        url = stack.enter_context(postgres_server().copy(postgres_template()))
        settings = {**LIMITS, "USHER_DATABASE_URL": url, "USHER_LIMIT_REFRESHES": "0"}
        server = stack.enter_context(running(usher_command(folder, free_port()), settings, None))
        if server.store_pid is None:
            raise BenchmarkFailed("no embedded Redis")
        pids = asyncio.run(_backends(url)), [server.pid], [server.store_pid]
        logins = sign_in(server.address, LANES, LANES)
        store = server.store_pid
        subject = Subject("usher", server.pid, store, server.address, logins, folder)
        tokens = [login.refresh_token for login in logins]
        found = [_refresh(subject, pids, tokens) for _ in range(ROUNDS + 1)][1:]
        before = sum(map(cpu_seconds, pids[0]))
        time.sleep(IDLE_SECONDS)
        idle = (sum(map(cpu_seconds, pids[0])) - before) * 1e6 / IDLE_SECONDS
    database, node, redis_cpu = (median(values) for values in zip(*found, strict=True))
    return {
        "refresh, PostgreSQL": database,
        "refresh, node": node,
        "refresh, Redis": redis_cpu,
        "idle node, PostgreSQL": idle,
    }


def _refresh(subject: Subject, pids: tuple[list[int], ...], tokens: list[str]) -> list[float]:
    """CPU µs of each group of processes for a refresh; `tokens` are replaced by the next ones."""
    before = [sum(map(cpu_seconds, group)) for group in pids]
    reactor = Reactor()
    chains = [Chain(reactor, subject, token, REFRESHES // LANES) for token in tokens]
    for chain in chains:
        chain.next()
    reactor.run_until(lambda: all(one.finished for one in chains), 120, "refreshes")
    reactor.close()
    tokens[:] = [chain.token for chain in chains]
    after = [sum(map(cpu_seconds, group)) for group in pids]
    return [(b - a) * 1e6 / REFRESHES for a, b in zip(before, after, strict=True)]


async def _backends(url: str) -> list[int]:
    """The processes of a PostgreSQL server: one for each connection, and those that write."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    return [row["pid"] for row in rows]


async def _redis_costs() -> Costs:
    with tempfile.TemporaryDirectory(prefix="usher-scale-") as folder:
        async with embedded(Path(folder)) as (server, store):
            if server.pid is None:
                raise BenchmarkFailed("redis-server ended")
            meter = Meter(server.pid)
            costs = await leases(meter, store)
            costs |= await messages(meter, server.url, store)
            return costs | await memory(server, store)


def main() -> None:
    """Measure and print."""
    before = os.getloadavg()[0]
    costs = asyncio.run(_redis_costs()) | presence_memory() | refreshes()
    print(f"load {before:.1f} before and {os.getloadavg()[0]:.1f} after; CPU in µs")
    for name, value in costs.items():
        print(f"{name:40} {value:10.3g}")


if __name__ == "__main__":
    main()
