"""A message to everybody in a room: one node, two, and a plain loop of ``write_message``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from benchmarks.crowd import Member, Tally, leave_all, open_crowd
from benchmarks.errors import BenchmarkFailed
from benchmarks.harness import BARE, NODES, SHARES, TORNADO, USHER, Figure, Lab, Sample, Usage
from benchmarks.installation import MARK
from benchmarks.reactor import Reactor
from benchmarks.servers import Server
from benchmarks.sizes import Sizes
from benchmarks.ws_load import TEXT, handshake, masked_frame
from services.rooms.presence import NOTICES_PER_SECOND

PEOPLE = 100
PIPELINED, TOGETHER, ONE_BY_ONE = "pipelined", "pipelined by 10", "one by one"
SENDERS = 10
TOLD = "message to all told"
IN_FLIGHT = 100
"""Messages under way when pipelined: 30 KB a member, so nobody counts as slow."""
SECONDS = 300.0
DATA = MARK + "x" * (100 - len(MARK.encode()))
"""100 bytes of UTF-8."""


def said(room: str) -> bytes:
    """What the sender sends to Usher."""
    event = {"event": "message", "id": 7, "data": {"room": room, "data": DATA}}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def heard(room: str) -> bytes:
    """A text as long as what Usher's members get: the baseline passes on what it is sent."""
    message = {
        "id": "1763920000000-0",
        "room": room,
        "from": {"id": "x" * 22, "name": "Person 0"},
        "data": DATA,
        "sent_at": 1763920000.123456,
    }
    event = {"event": "message", "data": message}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


class Room:
    """The members of the room, and the one that sends."""

    def __init__(
        self, reactor: Reactor, members: list[Member], tally: Tally, frame: bytes, name: str
    ) -> None:
        self._reactor, self._tally, self._frame, self._name = reactor, tally, frame, name
        self.members = members
        self.said = 0

    def say(self, messages: int, at_once: int, senders: int = 1) -> list[float]:
        """Send messages, the next batch when all have all of the last; ms that each batch took.

        ``senders``: among how many a batch is divided; of two nodes each has half.
        """
        took: list[float] = []
        for start in range(0, messages, at_once):
            count = min(at_once, messages - start)
            self.said += count
            before = time.perf_counter()
            for number, member in enumerate(self.members[:senders]):
                share = len(range(number, count, senders))
                if share:
                    member.send(self._frame * share)
            self._reactor.run_until(self._all_told(), SECONDS, self._name)
            took.append((time.perf_counter() - before) * 1_000)
        return took

    def _all_told(self) -> Callable[[], bool]:
        tally, wanted = self._tally, self.said * len(self.members)
        return lambda: tally.total >= wanted

    def check(self) -> None:
        """Check that every member received every message once."""
        wrong = [member.seen for member in self.members if member.seen != self.said]
        if wrong:
            raise BenchmarkFailed(f"{len(wrong)} members got {wrong[0]}… of {self.said} messages")


class Fanout:
    """Pipelined: 100 messages under way, of one sender or of ten together. One by one: the next
    when everybody has the last.

    The rate ends when the last member has the last message. Who sends is a member; one sender is
    on node A. Of two nodes each has half of the members.
    """

    subjects: tuple[str, ...] = (USHER, TORNADO, NODES, BARE)
    figures: tuple[Figure, ...] = (
        *(
            figure
            for mode in (PIPELINED, TOGETHER, ONE_BY_ONE)
            for figure in (
                Figure(f"{mode}, deliveries", "/s"),
                Figure(f"{mode}, server CPU", "ms per 1,000", 2),
                Figure(f"{mode}, Redis CPU", "ms per 1,000", 2, compare=False),
            )
        ),
        Figure(f"{TOLD}, p50", "ms", 2, True, TOLD, 0.5),
        Figure(f"{TOLD}, p99", "ms", 2, True, TOLD, 0.99),
        *SHARES,
        Figure("one by one, server's core: server", "%", compare=False),
        Figure("one by one, load's core: generator", "%", compare=False),
    )

    def __init__(self, name: str, large: bool) -> None:
        self.name, self._large = name, large
        self.title = f"Fan-out to a {'large ' if large else ''}room, 100-byte messages"

    def logins_used_up(self, sizes: Sizes) -> int:
        return 0

    def run(self, lab: Lab, subject: str) -> Sample:
        sizes = lab.sizes
        count = sizes.large_room if self._large else sizes.room
        few = subject in (BARE, TORNADO)
        messages = max(2, (sizes.deliveries if few else sizes.many_deliveries) // count)
        singles = max(1, sizes.deliveries // count // 2)
        with lab.room_servers(subject) as servers:
            reactor = Reactor()
            try:
                room = self._open(lab, subject, servers, reactor, count)
                room.say(max(1, messages // 10), IN_FLIGHT)
                meter = lab.meter(*servers)
                room.say(messages, IN_FLIGHT)
                pipelined = meter.stop()
                meter = lab.meter(*servers)
                room.say(messages, IN_FLIGHT, SENDERS)
                together = meter.stop()
                meter = lab.meter(*servers)
                took = room.say(singles, at_once=1)
                single = meter.stop()
                room.check()
                leave_all(room.members)
            finally:
                reactor.close()
        shares = single.shares()
        return Sample(
            {
                **_pace(PIPELINED, pipelined, messages * count),
                **_pace(TOGETHER, together, messages * count),
                **_pace(ONE_BY_ONE, single, singles * count),
                **pipelined.shares(),
                "one by one, server's core: server": shares["server's core: server"],
                "one by one, load's core: generator": shares["load's core: generator"],
                "members": count,
            },
            {TOLD: took},
        )

    def _open(
        self, lab: Lab, subject: str, servers: list[Server], reactor: Reactor, count: int
    ) -> Room:
        tally, addresses = Tally(), [server.address for server in servers]
        if subject == BARE:
            room, origin, text = "x" * 30, "", heard("x" * 30)
            upgrades = [handshake(addresses[0], path="/room")] * count
        else:
            room, origin = lab.installation.room, lab.installation.origin
            text = said(room)
            upgrades = [
                handshake(addresses[number % len(addresses)], token, origin=origin)
                for number, token in enumerate(lab.installation.tokens(min(PEOPLE, count), count))
            ]
        members: list[Member] = []
        greeting = lab.greeting(subject)

        def arriving() -> Member:
            number = len(members)
            address = addresses[number % len(addresses)]
            members.append(Member(reactor, address, upgrades[number], greeting, tally))
            return members[-1]

        open_crowd(reactor, (arriving() for _ in range(count)), count, lab.sizes.lanes)
        # Who came in is told to all, in a room of 10,000 every two seconds: let that be over.
        reactor.run_for(0.2 + count / NOTICES_PER_SECOND)
        return Room(reactor, members, tally, masked_frame(TEXT, text), self.name)


def _pace(mode: str, usage: Usage, deliveries: int) -> dict[str, float]:
    cost = usage.per_thousand(deliveries)
    return {
        f"{mode}, deliveries": deliveries / usage.wall,
        **{f"{mode}, {name}": value for name, value in cost.items()},
    }
