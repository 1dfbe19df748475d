"""One round of one server: joins, request and reply, a message to a room, an idle socket."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import machine
from benchmarks.crowd import Member, Tally, leave_all, open_crowd
from benchmarks.errors import BenchmarkFailed
from benchmarks.harness import Meter, Usage
from benchmarks.measure_fanout import Room
from benchmarks.peers.load import Asker, Guest, Listener, ask_all, visit_all
from benchmarks.peers.place import Place
from benchmarks.peers.subjects import Subject
from benchmarks.reactor import Reactor
from benchmarks.servers import Server
from benchmarks.ws_load import Client, open_all

LANES = 50
ASKERS = 50
WINDOW = 8
"""Messages under way when pipelined."""
SETTLE_SECONDS = 1.0
IDLE_SECONDS, PAUSE_SECONDS, PAUSES = 20.0, 0.3, 4
IDLE_SHARE = 0.04
"""A server is idle when it uses less than so much of its core."""
SPARE_FILES = 300
USAGE_FIELDS = ("wall", "server", "store", "load", "others")
Values = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much work a round is.

    Attributes:
        seconds: each figure is of bursts that together took so long, at least.
        people: in the database and in Redis.
        joins: in a burst.
        requests: of a socket, in a burst.
        room: members.
        idle: sockets whose memory is measured; half as many are open before.
    """

    rounds: int
    seconds: float
    people: int
    joins: int
    requests: int
    room: int
    idle: int


FULL = Sizes(rounds=3, seconds=3.0, people=10_000, joins=500, requests=100, room=1_000, idle=2_000)
QUICK = Sizes(rounds=1, seconds=0.1, people=200, joins=50, requests=5, room=30, idle=40)


class Round:
    """One server, started afresh, through all measurements."""

    def __init__(
        self, place: Place, subject: Subject, server: Server, sizes: Sizes, cores: machine.Cores
    ) -> None:
        self._place, self._subject, self._server = place, subject, server
        self._sizes, self._cores = sizes, cores

    def run(self) -> Values:
        """All figures of the round. CPU is in µs per operation, memory in KiB per socket."""
        self._join_burst()  # warms up
        self._wait_until_idle()
        memory = self._memory()
        self._wait_until_idle()
        return {
            "idle KiB": memory,
            **self._burst("join", self._joins),
            **self._requests(),
            **self._room(),
        }

    def _burst(self, name: str, work: Callable[[], tuple[int, Usage]]) -> Values:
        """Repeat the work until it took long enough: rate, CPU, and who was busy."""
        done, usages = 0, list[Usage]()
        while sum(usage.wall for usage in usages) < self._sizes.seconds:
            count, usage = work()
            done += count
            usages.append(usage)
        whole = Usage(*(sum(getattr(usage, field) for usage in usages) for field in USAGE_FIELDS))
        return {
            f"{name} per s": done / whole.wall,
            f"{name} CPU": whole.server * 1e6 / done,
            f"{name} Redis CPU": whole.store * 1e6 / done,
            **{f"{name} {share}": value for share, value in whole.shares().items()},
        }

    def _wait_until_idle(self) -> None:
        """Wait for what the server does behind the last close, so that no figure has it in it."""
        end, used, quiet = time.monotonic() + IDLE_SECONDS, -1.0, 0
        while quiet < PAUSES and time.monotonic() < end:
            before, used = used, machine.cpu_seconds(self._server.pid)
            # Several times: beside other work a busy server may not have its turn for a while.
            quiet = quiet + 1 if used - before <= IDLE_SHARE * PAUSE_SECONDS else 0
            time.sleep(PAUSE_SECONDS)

    def _meter(self) -> Meter:
        return Meter([self._server], self._cores)

    def _joins(self) -> tuple[int, Usage]:
        return self._sizes.joins, self._join_burst()

    def _join_burst(self) -> Usage:
        openings = self._place.openings(self._subject, self._server, self._sizes.joins)
        meter = self._meter()
        visit_all(self._server.address, openings, LANES)
        return meter.stop()

    def _requests(self) -> Values:
        dialect, reactor = self._subject.dialect, Reactor()
        try:
            askers = [
                Asker(reactor, self._server.address, one, dialect.request(), dialect.answered)
                for one in self._place.openings(self._subject, self._server, ASKERS)
            ]
            open_all(reactor, askers)
            reactor.run_for(SETTLE_SECONDS)

            def work() -> tuple[int, Usage]:
                meter = self._meter()
                ask_all(reactor, askers, self._sizes.requests)
                return self._sizes.requests * len(askers), meter.stop()

            work()
            return self._burst("request", work)
        finally:
            reactor.close()

    def _room(self) -> Values:
        reactor, tally, count = Reactor(), Tally(), self._sizes.room
        openings = self._place.openings(self._subject, self._server, count)
        members: list[Member] = []

        def arriving() -> Member:
            opening = openings[len(members)]
            members.append(Listener(reactor, self._server.address, opening, tally))
            return members[-1]

        try:
            open_crowd(reactor, (arriving() for _ in range(count)), count, LANES)
            reactor.run_for(SETTLE_SECONDS)  # Usher tells everybody who came in
            frame = self._subject.dialect.message(self._place.room)
            room = Room(reactor, members, tally, frame, "fan-out")

            def say(at_once: int) -> Callable[[], tuple[int, Usage]]:
                def work() -> tuple[int, Usage]:
                    meter = self._meter()
                    room.say(WINDOW, at_once)
                    return WINDOW * count, meter.stop()

                return work

            say(WINDOW)()
            values = self._burst("pipelined", say(WINDOW)) | self._burst("one by one", say(1))
            room.check()
            leave_all(members)
            return values
        finally:
            reactor.close()

    def _used_bytes(self) -> int:
        if not self._subject.tells_memory:
            return machine.resident_bytes(self._server.pid)
        self._place.memory.unlink(missing_ok=True)
        os.kill(self._server.pid, signal.SIGUSR2)
        end = time.monotonic() + IDLE_SECONDS
        while not self._place.memory.exists():
            if time.monotonic() > end:
                raise BenchmarkFailed("the server does not tell its memory")
            time.sleep(0.05)
        return int(self._place.memory.read_text())

    def _memory(self) -> float:
        """KiB of resident memory that each further idle socket takes."""
        count, reactor = self._sizes.idle, Reactor()
        wanted = count + count // 2 + SPARE_FILES
        if machine.raise_file_limit(wanted) < wanted:
            raise BenchmarkFailed(f"{count} sockets need a higher limit: ulimit -n")
        openings = self._place.openings(self._subject, self._server, count + count // 2)
        guests: list[Client] = []

        def resident(more: int) -> int:
            new = openings[len(guests) : len(guests) + more]
            opened = (Guest(reactor, self._server.address, opening) for opening in new)
            guests.extend(open_all(reactor, opened))
            reactor.run_for(SETTLE_SECONDS)
            return self._used_bytes()

        try:
            before = resident(count // 2)
            used = resident(count) - before
            for guest in guests:
                guest.abandon()
            return used / 1024 / count
        finally:
            reactor.close()
