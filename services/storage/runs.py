"""Runs of work on the database: bounded in number and time, and aborted safely.

Each run is a task of its own with one connection and one transaction, so that a cancelled run never
leaves a connection in an unknown state: docs/adr/0002.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import asyncpg

from services.errors import DatabaseUnavailable
from services.event_loop.callers import Callers
from services.event_loop.fair_queue import FairQueue, Lane, Slot
from services.storage import database_errors
from services.storage.database_errors import DRIVER_ERRORS
from services.storage.database_url import DatabaseUrl

T = TypeVar("T")

NODE_RUNS = 256
"""Runs of the node's own loops that may wait: far more than there are loops."""

logger = logging.getLogger(__name__)


class BrokenOff(Exception):
    """The caller of this run has gone: roll back."""


class Run:
    """The state of one call of `Database.run` that is needed to abort it safely."""

    __slots__ = ("broken_off", "committing", "connection", "lost", "slot", "task")

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.broken_off = False
        self.committing = False
        self.lost = False
        self.connection: Any = None
        self.task: asyncio.Task[Any] | None = None


class Runs:
    """Runs work on the connections of one database, and aborts what takes too long.

    Args:
        bridge: an AsyncSqliteDatabase or AsyncPostgresqlDatabase.
        url: the URL that it was opened with.
        timeout: seconds that a run may take, including the wait for a connection.
        max_waiting: the most runs in progress or waiting; beyond it, `Busy` is raised.
        callers: on whose behalf tasks work.
        on_failed_connect: called with the error of a connection that cannot be opened. What it
            raises goes to the caller of the run.
    """

    def __init__(
        self,
        bridge: Any,
        url: DatabaseUrl,
        timeout: float,
        max_waiting: int,
        callers: Callers,
        on_failed_connect: Callable[[Exception], None],
    ) -> None:
        self.kind, self._shown = url.kind, url.shown
        self._bridge, self._timeout, self._callers = bridge, timeout, callers
        self._queue = FairQueue(*lanes_of(url, max_waiting))
        self._on_failed_connect = on_failed_connect
        self._runs: set[Run] = set()
        self._closed = False

    async def close(self) -> None:
        """Wait up to the timeout for runs in progress, and abort those that take longer."""
        self._closed = True
        tasks = {run.task for run in self._runs if run.task is not None}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._timeout)
            for run in list(self._runs):
                self._abort(run)
            if late:
                await asyncio.wait(late, timeout=self._timeout)

    async def supervise(self, job: Callable[[Run], T], timeout: float | None = None) -> T:
        """Run `job` in its own task, so that the caller can leave without waiting for its end.

        Raises:
            DatabaseUnavailable, Busy: as `Database.run`.
        """
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        caller = self._callers.current
        run = Run(self._queue.request(caller.kind, caller.key))
        self._runs.add(run)
        # Not asyncio.wait_for, which would wait for a rollback that a hanging server never
        # answers.
        run.task = asyncio.ensure_future(self._run_in_order(job, run))
        run.task.add_done_callback(partial(self._ended, run))
        limit = self._timeout if timeout is None else timeout
        try:
            done, _ = await asyncio.wait({run.task}, timeout=limit)
        except asyncio.CancelledError:
            self._abort(run)
            raise
        if not done:
            self._abort(run)
            raise DatabaseUnavailable(f"{self.kind} did not answer within {limit:g} s")
        result: T = run.task.result()
        return result

    def _ended(self, run: Run, task: asyncio.Task[Any]) -> None:
        # The slot is freed only now, not when the caller left: a hanging run keeps its slot.
        self._runs.discard(run)
        run.slot.release()
        if not task.cancelled():
            task.exception()  # retrieved here, or asyncio logs it if the caller has left

    def _abort(self, run: Run) -> None:
        """Abort a run whose caller has left, so that its connection is not reused half-way."""
        run.broken_off = True
        if run.task is None or run.task.done():
            return
        if run.connection is None:
            run.task.cancel()
        elif self.kind == "postgresql":
            # Not a cancellation, which would wait for the rollback and the reset on a connection
            # that may be dead. Without the connection the server rolls back by itself.
            _terminate(run.connection)
        # SQLite: its thread is executing a statement. After it the run sees `broken_off` and
        # rolls back. A cancellation would race with the statement and could return the
        # connection inside a transaction.

    async def _run_in_order(self, job: Callable[[Run], T], run: Run) -> T:
        await run.slot.wait()
        return await self._attempt_twice(job, run)

    async def _attempt_twice(self, job: Callable[[Run], T], run: Run) -> T:
        try:
            return await self._attempt(job, run)
        except DRIVER_ERRORS as error:
            if run.broken_off or not _may_retry(error, run):
                raise database_errors.refusal(error, self.kind, run.lost) from None
            logger.info("%s: tried again after %s", self.kind, _name(error))
        run.committing = run.lost = False
        try:
            return await self._attempt(job, run)
        except DRIVER_ERRORS as error:
            raise database_errors.refusal(error, self.kind, run.lost) from None

    async def _attempt(self, job: Callable[[Run], T], run: Run) -> T:
        run.connection = await self._acquire()
        try:
            if run.broken_off:
                raise BrokenOff
            result: T = await self._bridge.run(job, run)
            return result
        except DRIVER_ERRORS as error:
            run.lost = run.connection.stale() or database_errors.is_connection_lost(error)
            raise
        finally:
            await self._release(run)

    async def _acquire(self) -> Any:
        try:
            return await self._bridge.aconnect()
        except DRIVER_ERRORS as error:
            self._on_failed_connect(error)
            cause = database_errors.origin(error)
            # The text comes from the server or the system; neither contains the password.
            raise DatabaseUnavailable(f"{self._shown}: {cause}") from None

    async def _release(self, run: Run) -> None:
        connection = run.connection
        try:
            if self.kind == "postgresql" and (run.lost or run.broken_off or connection.stale()):
                _terminate(connection)
                await connection.close()  # releases asyncpg's proxy, which is invalid now
            await self._bridge.aclose()
        except DRIVER_ERRORS as error:
            # The transaction has ended; this must not change its result.
            logger.info("%s: connection dropped on release: %s", self.kind, _name(error))
        finally:
            run.connection = None


def lanes_of(url: DatabaseUrl, max_waiting: int) -> tuple[int, list[Lane]]:
    """The lanes that share the connections. Internal work (ping, the sweep of revocations) and
    users each have a reserved connection. Unauthenticated callers may use a part of the rest, in
    rotation. SQLite has one connection, which the lanes share over time: internal work is next."""
    slots = 1 if url.postgresql is None else url.postgresql.connections
    half, some = max(1, max_waiting // 2), max(1, max_waiting // 8)
    return slots, [
        Lane("node", 1000, int(slots > 1), slots, slots, NODE_RUNS, NODE_RUNS),
        Lane("users", 4, int(slots > 2), slots, slots, max_waiting, max_waiting),
        Lane("unauthenticated", 1, 0, max(1, slots // 2), max(1, slots // 4), half, some),
    ]


def _may_retry(error: Exception, run: Run) -> bool:
    # Lost during the commit: it may have happened, so the work must not run again.
    if run.lost and not run.committing:
        return True
    return database_errors.is_rolled_back(error)


def _terminate(connection: Any) -> None:
    try:
        if connection.conn is not None:
            connection.conn.terminate()
    except asyncpg.InterfaceError:
        pass  # already returned


def _name(error: Exception) -> str:
    return type(database_errors.origin(error)).__name__
