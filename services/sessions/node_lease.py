"""Tracks when this node last read all revocations, and closes the sockets if that is too long ago.

A node is current after a sweep of the rows, or after reading the nodes' log from a Redis that
accepts writes; a reply to PING is not enough. If it has not been current for a whole lease, it
closes every socket (4503). After a stall of the event loop (loop_watch.py), it sends and receives
nothing until it has caught up, because other nodes may have reported revocations as complete.
"""

from __future__ import annotations

import asyncio
import logging

from services.errors import StoreUnavailable, Unavailable, UsherError
from services.event_loop.loop_watch import LoopWatch
from services.sessions.control import Control
from services.sessions.revocations import SWEEP_SECONDS, Revocations
from services.sockets.hub import Hub
from services.websocket.protocol import CloseCode

ENFORCE_SECONDS = 0.25
"""Interval of checking whether the lease has expired, and so the precision of its end."""
LOG_SECONDS = 1.0
ROWS_FIRST_SECONDS = 1.0
"""How long to wait for the rows before reading the log. A revocation whose message was lost is only
in the rows."""
READ_SECONDS = 1.0
AGAIN_SECONDS = 0.1
WAKE_SECONDS = 2.0
"""Time for a node that stalled for longer than its lease to read what it missed."""

log = logging.getLogger("usher.lease")


class NodeLease:
    """Tracks when this node last read all revocations.

    Args:
        lease: seconds without reading revocations after which all sockets are closed.
    """

    def __init__(
        self,
        watch: LoopWatch,
        hub: Hub,
        revocations: Revocations,
        control: Control,
        lease: float,
    ) -> None:
        self._watch, self._hub, self._lease = watch, hub, lease
        self._revocations, self._control = revocations, control
        self._current_as_of = watch.clock()
        self._stalls = 0
        self._catching_up: asyncio.Task[None] | None = None
        self._asking: asyncio.Future[bool] | None = None
        watch.on_stall(self._on_stall)
        watch.on_resume(hub.release)

    # ---- asked on every join ---------------------------------------------------------------

    def is_current(self) -> bool:
        """Whether this node has read revocations recently enough to admit a socket."""
        return not self._watch.check() and self._watch.seen < self._lease_ends_at

    async def wait_current(self) -> None:
        """Wait after a stall until missed revocations have been read.

        If revocations have not been read for a whole lease, the rows are read now, as the database
        may be back before the next sweep.

        Raises:
            Unavailable: no revocations were read for a whole lease.
        """
        await self._watch.passed()
        if self._watch.clock() < self._lease_ends_at:
            return
        if self._asking is None:  # shared by all concurrent callers
            self._asking = asyncio.ensure_future(self._read_rows())
        if not await asyncio.shield(self._asking):
            raise Unavailable("revocations could not be read for a whole lease")

    @property
    def _lease_ends_at(self) -> float:
        return self._current_as_of + self._lease

    # ---- reading revocations ---------------------------------------------------------------

    async def sweep(self) -> None:
        """Read the rows that other nodes wrote. Call this every second.

        Raises:
            DatabaseUnavailable: the rows can't be read now.
        """
        begun = self._watch.clock()
        await self._revocations.sweep()
        self._record_current(begun)

    async def receive(self) -> None:
        """Read the nodes' log if the rows were not read lately. Call this every second.

        Raises:
            StoreUnavailable: Redis can't be read, or refuses writes.
        """
        begun = self._watch.clock()
        if begun - self._current_as_of > 2 * SWEEP_SECONDS and await self._control.read_missed():
            self._record_current(begun)

    def _record_current(self, as_of: float) -> None:
        self._current_as_of = max(self._current_as_of, as_of)

    # ---- an expired lease -----------------------------------------------------------------------

    async def enforce(self) -> None:
        """Close every socket if the lease has expired. Call this a few times a second."""
        if not self._watch.behind and self._watch.clock() >= self._lease_ends_at:
            self._close_all()

    def _close_all(self) -> None:
        if closed := self._hub.close_all(CloseCode.UNAVAILABLE):
            log.error("revocations could not be read for a whole lease: %d sockets closed", closed)

    # ---- after a stall ---------------------------------------------------------------------

    def _on_stall(self, seconds: float) -> None:
        self._stalls += 1
        self._hub.hold()
        log.warning("the event loop stalled for %.1f s: reading missed revocations", seconds)
        if self._catching_up is None:
            task = asyncio.get_running_loop().create_task(self._catch_up())
            self._catching_up = task

    async def _catch_up(self) -> None:
        woke = self._watch.clock()
        try:
            while not await self._read_missed(max(self._lease_ends_at, woke + WAKE_SECONDS)):
                if self._watch.clock() >= max(self._lease_ends_at, woke + WAKE_SECONDS):
                    self._close_all()
                    break
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            self._catching_up = None
            self._watch.caught_up()

    async def _read_missed(self, end: float) -> bool:
        """Read the rows, or the log if the rows can't be read. Returns whether that worked."""
        begun, stalls = self._watch.clock(), self._stalls
        rows = asyncio.ensure_future(self._read_rows())
        try:
            await asyncio.wait({rows}, timeout=min(ROWS_FIRST_SECONDS, max(0.0, end - begun)))
            was_read = rows.done() and rows.result()
            was_read = was_read or await self._read_log()
            if not was_read and not rows.done():
                left = max(0.0, end - self._watch.clock())
                await asyncio.wait({rows}, timeout=left)
                was_read = rows.done() and rows.result()
        finally:
            rows.cancel()
        if was_read and stalls == self._stalls:
            self._record_current(begun)
            return True
        return False  # nothing was read, or the loop stalled again meanwhile

    async def _read_rows(self) -> bool:
        try:
            await self.sweep()
            await self._revocations.applied()
        except UsherError as error:
            log.info("rows not read: %s", error.evidence)
            return False
        except Exception:  # any error means that the rows were not read
            log.exception("rows not read")
            return False
        finally:
            self._asking = None
        return True

    async def _read_log(self) -> bool:
        try:
            read = await asyncio.wait_for(self._control.read_missed(), READ_SECONDS)
            await self._revocations.applied()
        except (StoreUnavailable, asyncio.TimeoutError) as error:
            log.info("log of messages between nodes not read: %s", error)
            return False
        except Exception:  # as above
            log.exception("log of messages between nodes not read")
            return False
        return read
