"""Where the Redis of a store is, who the store says it is, and servers that refuse it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from services.redis.store_redis import RedisStore
from services.secret import Secret
from tests.redis.stores import PASSWORD, QUOTED, connected, fails, loop
from tests.support.redis import RealRedis, redis_server, run, until
from tests.support.redis_forms import Server, certificate
from tests.support.server import free_port

__all__ = ["loop", "redis_server"]


# Who we are, and where it is


@pytest.mark.parametrize("user", ["", "default"])
def test_a_password_from_the_url_is_used(redis_server: RealRedis, user: str) -> None:
    async def work() -> None:
        redis_server.ask("CONFIG", "SET", "requirepass", PASSWORD)
        url = Secret(f"unix://{user}:{QUOTED}@{redis_server.path}")
        async with connected(url) as store:
            assert await store.call(("PING",)) == [b"PONG"]

    run(work())


@pytest.mark.parametrize(("login", "word"), [(":wrong@", "AUTH: WRONGPASS"), ("", "PING: NOAUTH")])
def test_a_wrong_password_is_reported_without_the_password(
    redis_server: RealRedis, caplog: pytest.LogCaptureFixture, login: str, word: str
) -> None:
    async def work() -> None:
        redis_server.ask("CONFIG", "SET", "requirepass", PASSWORD)
        async with connected(f"unix://{login}{redis_server.path}") as store:
            assert store.reason == word
            assert await fails(store.call(("GET", "k"))) == word

    run(work())
    assert word in caplog.text
    assert "wrong@" not in caplog.text
    assert PASSWORD not in caplog.text


def test_a_tcp_address_and_a_database_number_are_used(loop: str) -> None:
    port = free_port()
    server = RealRedis("--port", str(port), "--bind", "127.0.0.1")

    async def work() -> None:
        async with connected(f"redis://127.0.0.1:{port}/3") as store:
            assert await store.call(("SET", "k", 1)) == [b"OK"]
            info = server.ask("INFO", "keyspace")
            assert b"db3:keys=1" in info
            assert b"db0" not in info

    try:
        run(work(), loop=loop)
    finally:
        server.close()


@asynccontextmanager
async def tls_in_front_of(server: RealRedis, cert: Path, key: Path) -> AsyncIterator[int]:
    """A TLS port that passes everything on to the real server, as stunnel would."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_unix_connection(server.path)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    front = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    before = asyncio.all_tasks()
    yield front.sockets[0].getsockname()[1]
    front.close()
    await until(lambda: asyncio.all_tasks() <= before)  # every connection has ended


def test_tls_is_spoken_and_the_certificate_checked(redis_server: RealRedis, loop: str) -> None:
    cert, key = certificate(redis_server.folder)

    async def work() -> None:
        async with tls_in_front_of(redis_server, cert, key) as port:
            url = f"rediss://localhost:{port}"
            async with connected(f"{url}?ssl_ca_certs={cert}") as store:
                assert await store.call(("PING",)) == [b"PONG"]
            async with connected(url) as store:
                assert not store.available
                assert "certificate verify failed" in store.reason

    run(work(), loop=loop)


def test_a_server_with_its_own_tls_is_used(tmp_path: Path, loop: str) -> None:
    cert, key = certificate(tmp_path)
    server = Server(password=PASSWORD, tls=(cert, key))

    async def work() -> None:
        url = f"rediss://:{QUOTED}@127.0.0.1:{server.port}/2"
        async with connected(f"{url}?ssl_ca_certs={cert}") as store:
            assert await store.call(("SET", "k", 1), ("GET", "k")) == [b"OK", b"1"]
            assert b"db2:keys=1" in server.ask("INFO", "keyspace")
            server.kill()
            await until(lambda: not store.available)
            server.start()
            await until(lambda: store.available)
        async with connected(url) as store:
            assert "certificate verify failed" in store.reason

    try:
        run(work(), loop=loop)
    finally:
        server.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hush@host",
        "redis://user:hu/sh@host",
        "unix://",
        "rediss://:hush@host?ssl_cert_reqs=perhaps",
        "rediss://:hush@host?ssl_ca_certs=/no/such/file",
        "rediss://:hush@host?ssl_nonsense=1",
        "redis://:hush@host?socket_timeout=hush",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        RedisStore(Secret(url))
    assert "hu" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# Refusals of a whole server


def test_a_full_redis_refuses_the_group_only(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server.url) as store:
            redis_server.ask("CONFIG", "SET", "maxmemory", 1)
            assert await fails(store.call(("GET", "k"), ("SET", "k", "hush"))) == "SET: OOM"
            assert store.available
            assert await store.call(("GET", "k")) == [None]

    run(work())


def test_a_replica_refuses_writes(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server.url) as store:
            redis_server.ask("REPLICAOF", "127.0.0.1", free_port())
            assert await fails(store.call(("SET", "k", 1))) == "SET: READONLY"

    run(work())


def test_a_probe_that_is_refused_ends_the_link(redis_server: RealRedis) -> None:
    async def work() -> None:
        async with connected(redis_server.url) as store:
            redis_server.ask("ACL", "SETUSER", "default", "-ping")
            await until(lambda: store.reason == "PING: NOPERM")
            assert not store.available

    run(work())
