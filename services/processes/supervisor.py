"""The supervisor: starts the workers, starts them again, and stops them. It serves nothing itself.

A worker is a process that Python starts anew, not a fork: docs/adr/0008. One that ends by itself is
started again. One that ends again and again at once ends the whole, because a service manager and a
person have to know of it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.errors import UsherError
from services.event_loop.tasks import end_tasks
from services.processes import listeners
from services.processes.exposition import Family, families
from services.processes.link import (
    FROM_WORKER,
    Collect,
    Collected,
    Failed,
    Families,
    FromWorker,
    Link,
    Ready,
    Reloaded,
    State,
    States,
)
from services.processes.place import Place
from services.processes.worker import worker_command

FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.1, 2.0
STEADY_SECONDS = 10.0
"""A worker that ends later than this after its start did not end at once."""
MOST_AT_ONCE = 5
"""Ends at once, one after the other, that end the whole."""
PING_SECONDS = 10.0
STOP_SECONDS = 15.0
"""How long a worker may take to stop, beside DRAIN_SECONDS."""
SUPERVISOR = "supervisor"

log = logging.getLogger("usher.processes")


class WorkerFailed(UsherError):
    """A worker cannot be kept running.

    Args:
        line: for stderr.
        status: the exit status of the whole.
    """

    code = "worker_failed"
    title = "A server process cannot be kept running."

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.line, self.status = line, status


class Supervisor:
    """Runs the workers of one server.

    Args:
        command: starts a server. The words of `worker_command` are put behind it.
        arguments: the settings of the command line.
        sockets: for each worker its listening sockets. They are closed at the end.
        own: returns metrics of this process.
        stop_seconds: how long a worker may take to stop.
    """

    def __init__(
        self,
        command: Sequence[str],
        arguments: Sequence[str],
        sockets: Sequence[Sequence[socket.socket]],
        own: Callable[[], list[Family]],
        stop_seconds: float,
    ) -> None:
        self._command, self._arguments = command, arguments
        self._own, self._stop_seconds = own, stop_seconds
        self._places = [Place(number, each) for number, each in enumerate(sockets, 1)]
        self._stopping = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._anybody = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._registry = CollectorRegistry()
        self._up = Gauge(
            "usher_process_up", "1 while a process serves.", ["process"], registry=self._registry
        )
        self._restarts = Counter(
            "usher_process_restarts",
            "Times a process ended by itself.",
            ["process"],
            registry=self._registry,
        )
        for place in self._places:
            self._up.labels(place.name)
            self._restarts.labels(place.name)

    async def run(self, stopping: asyncio.Event, on_ready: Callable[[bool], None]) -> None:
        """Run the workers until the event is set, then stop them.

        Args:
            on_ready: called once all of them serve, with whether there is an account.

        Raises:
            WorkerFailed: a worker cannot start, or cannot be kept running. The others were stopped.
        """
        keeping = [asyncio.create_task(self._keep(place)) for place in self._places]
        pinging = asyncio.create_task(self._ping())
        stopped = asyncio.create_task(stopping.wait())
        serving = asyncio.ensure_future(asyncio.gather(*(p.serves.wait() for p in self._places)))
        # A task of this process that fails ends the whole, too.
        ends: set[asyncio.Future[Any]] = {stopped, self._failure, pinging, *keeping}
        try:
            await asyncio.wait({*ends, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not any(end.done() for end in ends):
                on_ready(self._anybody)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop(keeping)
            await end_tasks(pinging, stopped, serving, *self._tasks)
        for end in ends:
            if end.done() and not end.cancelled():
                end.result()

    async def reload(self) -> bool:
        """Make every worker read the settings anew. One that is just being started is waited for.

        Returns:
            Whether all of them could.
        """
        return all(await asyncio.gather(*(place.reload() for place in self._places)))

    # ---- the life of a worker --------------------------------------------------------------

    async def _keep(self, place: Place) -> None:
        """Run a worker, and start it again whenever it ends by itself."""
        loop = asyncio.get_running_loop()
        at_once, has_served = 0, False
        while not self._stopping.is_set():
            began = loop.time()
            how, served = await self._run(place)
            has_served |= served
            if self._stopping.is_set():
                return
            at_once = at_once + 1 if loop.time() - began < STEADY_SECONDS else 1
            if not has_served or at_once >= MOST_AT_ONCE:
                self._give_up(place, how, at_once)
                return
            self._restarts.labels(place.name).inc()
            log.error("process %d ended by itself (%s); it is started again", place.number, how)
            # It reads key files at its start. The others must not know less than it does.
            self._task(self._reload_others(place))
            delay = min(FIRST_DELAY_SECONDS * 2 ** (at_once - 1), LAST_DELAY_SECONDS)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    def _give_up(self, place: Place, how: str, times: int) -> None:
        if self._failure.done():
            return
        if place.failed is not None:
            error = WorkerFailed(place.failed.line, place.failed.status)
        elif times < MOST_AT_ONCE:
            text = f"usher: cannot start: process {place.number} ended ({how}) before it served"
            error = WorkerFailed(text, 1)
        else:
            text = f"usher: stopped: process {place.number} ended {times} times at once ({how})"
            error = WorkerFailed(text, 1)
        self._failure.set_exception(error)

    async def _run(self, place: Place) -> tuple[str, bool]:
        """Run one process to its end. Returns how it ended, and whether it had served."""
        place.reset(asyncio.get_running_loop().time())
        ours, theirs = socket.socketpair()
        with theirs:
            handed = [theirs.fileno(), *(sock.fileno() for sock in place.sockets)]
            words = worker_command(place.number, len(self._places), handed[0], handed[1:])
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    *words,
                    *self._arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=handed,
                )
            except OSError as error:  # no memory, too many processes or files
                ours.close()
                return error.strerror or str(error), False
        place.process = process
        if self._stopping.is_set():
            process.terminate()
        place.link = link = await Link.open(ours)
        try:
            await self._read(place, link)  # to the end of the process, which closes its end
            status = await process.wait()
        except BaseException:  # a worker that nobody hears must not remain
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        finally:
            served = place.serves.is_set()
            link.close()
            place.ended()
            self._tell_states()
        if place.failed is not None:
            return place.failed.line, served
        return _how(status), served

    async def _read(self, place: Place, link: Link) -> None:
        async for body in link.bodies():
            place.heard()
            self._heard(place, FROM_WORKER.decode(body))

    def _heard(self, place: Place, message: FromWorker) -> None:
        match message:
            case Ready(anybody):
                self._anybody = anybody
                place.state = "ready"
                place.serves.set()
                self._tell_states()
            case State(state):
                place.state = state
                self._tell_states()
            case Failed():
                place.failed = message
            case Collect(number):
                self._task(self._collect(place, number))
            case Families() | Reloaded():
                place.answered(message)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            for place in self._places:
                if place.process is None or place.link is None:
                    continue
                if place.stands_still:
                    log.error("process %d stands still: killed", place.number)
                    place.kill()
                elif place.serves.is_set():
                    place.ping()

    async def _stop(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        """Stop all workers at the same time, each as a server alone stops."""
        self._stopping.set()
        for place in self._places:  # or what arrives would wait for nobody
            listeners.close(place.sockets)
        for place in self._places:
            place.terminate()
        _, late = await asyncio.wait(keeping, timeout=self._stop_seconds)
        for place in self._places:
            if place.process is not None:
                log.error("process %d did not stop in time: killed", place.number)
                place.kill()
        if late:
            await asyncio.wait(late)

    # ---- questions -------------------------------------------------------------------------

    def _tell_states(self) -> None:
        states = States(tuple(place.state for place in self._places))
        for place in self._places:
            if place.link is not None and place.serves.is_set():
                place.link.send(states)

    async def _collect(self, asking: Place, number: int) -> None:
        """Tell a worker the metrics of the others, and those of this process."""
        others = [place for place in self._places if place is not asking and place.serves.is_set()]
        answers = await asyncio.gather(*(place.exposed() for place in others))
        found = {
            place.name: answer.families
            for place, answer in zip(others, answers, strict=True)
            if answer is not None
        }
        for place in self._places:
            answers_now = place is asking or place.name in found
            self._up.labels(place.name).set(answers_now)
        found[SUPERVISOR] = [*families(self._registry), *self._own()]
        if asking.link is not None:
            asking.link.send(Collected(number, found))

    async def _reload_others(self, but: Place) -> None:
        await asyncio.gather(*(place.reload() for place in self._places if place is not but))

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
