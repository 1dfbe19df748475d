"""The place of one of the processes, whichever runs in it now, and what it is asked."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Sequence
from contextlib import suppress

from services.processes.link import (
    Expose,
    Failed,
    Families,
    Link,
    Ping,
    ProcessState,
    Reload,
    Reloaded,
)

ANSWER_SECONDS = 1.0
"""How long a worker may take to tell its metrics."""
RELOAD_SECONDS = 30.0
START_SECONDS = 180.0
"""How long a worker may take until it serves; it may wait for a lock on the database."""
MOST_UNANSWERED = 6
"""Pings. A worker whose loop has not turned for a minute is killed, and started again."""


class Place:
    """One of the processes.

    Args:
        number: from 1 on.
        sockets: what it listens on.

    Attributes:
        serves: set while it serves.
        process, link: of the worker that runs in it, or None.
        failed: why the worker could not start, as it told.
    """

    def __init__(self, number: int, sockets: Sequence[socket.socket]) -> None:
        self.number, self.sockets = number, sockets
        self.state: ProcessState = "starting"
        self.serves = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.link: Link | None = None
        self.failed: Failed | None = None
        self._unanswered, self._began = 0, 0.0
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reloaded | Families | None]] = {}

    @property
    def name(self) -> str:
        return str(self.number)

    @property
    def stands_still(self) -> bool:
        """Whether its loop does not turn, or it does not come to serve."""
        if self.serves.is_set():
            return self._unanswered >= MOST_UNANSWERED
        return asyncio.get_running_loop().time() - self._began > START_SECONDS

    def reset(self, now: float) -> None:
        """Before a process is started in it. `now`: of the loop's clock."""
        self.state, self.failed, self._unanswered, self._began = "starting", None, 0, now

    def ended(self) -> None:
        """Nothing that was asked will be answered."""
        self.state, self.link, self.process = "starting", None, None
        self.serves.clear()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(None)

    def terminate(self) -> None:
        """Ask the process to stop, if there is one."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.terminate()

    def kill(self) -> None:
        """End the process at once, if there is one."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()

    # ---- what it is asked ------------------------------------------------------------------

    def ping(self) -> None:
        """Ask for a sign that its loop turns."""
        if self.link is not None:
            self._unanswered += 1
            self.link.send(Ping())

    def heard(self) -> None:
        """It has said something: its loop turns."""
        self._unanswered = 0

    def answered(self, message: Families | Reloaded) -> None:
        """An answer to what it was asked has come."""
        answer = self._waiting.get(message.number)
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def exposed(self) -> Families | None:
        """Its metrics; None if it has ended or does not answer in time."""
        answer = await self._ask(Expose(next(self._numbers)), ANSWER_SECONDS)
        return answer if isinstance(answer, Families) else None

    async def reload(self) -> bool:
        """Make it read the settings anew; if it is just being started, wait for that.

        Returns:
            Whether it could.
        """
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.serves.wait(), RELOAD_SECONDS)
        answer = await self._ask(Reload(next(self._numbers)), RELOAD_SECONDS)
        return isinstance(answer, Reloaded) and answer.ok

    async def _ask(self, question: Expose | Reload, seconds: float) -> Reloaded | Families | None:
        if self.link is None:
            return None
        answer = self._waiting[question.number] = asyncio.get_running_loop().create_future()
        self.link.send(question)
        try:
            return await asyncio.wait_for(answer, seconds)
        except asyncio.TimeoutError:
            return None
        finally:
            del self._waiting[question.number]
