"""A node that cannot read revocations closes its sockets after the lease. Others do not."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest

from tests.support.checks import outcome
from tests.support.databases import on_postgresql
from tests.support.nodes import Nodes, nodes
from tests.support.postgres import postgres_server
from tests.support.redis import RealRedis, until
from tests.support.server import Client, Usher, bearer, sign_up, usher
from tests.support.talk import Talker, start_talking, talking

pytestmark = pytest.mark.slow

LEASE = 6.0
SWEEP = 1.5
"""Rows are read every second or so: that long before the cut the node may have learnt last."""
MARGIN = 2.0
"""For a busy machine. Enforcing takes a quarter of a second."""
SURE_SECONDS = 3.0
"""On top of a lease, for what must not happen."""


async def is_closed_after_the_lease(
    talker: Talker, before: float, after: float, lease: float = LEASE
) -> None:
    """Closed with 4503, a lease after something was cut off: between these two times."""
    code = await talker.code(lease + 10)
    closed = time.monotonic()
    assert code == 4503
    assert closed - before >= lease - SWEEP, closed - before
    assert closed - after <= lease + MARGIN, closed - after


@on_postgresql  # SQLite's file does not go away
@pytest.mark.gen_test(timeout=90)
async def test_a_node_cut_off_from_both_for_a_lease_closes_its_sockets(database_kind: str) -> None:
    postgres = postgres_server()
    with ExitStack() as stack:
        redis = RealRedis()
        stack.callback(redis.close)
        server = stack.enter_context(usher(database_kind, REDIS_URL=redis.url, LEASE_SECONDS=LEASE))
        stack.callback(postgres.start)
        client = sign_up(server)
        talker = await start_talking(server, client)
        before = time.monotonic()
        postgres.kill()
        redis.kill()
        since = time.monotonic()
        # It stays for most of the lease: a short outage disturbs nobody.
        while time.monotonic() - since < LEASE - 2 * SWEEP:
            await talker.settle()
            await asyncio.sleep(0.5)
        assert await outcome(server, subprotocols=bearer(client.token)) == 4503
        await is_closed_after_the_lease(talker, before, since)
        # Back in touch, it lets people in again.
        postgres.start()
        redis.start()
        await until(lambda: Client(server).get("/readyz").status == 200)
        async with talking(server, client, ticket=False) as again:
            await again.settle()


@on_postgresql
@pytest.mark.gen_test(timeout=120)
async def test_the_lease_is_thirty_seconds_where_nothing_is_set(database_kind: str) -> None:
    with ExitStack() as stack:
        redis = RealRedis()
        stack.callback(redis.close)
        server = stack.enter_context(usher(database_kind, REDIS_URL=redis.url))
        stack.callback(postgres_server().start)
        talker = await start_talking(server, sign_up(server))
        before = time.monotonic()
        postgres_server().kill()
        redis.kill()
        await is_closed_after_the_lease(talker, before, time.monotonic(), lease=30.0)


@on_postgresql
@pytest.mark.gen_test(timeout=90)
async def test_only_a_redis_that_accepts_writes_renews_the_lease(
    database_kind: str,
) -> None:
    """All wait for the same lease, each on a Redis of its own."""
    with ExitStack() as stack:
        refusing = {how: RealRedis() for how in ("READONLY", "OOM", "NOPERM")}
        writable = RealRedis()
        talkers = []
        for redis in (*refusing.values(), writable):
            stack.callback(redis.close)
            settings = {"REDIS_URL": redis.url, "LEASE_SECONDS": LEASE}
            server = stack.enter_context(usher(database_kind, **settings))
            talkers.append(await start_talking(server, sign_up(server)))
        stack.callback(postgres_server().start)
        *cut_off, in_touch = talkers
        before = time.monotonic()
        postgres_server().kill()
        for how, redis in refusing.items():
            redis.refuse(how)
        since = time.monotonic()
        await asyncio.gather(*(is_closed_after_the_lease(each, before, since) for each in cut_off))
        await asyncio.sleep(before + LEASE + SURE_SECONDS - time.monotonic())
        await in_touch.settle()
        await in_touch.close()


# ---- a database that can be read but not written ---------------------------------------------


@contextmanager
def read_only(database_url: str) -> Iterator[None]:
    """PostgreSQL takes no writes in this database, from connections of before either."""
    name = urlsplit(database_url).path.lstrip("/")
    postgres_server().psql(name, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    _drop_connections(name)
    try:
        yield
    finally:
        postgres_server().psql(
            name,
            f"SET default_transaction_read_only = off; ALTER DATABASE {name} "
            "RESET default_transaction_read_only",
        )
        _drop_connections(name)


def _drop_connections(name: str) -> None:
    postgres_server().psql(
        "postgres",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )


@on_postgresql
@pytest.mark.slow  # a lease long, and more
@pytest.mark.gen_test(timeout=90)
async def test_revocations_are_read_from_a_read_only_database(
    database_kind: str,
) -> None:
    with nodes(database_kind, 1, LEASE_SECONDS=LEASE) as one:
        ann, bob = sign_up(one[0]), sign_up(one[0])
        a, b = await start_talking(one[0], ann), await start_talking(one[0], bob)
        with read_only(one.database_url):
            one.redis.kill()
            await asyncio.sleep(LEASE + SURE_SECONDS)
            assert Client(one[0]).get("/readyz").body["database"] == "unavailable"
            for talker in (a, b):
                await talker.settle()
            _revoke_from_outside(one, bob)
            since = time.monotonic()
            assert await b.code() == 4410
            assert time.monotonic() - since < 3.0
            await a.settle()
        one.redis.start()
        await until(lambda: Client(one[0]).get("/readyz").status == 200)
        await a.close()


def _revoke_from_outside(installation: Nodes, client: Client) -> None:
    """What a node that may write would have done."""
    name = urlsplit(installation.database_url).path.lstrip("/")
    [session] = _sessions_of(name, client)
    now = time.time()
    postgres_server().psql(
        name,
        "SET default_transaction_read_only = off; INSERT INTO revocations "
        "(kind, subject, user_id, reason, role, created_at, expires_at) VALUES "
        f"('session', '{session}', '{client.user['id']}', 'logout', '', {now}, {now + 900})",
    )


def _sessions_of(name: str, client: Client) -> list[str]:
    mark = secrets.token_hex(4)
    reported = postgres_server().psql(
        name,
        f"SELECT '{mark}' || id || '{mark}' FROM login_sessions "
        f"WHERE user_id = '{client.user['id']}'",
    )
    return reported.split(mark)[1::2]


@pytest.mark.slow  # a lease long, and more
@pytest.mark.gen_test(timeout=60)
async def test_sockets_stay_beside_a_database_that_another_process_keeps_to_itself() -> None:
    with usher("sqlite", LEASE_SECONDS=LEASE) as server:
        talker = await start_talking(server, sign_up(server))
        with locked(server):
            await asyncio.sleep(LEASE + SURE_SECONDS)
            assert Client(server).get("/readyz").body["database"] == "unavailable"
            await talker.settle()
        await talker.close()


@contextmanager
def locked(server: Usher) -> Iterator[None]:
    """Another process keeps the one place for writers."""
    other = sqlite3.connect(server.data_dir / "usher.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()
