"""What hosters put into the URL of a PostgreSQL: options, several hosts, passwords."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from services.errors import DatabaseUnavailable, SettingError
from services.storage.database import Database
from services.storage.database_url import parse
from tests.storage.runs import open_and_close
from tests.storage.urls import name_of, server, url
from tests.support.databases import opened
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres import PostgresServer
from tests.support.tools import first_of

__all__ = ["server", "url"]


def with_options(url: str, options: str) -> str:
    return f"{url}&{options}"


@pytest.mark.parametrize(
    "options",
    first_of(
        [
            "channel_binding=prefer",
            "connect_timeout=10",
            "connect_timeout=0",
            "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3",
            "tcp_user_timeout=30000",
            "gssencmode=disable",
            "target_session_attrs=read-write",
            "target_session_attrs=primary",
            "pgbouncer=true&connection_limit=1",
            "schema=public",
            "application_name=mine",
            "search_path=public",
            "options=-c%20lock_timeout%3D3000",
            "client_encoding=utf8",
            "load_balance_hosts=disable",
            "sslmode=prefer",
        ],
        4,
    ),
)
def test_options_of_hosters_are_accepted(url: str, options: str) -> None:
    asyncio.run(open_and_close(with_options(url, options)))


@pytest.mark.parametrize(
    ("options", "named"),
    first_of(
        [
            ("channel_binding=require", "channel_binding"),
            ("gssencmode=require", "gssencmode"),
            ("target_session_attrs=standby", "target_session_attrs"),
            ("target_session_attrs=prefer-standby", "target_session_attrs"),
            ("connect_timeout=soon", "connect_timeout"),
            ("keepalives_idle=often", "keepalives_idle"),
            ("connection_limit=0", "connection_limit"),
            ("require_auth=scram-sha-256", "require_auth"),
            ("hostaddr=127.0.0.1", "hostaddr"),
            ("sslmode=perhaps", "sslmode"),
            ("sslrootcert=system&sslmode=require", "sslmode"),
            ("sslmode=verify-full&sslrootcert=/no/such/file", "sslrootcert"),
            ("pgbouncer=perhaps", "pgbouncer"),
            ("schema=mine", "schema"),
            ("sslmod=require", "sslmod"),
            ("lock_timeout=soon", "lock_timeout"),
        ],
        4,
    ),
)
def test_an_option_that_is_not_accepted_is_refused_by_its_name(
    url: str, options: str, named: str
) -> None:
    with pytest.raises(SettingError) as caught:
        asyncio.run(
            open_and_close(with_options(url.replace("postgres:@", "postgres:hidden@"), options))
        )
    assert caught.value.name == "USHER_DATABASE_URL"
    assert named in caught.value.got
    assert "hidden" not in str(caught.value)


@pytest.fixture
def tcp(url: str) -> Iterator[str]:
    """The same over TCP: through a PgBouncer, for the server itself listens on no port."""
    with pgbouncer(url) as pooled:
        yield pooled


@contextmanager
def silent_host() -> Iterator[str]:
    """An address that takes connections and never answers, as behind a dead load balancer."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_host_that_is_gone_or_silent_is_passed_over_for_the_next(tcp: str) -> None:
    good = tcp.partition("@")[2].partition("/")[0]
    with silent_host() as silent:
        asyncio.run(open_and_close(tcp.replace(good, f"127.0.0.1:1,{silent},{good}")))
        with pytest.raises(DatabaseUnavailable):
            asyncio.run(Database.open(tcp.replace(good, f"127.0.0.1:1,{silent}"), timeout=1))


def test_a_standby_among_several_hosts_is_passed_over(server: PostgresServer) -> None:
    with ExitStack() as stack:
        standby, primary = (stack.enter_context(server.database()) for _ in range(2))
        server.psql(
            "postgres",
            f"ALTER DATABASE {name_of(standby)} SET default_transaction_read_only = on",
        )
        asyncio.run(open_and_close(primary))
        fronts = [stack.enter_context(pgbouncer(url)) for url in (standby, primary)]
        places = [front.partition("@")[2].partition("/")[0] for front in fronts]
        # Both serve a database of this name: the first one read-only.
        several = f"postgresql://postgres@{','.join(places)}/{name_of(primary)}"
        asyncio.run(open_and_close(several))


def test_keepalives_are_set_on_the_line(tcp: str) -> None:
    wanted = "keepalives_idle=31&keepalives_interval=7&keepalives_count=3"

    async def check() -> None:
        async with opened(f"{tcp}?{wanted}") as database:
            line = await _line_of(database)
            with socket.socket(fileno=line) as twin:
                assert twin.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 31
                assert twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 7
                assert twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3

    asyncio.run(check())


async def _line_of(database: Database) -> int:
    connection: Any = await database._bridge.aconnect()
    try:
        transport = connection.conn._con._transport
        with transport.get_extra_info("socket").dup() as twin:
            return int(twin.detach())
    finally:
        await database._bridge.aclose()


def test_a_password_with_an_at_sign_does_not_change_the_host(url: str) -> None:
    read = parse("postgresql://me:p@ss@h1:1,[::1]:2/name?sslmode=require").postgresql
    assert read is not None
    assert read.login == {"user": "me", "password": "p@ss", "database": "name"}
    assert read.hosts == (("h1", 1), ("::1", 2))
    assert read.shown == "postgresql://h1:1,::1:2/name"
    assert "p@ss" not in repr(read)
