from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import peewee
import pytest

from models.installation import Installation
from services.errors import DatabaseUnavailable, SettingError
from services.storage.database import Database
from services.storage.database_url import parse
from tests.support.databases import opened
from tests.support.pgbouncer import SERVER_CONNECTIONS, pgbouncer
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.tools import first_of


@pytest.fixture(scope="module")
def server() -> PostgresServer:
    return postgres_server()


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    with server.database() as address:
        yield address


def name_of(url: str) -> str:
    return parse(url).shown.rpartition("/")[2]


def setting(db: peewee.Database, name: str) -> str:
    (value,) = db.execute_sql("SELECT current_setting(%s)", (name,)).fetchone()
    return str(value)


# -- a pooler in between ----------------------------------------------------------------------


def different(db: peewee.Database, number: int) -> int:
    """A transaction of several statements whose texts are all different."""
    for step in range(3):
        key = f"{number}-{step}"
        Installation.insert({"key": key, "value": "v"}).execute(db)
    (found,) = db.execute_sql(
        f"SELECT count(*) + {number} - {number} FROM installation WHERE key LIKE %s",
        (f"{number}-%",),
    ).fetchone()
    return int(found)


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_several_nodes_work_behind_pgbouncer(url: str, pool_mode: str) -> None:
    """Before: DuplicatePreparedStatementError, and a start only with ignore_startup_parameters."""
    nodes, runs = (3, 120) if pool_mode == "transaction" else (1, 60)

    async def check() -> None:
        with pgbouncer(url, pool_mode) as front:
            pooled = f"{front}?connection_limit={4 if nodes > 1 else SERVER_CONNECTIONS // 3}"
            async with opened(pooled) as first, opened(pooled) as second, opened(pooled) as third:
                databases = (first, second, third)[:nodes]
                work = [databases[number % nodes].run(different, number) for number in range(runs)]
                assert set(await asyncio.gather(*work)) == {3}

    asyncio.run(check())


def test_connecting_asks_in_one_transaction_what_it_asks(url: str) -> None:
    """A query is two round trips, and between two of them a pooler may change the connection."""

    async def check() -> None:
        with pgbouncer(url) as pooled:
            wanted = f"{pooled}?target_session_attrs=read-write"
            for _ in range(5):
                rounds = [Database.open(wanted, timeout=10) for _ in range(5)]
                databases = await asyncio.gather(*rounds)
                await asyncio.gather(*(database.ping() for database in databases))
                await asyncio.gather(*(database.close() for database in databases))

    asyncio.run(check())


def test_statement_pooling_is_refused_by_its_name(url: str) -> None:
    with pgbouncer(url, "statement") as pooled, pytest.raises(SettingError) as caught:
        asyncio.run(Database.open(pooled))
    assert "statement pooling" in str(caught.value)


# -- settings of a transaction ----------------------------------------------------------------


def test_the_isolation_and_the_limits_are_ours_whatever_the_server_defaults_to(
    server: PostgresServer, url: str
) -> None:
    for default in ("default_transaction_isolation = 'serializable'", "statement_timeout = '1h'"):
        server.psql("postgres", f"ALTER DATABASE {name_of(url)} SET {default}")

    async def check() -> None:
        async with opened(url, timeout=4) as database:
            assert await database.run(setting, "transaction_isolation") == "read committed"
            assert await database.run(setting, "statement_timeout") == "4s"
            idle = await database.run(setting, "idle_in_transaction_session_timeout")
            assert idle == "8s"

    asyncio.run(check())


def test_writers_that_meet_are_not_refused_where_the_default_is_serializable(
    server: PostgresServer, url: str
) -> None:
    """Before: one in five answered 503."""
    server.psql(
        "postgres",
        f"ALTER DATABASE {name_of(url)} SET default_transaction_isolation = 'serializable'",
    )

    def add_one(db: peewee.Database) -> None:
        row = Installation.update({"value": Installation.value + "1"})
        row.where(Installation.key == "sum").execute(db)
        Installation.select().where(Installation.value == "").execute(db)

    async def check() -> None:
        async with opened(url, timeout=10) as database:
            await database.run(
                lambda db: Installation.insert({"key": "sum", "value": ""}).execute(db)
            )
            await asyncio.gather(*(database.run(add_one) for _ in range(60)))
            read = Installation.select(Installation.value)
            (row,) = await database.run(lambda db: list(read.execute(db)))
            assert row.value == "1" * 60

    asyncio.run(check())


def test_a_transaction_that_failed_unnoticed_is_not_reported_as_done(url: str) -> None:
    def swallow(db: peewee.Database) -> None:
        Installation.insert({"key": "a", "value": "v"}).execute(db)
        with pytest.raises(peewee.DataError):
            db.execute_sql("SELECT 1 / 0")

    async def check() -> None:
        async with opened(url) as database:
            with pytest.raises(peewee.InternalError):
                await database.run(swallow)
            await database.ping()

    asyncio.run(check())


