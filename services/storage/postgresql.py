"""The bridge to PostgreSQL: connections and transactions that work with any server and any pooler.

A pooler in transaction pooling mode (PgBouncer, and what hosters put in front) gives each
transaction whichever server connection is free, so no state may outlive a transaction:

- **No named statements.** A statement prepared on one server connection is unknown on the next, or
  its name belongs to another statement there. Peewee's bridge prepares each query again in any
  case, and asyncpg would name it and close it later, which costs a round trip: docs/adr/0002 has
  the figures.
- **No session settings.** Timeouts and the isolation level are sent with BEGIN, in the same round
  trip; PgBouncer refuses them on connect.

The code is written for READ COMMITTED: rows that must not change in between are read with FOR
UPDATE. A stricter default of the server would fail correct transactions.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import asyncpg
from peewee import InterfaceError, InternalError
from playhouse.pwasyncio import AsyncPgAtomic, AsyncPostgresqlDatabase
from playhouse.pwasyncio import __exception_wrapper__ as driver_errors

from services.storage.postgresql_url import PostgresqlUrl

# libpq's names (libpq, section 34.1.2); some systems lack some of them.
_KEEPALIVE_OPTIONS = (
    ("keepalives_idle", "TCP_KEEPIDLE", 1),
    ("keepalives_interval", "TCP_KEEPINTVL", 1),
    ("keepalives_count", "TCP_KEEPCNT", 1),
    ("tcp_user_timeout", "TCP_USER_TIMEOUT", 1),
)
# Errors after which the next host is tried: unreachable, starting up, or a standby.
_NEXT_HOST = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)


class OneConnection:
    """Keeps each run on one connection.

    If a connection is lost, Peewee's bridge takes another one, even in the middle of a
    transaction. The remaining statements would then be committed one by one, without the previous
    ones. Here a lost connection ends the run instead.
    """

    async def aconnect(self) -> Any:
        held = self._state.conn  # type: ignore[attr-defined]  # of the bridge
        if held is not None and held.stale():
            raise InterfaceError("the connection was lost")
        return await super().aconnect()  # type: ignore[misc]  # of the bridge


class _Transaction(AsyncPgAtomic):  # type: ignore[misc]  # no stubs
    """A transaction or savepoint in plain SQL, because asyncpg's transactions take no settings."""

    async def _abegin(self) -> None:
        depth = self.db.transaction_depth()
        self._savepoint = f"usher_{depth}" if depth else ""
        await self._execute(f"SAVEPOINT {self._savepoint}" if depth else self.db.begin_statement)

    async def acommit(self, begin: bool = True) -> None:
        if self._savepoint:
            await self._execute(f"RELEASE SAVEPOINT {self._savepoint}")
        elif await self._execute("COMMIT") != "COMMIT":
            # If an error was caught, the server answers COMMIT with ROLLBACK and no error.
            raise InternalError("the transaction had failed before its commit")
        if begin:
            await self._abegin()

    async def arollback(self, begin: bool = True) -> None:
        if self._savepoint:
            name = self._savepoint
            await self._execute(f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
        else:
            await self._execute("ROLLBACK")
        if begin:
            await self._abegin()

    async def _execute(self, statement: str) -> str:
        connection = await self.db.aconnect()
        with driver_errors:
            status: str = await connection.conn.execute(statement)
        return status


class _Bridge(OneConnection, AsyncPostgresqlDatabase):  # type: ignore[misc]  # no stubs
    begin_statement = "BEGIN"

    async def register_adapters(self, conn: Any) -> None:
        # It queries the server's types in two round trips, which a pooler may send to two server
        # connections unless they are in one transaction.
        async with conn.transaction():
            await super().register_adapters(conn)

    def atomic(self, *args: Any, **kwargs: Any) -> _Transaction:
        return _Transaction(self, *args, **kwargs)

    transaction = savepoint = atomic


class _Connector:
    """Connects to the first suitable host of the URL. It is the `connect` of asyncpg's pool."""

    def __init__(self, url: PostgresqlUrl, timeout: float) -> None:
        self._url = url
        self._tls = ssl.create_default_context() if url.system_roots else None
        # A host that drops packets must leave time for the next one.
        share = timeout / max(1, len(url.hosts))
        self._limit = min(share, url.connect_seconds or share)

    async def __call__(self, dsn: str, **options: Any) -> Any:
        options |= self._url.login
        options["timeout"] = self._limit
        if self._tls is not None:
            options["ssl"] = self._tls
        *others, (last_host, last_port) = self._url.hosts or ((None, None),)
        for host, port in others:
            try:
                return await self._connect(dsn, host, port, options)
            except _NEXT_HOST:
                continue
        return await self._connect(dsn, last_host, last_port, options)

    async def _connect(
        self, dsn: str, host: str | None, port: int | None, options: Mapping[str, Any]
    ) -> Any:
        connection = await asyncpg.connect(dsn, host=host, port=port, **options)
        try:
            if self._url.target not in {None, "any"}:
                await asyncio.wait_for(self._check_target(connection), self._limit)
            if self._url.keepalive:
                _keep_alive(connection, self._url.keepalive)
        except BaseException:  # cancelled too: the connection would stay open
            connection.terminate()
            raise
        return connection

    async def _check_target(self, connection: Any) -> None:
        """Check the target as asyncpg does, but in one transaction: see `register_adapters`."""
        reported = connection.get_settings()
        standby = getattr(
            reported, "in_hot_standby", None
        )  # from PostgreSQL 14 on, not by PgBouncer
        if standby is None:
            async with connection.transaction():
                row = await connection.fetchval("SELECT pg_catalog.pg_is_in_recovery()")
            standby = "on" if row else "off"
        read_only = getattr(reported, "default_transaction_read_only", "off")
        if standby == "on" or (self._url.target == "read-write" and read_only == "on"):
            raise asyncpg.TargetServerAttributeNotMatched(
                f"no host is as target_session_attrs={self._url.target} wants it"
            )


def _keep_alive(connection: Any, wanted: Mapping[str, int]) -> None:
    if not wanted.get("keepalives", 1):
        return
    # asyncpg does not expose its transport, and uvloop's pseudo-socket cannot set options.
    line = connection._transport.get_extra_info("socket")  # noqa: SLF001 - no public way
    with socket.socket(fileno=os.dup(line.fileno())) as twin:
        if twin.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, constant, least in _KEEPALIVE_OPTIONS:
            option, value = getattr(socket, constant, None), wanted.get(name, 0)
            if option is not None and value >= least:  # 0: the system's default, as in libpq
                twin.setsockopt(socket.IPPROTO_TCP, option, value)


async def _keep(_: object) -> None:
    """Skip the reset, which saves a round trip. No code here changes session settings, listens or
    takes session locks, and an aborted transaction closes its connection.
    """


def open_postgresql(url: PostgresqlUrl, timeout: float) -> Any:
    """Open the bridge to PostgreSQL. It connects on first use.

    Args:
        timeout: seconds that connecting, a statement, or half of an idle spell inside a
            transaction may take.
    """
    bridge = _Bridge(
        url.asyncpg,
        pool_size=url.connections,
        # With a minimum size asyncpg reconnects in the background, and logs a traceback each time.
        pool_min_size=0,
        acquire_timeout=timeout,
        statement_cache_size=0,
        connect=_Connector(url, timeout),
        reset=_keep,
        server_settings={"application_name": "usher", **url.settings},
    )
    limit = int(timeout * 1000)
    # A run that was abandoned must not keep its locks on the server. Nor must the transaction of
    # a node that was suspended or disconnected.
    bridge.begin_statement = (
        "BEGIN ISOLATION LEVEL READ COMMITTED; "
        f"SET LOCAL statement_timeout = {limit}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {limit * 2}"
    )
    return bridge
