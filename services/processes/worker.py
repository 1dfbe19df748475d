"""A worker: one of several server processes on one port, and its end of the link.

The supervisor starts it as `server.py worker NUMBER COUNT LINK LISTENERS …`, the last two being
descriptors that it inherits.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from os import fstat
from typing import Final

from services.errors import SettingError
from services.event_loop.tasks import end_tasks
from services.processes.exposition import Family, together
from services.processes.link import (
    TO_WORKER,
    Collect,
    Collected,
    Expose,
    Failed,
    Families,
    Link,
    Ping,
    Pong,
    ProcessState,
    Ready,
    Reload,
    Reloaded,
    State,
    States,
    encode,
)

WORD = "worker"
STARTING: Final = "starting"
COLLECT_SECONDS = 2.0
"""How long the metrics of the others are waited for."""

Collecting = asyncio.Task[dict[str, list[Family]]]


class Worker:
    """This process as a worker.

    Args:
        number: from 1 to `count`.
        link: connected to the supervisor.
        listeners: this process's listening sockets.
    """

    def __init__(
        self, number: int, count: int, link: socket.socket, listeners: list[socket.socket]
    ) -> None:
        self.number, self.count, self.listeners = number, count, listeners
        self.states: tuple[ProcessState, ...] = tuple(STARTING for _ in range(count))
        """The state of each process, as the supervisor told it last."""
        self._socket = link
        self._link: Link | None = None
        self._told: ProcessState = "starting"
        self._reading: asyncio.Task[None] | None = None
        self._reloads: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, list[Family]]]] = {}
        self._collecting: Collecting | None = None
        self._collecting_next: Collecting | None = None

    @property
    def other_states(self) -> tuple[ProcessState, ...]:
        """The states of the other processes."""
        return (*self.states[: self.number - 1], *self.states[self.number :])

    def part(self, whole: int) -> int:
        """This process's part of a number of places. The parts of all are the whole."""
        return whole // self.count + (self.number <= whole % self.count)

    def fail(self, line: str, status: int) -> None:
        """Tell the supervisor that this process cannot start. Only before `serve`."""
        with suppress(OSError):
            self._socket.setblocking(True)
            self._socket.sendall(encode(Failed(line, status)))

    async def serve(
        self,
        anybody: bool,
        exposed: Callable[[], list[Family]],
        reload: Callable[[], Awaitable[bool]],
        on_end: Callable[[], None],
    ) -> None:
        """Tell the supervisor that this process serves, and listen to it from now on.

        Args:
            anybody: whether there is an account.
            exposed: returns the metrics of this process.
            reload: reads the settings anew. Returns whether they could be read.
            on_end: called when the supervisor has gone. This process must end, too.
        """
        self._link = await Link.open(self._socket)
        self._reading = asyncio.create_task(self._read(self._link, exposed, reload, on_end))
        self._told = "ready"
        self._link.send(Ready(anybody))

    async def close(self) -> None:
        """Stop listening to the supervisor."""
        await end_tasks(self._reading, self._collecting, self._collecting_next, *self._reloads)
        if self._link is not None:
            self._link.close()

    def tell(self, state: ProcessState) -> None:
        """Tell the supervisor this process's readiness, if it has changed."""
        if state != self._told and self._link is not None:
            self._told = state
            self._link.send(State(state))

    # ---- metrics ---------------------------------------------------------------------------

    async def expose(self, own: Callable[[], list[Family]]) -> bytes:
        """The metrics of all processes, in Prometheus' text format. Processes that do not answer
        in time are left out, and `usher_process_up` says so."""
        if self._collecting_next is None:
            self._collecting_next = asyncio.create_task(self._collect(self._collecting))
        others = await asyncio.shield(self._collecting_next)
        return together({str(self.number): own(), **others})

    async def _collect(self, before: Collecting | None) -> dict[str, list[Family]]:
        """Collect once, after the collection that is under way. Whoever asks meanwhile shares the
        next one: anybody may ask for /metrics, and each collection costs every process something.
        """
        if before is not None:
            await asyncio.wait((before,))
        self._collecting, self._collecting_next = self._collecting_next, None
        if self._link is None:
            return {}
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._link.send(Collect(number))
        try:
            return await asyncio.wait_for(answer, COLLECT_SECONDS)
        except asyncio.TimeoutError:
            return {}
        finally:
            del self._waiting[number]

    # ---- from the supervisor ---------------------------------------------------------------

    async def _read(
        self,
        link: Link,
        exposed: Callable[[], list[Family]],
        reload: Callable[[], Awaitable[bool]],
        on_end: Callable[[], None],
    ) -> None:
        async for body in link.bodies():
            match TO_WORKER.decode(body):
                case States(states):
                    self.states = states
                case Ping():
                    link.send(Pong())
                case Expose(number):
                    link.send(Families(number, exposed()))
                case Collected(number, processes):
                    waiting = self._waiting.get(number)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(processes)
                case Reload(number):
                    task = asyncio.create_task(self._reload(link, number, reload))
                    self._reloads.add(task)
                    task.add_done_callback(self._reloads.discard)
        on_end()

    @staticmethod
    async def _reload(link: Link, number: int, reload: Callable[[], Awaitable[bool]]) -> None:
        link.send(Reloaded(number, await reload()))


def worker_command(number: int, count: int, link: int, listeners: Sequence[int]) -> list[str]:
    """The words by which a server is started as a worker, in front of its settings."""
    return [WORD, str(number), str(count), str(link), ",".join(map(str, listeners))]


def take_worker(arguments: list[str]) -> Worker | None:
    """Take what `worker_command` gave from the front of a command line. None if this process is no
    worker.

    Raises:
        SettingError: the words were not written by a supervisor.
    """
    if arguments[:1] != [WORD]:
        return None
    try:
        _, number, count, link, listeners = arguments[:5]
        found = Worker(
            int(number),
            int(count),
            _socket(int(link)),
            [_socket(int(each)) for each in listeners.split(",")],
        )
    except (ValueError, OSError) as error:
        takes = "nothing: the server starts its workers itself, see USHER_PROCESSES"
        raise SettingError(WORD, "a start by hand", takes) from error
    del arguments[:5]
    return found


def _socket(descriptor: int) -> socket.socket:
    if descriptor < 3 or not stat.S_ISSOCK(fstat(descriptor).st_mode):
        raise ValueError("no socket")
    return socket.socket(fileno=descriptor)
