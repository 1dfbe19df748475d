"""Who is there: 10,000 people coming into one room and leaving it, and everybody hearing of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.crowd import Member, Tally, leave_all, open_crowd
from benchmarks.errors import BenchmarkFailed
from benchmarks.harness import NODES, SHARES, USHER, Figure, Lab, Sample, Usage
from benchmarks.installation import MARK
from benchmarks.reactor import Reactor
from benchmarks.servers import Server
from benchmarks.sizes import Sizes
from benchmarks.ws_load import SIGN_OF_LIFE, TEXT, Address, handshake, masked_frame
from services.rooms.presence import NOTICES_PER_SECOND

SECONDS = 120.0
JOINING, LEAVING = "joining", "leaving"


class _Walker(Member):
    """Joins and leaves the room. Its replies contain the mark, through the request's id."""

    def __init__(
        self, reactor: Reactor, address: Address, upgrade: bytes, greeting: bytes, tally: Tally
    ) -> None:
        super().__init__(reactor, address, upgrade, greeting, tally)
        self._answered: Callable[[], None] | None = None

    def walk(self, frame: bytes, answered: Callable[[], None]) -> None:
        """Send a frame; ``answered`` is called when its reply is there."""
        self._answered = answered
        self.send(frame)

    def on_marks(self, found: int) -> None:
        answered, self._answered = self._answered, None
        if answered is None:
            super().on_marks(found)  # not a reply: the last person's name
            return
        if found > 1:
            super().on_marks(found - 1)
        answered()


class _Walk:
    """Sends walkers in or out, ``lanes`` at a time."""

    def __init__(self, walkers: Sequence[_Walker], frame: bytes, lanes: int) -> None:
        self._waiting: Iterator[_Walker] = iter(walkers)
        self._frame = frame
        self.left = len(walkers)
        for _ in range(lanes):
            self._next()

    def _next(self) -> None:
        walker = next(self._waiting, None)
        if walker is not None:
            walker.walk(self._frame, self._arrived)

    def _arrived(self) -> None:
        self.left -= 1
        self._next()


class _Scene:
    """An audience is in the room and stays; the others walk. The last of them bears the mark."""

    def __init__(self, lab: Lab, servers: Sequence[Server], reactor: Reactor) -> None:
        sizes = lab.sizes
        self._reactor, self._lanes, self._room = reactor, sizes.lanes, lab.installation.room
        self._tally = Tally()
        self.members: list[_Walker] = []
        lab.installation.empty_room()
        tokens = lab.installation.tokens(sizes.present, sizes.present, marked=True)
        greeting = lab.greeting(USHER)

        def arriving(token: str) -> _Walker:
            address = servers[len(self.members) % len(servers)].address
            upgrade = handshake(address, token, origin=lab.installation.origin)
            member = _Walker(reactor, address, upgrade, greeting, self._tally)
            self.members.append(member)
            return member

        open_crowd(reactor, map(arriving, tokens), sizes.present, sizes.lanes)
        self.audience = self.members[: sizes.audience]
        self.walkers = self.members[sizes.audience :]
        self._clear()

    def _clear(self) -> None:
        """Who opens a socket is in the room at once: the walkers go out again. Some were told of
        by then; let that be over, and begin to count."""
        self._ask("leave")
        self._reactor.run_for(0.5 + 2 * len(self.members) / NOTICES_PER_SECOND)
        for member in self.members:
            member.seen = 0
        self._tally.total = 0
        self.show_life()

    def show_life(self) -> None:
        """Send pongs, so that idle listeners are not dropped."""
        for member in self.audience:
            member.send(SIGN_OF_LIFE)
        self._reactor.run_for(0.2)

    def _ask(self, event: str) -> None:
        asked = {"event": event, "id": MARK, "data": {"room": self._room}}
        frame = masked_frame(TEXT, json.dumps(asked, ensure_ascii=False).encode())
        *others, last = self.walkers
        for group, lanes in ((others, self._lanes), ([last], 1)):
            walk = _Walk(group, frame, lanes)
            self._reactor.run_until(_done(walk), SECONDS, event)

    def _told(self, listeners: Sequence[Member]) -> None:
        """Wait until each listener has received the last user's change, once."""
        wanted = len(listeners)
        self._reactor.run_until(lambda: self._tally.total >= wanted, SECONDS, "telling everybody")
        wrong = [member.seen for member in listeners if member.seen != 1]
        if wrong or self._tally.total != wanted:
            raise BenchmarkFailed(f"{len(wrong)} of {wanted} heard {wrong[:3]}… times of the last")
        for member in self.members:
            member.seen = 0
        self._tally.total = 0

    def walk(self, event: str, listeners: Sequence[Member]) -> tuple[float, float]:
        """Everybody but the audience walks, the marked one last, and all listeners hear of it.

        Seconds from the first request to the last reply, and from there until all were told.
        """
        start = time.perf_counter()
        self._ask(event)
        answered = time.perf_counter()
        self._told(listeners)
        return answered - start, time.perf_counter() - answered


def _done(walk: _Walk) -> Callable[[], bool]:
    return lambda: walk.left == 0


class Presence:
    """`join` by everybody but an audience, who are there already, then `leave`; 50 at a time.

    Each socket is another person's; of two nodes each has half of them. Cost and time end when the
    last listener has been told of the last person: everybody of the joining, the audience of the
    leaving. How fast people are told is the server's decision: in frames of 500 names, and in a
    room of 10,000 one every two seconds (services/rooms/presence.py).
    """

    name = "presence"
    title = "Presence: coming into a room and leaving it"
    subjects: tuple[str, ...] = (USHER, NODES)
    figures: tuple[Figure, ...] = (
        Figure("sockets in the room", "", compare=False),
        Figure("of them walk", "", compare=False),
        *(
            figure
            for mode in (JOINING, LEAVING)
            for figure in (
                Figure(f"{mode}, to the last reply", "/s"),
                Figure(f"{mode}, server CPU", "ms per 1,000"),
                Figure(f"{mode}, Redis CPU", "ms per 1,000"),
                Figure(f"{mode}, last reply to all told", "s", 2),
                Figure(f"{mode}, all told after", "s", 2),
            )
        ),
        *SHARES,
    )

    def logins_used_up(self, sizes: Sizes) -> int:
        return 0

    def run(self, lab: Lab, subject: str) -> Sample:
        values: dict[str, float] = {}
        with lab.room_servers(subject) as servers:
            reactor = Reactor()
            try:
                scene = _Scene(lab, servers, reactor)
                for mode, event in ((JOINING, "join"), (LEAVING, "leave")):
                    listeners = scene.audience if mode == LEAVING else scene.members
                    meter = lab.meter(*servers)
                    times = scene.walk(event, listeners)
                    usage = meter.stop()
                    values |= _values(mode, len(scene.walkers), times, usage)
                    values |= usage.shares() if mode == JOINING else {}
                    scene.show_life()
                leave_all(scene.members)
            finally:
                reactor.close()
        values |= {"sockets in the room": len(scene.members), "of them walk": len(scene.walkers)}
        return Sample(values)


def _values(mode: str, walkers: int, times: tuple[float, float], usage: Usage) -> dict[str, float]:
    walking, telling = times
    return {
        f"{mode}, to the last reply": walkers / walking,
        **{f"{mode}, {name}": value for name, value in usage.per_thousand(walkers).items()},
        f"{mode}, last reply to all told": telling,
        f"{mode}, all told after": walking + telling,
    }