# -- rights -----------------------------------------------------------------------------------


@contextmanager
def role(server: PostgresServer, url: str) -> Iterator[tuple[str, str]]:
    """A user without any right of its own, and the URL with which it connects."""
    name = f"u{name_of(url)[1:9]}"
    server.psql("postgres", f"CREATE ROLE {name} LOGIN")
    try:
        yield name, url.replace("postgres:@", f"{name}@")
    finally:
        server.psql(name_of(url), f"DROP OWNED BY {name}")
        server.psql("postgres", f"DROP OWNED BY {name}")
        server.psql("postgres", f"DROP ROLE {name}")


def test_a_missing_right_to_create_tables_is_named(server: PostgresServer, url: str) -> None:
    with role(server, url) as (name, theirs), pytest.raises(SettingError) as caught:
        asyncio.run(Database.open(theirs))
    line = str(caught.value)
    assert line.startswith("USHER_DATABASE_URL: ")
    assert f'"{name}"' in line
    assert "permission denied for schema public" in line


def test_a_missing_right_to_connect_is_named(server: PostgresServer, url: str) -> None:
    server.psql("postgres", f"REVOKE CONNECT ON DATABASE {name_of(url)} FROM PUBLIC")
    with role(server, url) as (_, theirs), pytest.raises(SettingError, match="permission denied"):
        asyncio.run(Database.open(theirs))


def test_no_schema_to_create_in_is_named(server: PostgresServer, url: str) -> None:
    server.psql(name_of(url), "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    with role(server, url) as (_, theirs), pytest.raises(SettingError, match="schema"):
        asyncio.run(Database.open(theirs))


async def _open(url: str) -> None:
    await (await Database.open(url)).close()


def test_rights_on_tables_of_another_owner_suffice_and_a_missing_one_is_named(
    server: PostgresServer, url: str
) -> None:
    """The tables are up to date: nothing has to be created or changed."""
    asyncio.run(_open(url))
    name = name_of(url)
    with role(server, url) as (user, theirs):
        with pytest.raises(SettingError, match="schema_migrations"):
            asyncio.run(_open(theirs))
        server.psql(name, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
        with pytest.raises(
            SettingError, match=r"DELETE, INSERT, UPDATE on table .* and [0-9]+ more"
        ):
            asyncio.run(_open(theirs))
        server.psql(name, f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}")
        with pytest.raises(SettingError, match="USAGE on sequence"):
            asyncio.run(_open(theirs))
        server.psql(name, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {user}")
        asyncio.run(_open(theirs))


def test_tables_of_another_owner_that_have_to_change_are_named(
    server: PostgresServer, url: str
) -> None:
    asyncio.run(_open(url))
    name = name_of(url)
    server.psql(name, "DELETE FROM schema_migrations WHERE name LIKE '0005%'")
    with role(server, url) as (user, theirs):
        for kind in ("TABLES", "SEQUENCES"):
            server.psql(name, f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {user}")
        server.psql(name, f"GRANT ALL ON SCHEMA public TO {user}")
        with pytest.raises(SettingError, match="must be owner of table") as caught:
            asyncio.run(_open(theirs))
    assert "\n" not in str(caught.value)


def test_a_right_that_is_accepted_while_it_runs_is_an_outage(
    server: PostgresServer, url: str
) -> None:
    async def check() -> None:
        with role(server, url) as (user, theirs):
            server.psql(name_of(url), f"GRANT ALL ON SCHEMA public TO {user}")
            async with opened(theirs) as database:
                server.psql(name_of(url), "ALTER TABLE installation OWNER TO postgres")
                with pytest.raises(DatabaseUnavailable):
                    await database.run(lambda db: list(Installation.select().execute(db)))
                await database.run(setting, "transaction_isolation")

    asyncio.run(check())


# -- what hosters put into URLs ---------------------------------------------------------------


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
    asyncio.run(_open(with_options(url, options)))


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
        asyncio.run(_open(with_options(url.replace("postgres:@", "postgres:hidden@"), options)))
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
        asyncio.run(_open(tcp.replace(good, f"127.0.0.1:1,{silent},{good}")))
        with pytest.raises(DatabaseUnavailable):
            asyncio.run(Database.open(tcp.replace(good, f"127.0.0.1:1,{silent}"), timeout=1))


def test_a_standby_among_several_hosts_is_passed_over(server: PostgresServer) -> None:
    with ExitStack() as stack:
        standby, primary = (stack.enter_context(server.database()) for _ in range(2))
        server.psql(
            "postgres",
            f"ALTER DATABASE {name_of(standby)} SET default_transaction_read_only = on",
        )
        asyncio.run(_open(primary))
        fronts = [stack.enter_context(pgbouncer(url)) for url in (standby, primary)]
        places = [front.partition("@")[2].partition("/")[0] for front in fronts]
        # Both serve a database of this name: the first one read-only.
        several = f"postgresql://postgres@{','.join(places)}/{name_of(primary)}"
        asyncio.run(_open(several))


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
