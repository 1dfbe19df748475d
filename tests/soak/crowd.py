"""The clients of a soak, which open sockets, send, leave and log out, and the invariants."""

from __future__ import annotations

import heapq
import http.client
import itertools
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.reactor import Reactor
from benchmarks.ws_load import Address, handshake
from tests.soak.connection import OWN, Connection
from tests.soak.installation import Installation
from tests.soak.reader import Reader, Socket

OPENING = 100
"""Sockets that are not joined yet, at one time."""
CONNECT_SECONDS = 8.0
PROMISED_SECONDS = 3.0
LOGOUT_THREADS = 4
HTTP_SECONDS = 8.0
RETURNS_EVERY = 3
"""One of so many who were logged out tries to come back with the session's token."""


@dataclass
class Rates:
    """What happens in a second. `hops`: sockets closed and opened anew; `outs`: left and joined."""

    messages: float
    logouts: float
    hops: float
    outs: float


@dataclass
class Room:
    """`next`: number of the next message; `acknowledged`: bit n: message n was."""

    next: int = 0
    acknowledged: int = 0


@dataclass
class Period:
    """What was counted from one fault to the next."""

    name: str
    closes: Counter[str] = field(default_factory=Counter)
    joins: int = 0
    acknowledged: int = 0
    refused: int = 0
    logouts: int = 0
    logouts_refused: int = 0
    answers_lost: int = 0
    """Logouts that were done and whose answer did not come: nothing is promised of these."""
    seconds_to_close: list[float] = field(default_factory=list)
    """From an acknowledged logout to the end of its socket."""
    whole_again: float | None = None
    """Seconds from the end of the fault until all sockets were joined."""
    gaps: int = 0
    repeated: int = 0
    """Messages that came live to one socket more than once."""


class Crowd:
    """The readers, on one reactor. `turn()` runs it; faults are done in another thread."""

    def __init__(self, at: Installation, rates: Rates) -> None:
        self.at, self.rates = at, rates
        self.reactor = Reactor()
        self.addresses: list[Address] = [node.address for node in at.nodes]
        self.rooms = [Room() for _ in range(at.rooms)]
        self.readers: list[Reader] = []
        self.period = Period("start")
        self.periods: list[Period] = []
        self.delivered = self.from_history = self.gaps = 0
        self.came_back = 0
        """Sockets that opened with the token of an ended session."""
        self.tried_back = 0
        self.late: list[str] = []
        """Each breach of the three seconds, in words."""
        self.lag = 0.0
        """The longest time in which this process did not look at its sockets: what it measures
        is late by that."""
        self.running_since: dict[int, float] = {}
        """When a node that was stopped went on; infinity while it stands."""
        self.is_busy = False
        self._sessions = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waiting: list[Reader] = []
        self._opening: list[Socket] = []
        self._revoked: dict[int, Reader] = {}
        self._asks: queue.Queue[tuple[Reader, str] | None] = queue.Queue()
        self._answers: queue.Queue[tuple[Reader, bool, float]] = queue.Queue()
        self._asked = set[int]()
        self._last_turn = self._last_rates = time.monotonic()
        self._owed = Counter[str]()
        self.reactor.on_pulse(self._pulse)
        self._threads = [
            threading.Thread(target=self._log_out_all, daemon=True) for _ in range(LOGOUT_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def upgrade(self, node: int, session: int) -> bytes:
        return handshake(self.addresses[node], self.at.token(session), origin=self.at.origin)

    def begin(self, name: str) -> Period:
        """From now on counts are of another period."""
        self.period = Period(name)
        self.periods.append(self.period)
        return self.period

    def add(self, count: int) -> None:
        """So many more readers."""
        for _ in range(count):
            reader = Reader(self, next(self._sessions))
            self.readers.append(reader)
            self.wants_in(reader)

    @property
    def joined_count(self) -> int:
        return sum(reader.is_joined for reader in self.readers)

    def turn(self, seconds: float) -> None:
        self.reactor.run_for(seconds)

    def close(self) -> None:
        """Everybody goes, and nobody comes back."""
        self.is_busy = False
        for reader in self.readers:
            reader.is_retired = True
            reader.hop()
        for _ in self._threads:
            self._asks.put(None)

    # ---- time ------------------------------------------------------------------------------

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), act))

    def _pulse(self) -> None:
        now = time.monotonic()
        self.lag = max(self.lag, now - self._last_turn)
        self._last_turn = now
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        while not self._answers.empty():
            self._logged_out(*self._answers.get())
        if self._waiting or self._opening:
            self._open_some(now)
        if now - self._last_rates >= 0.05:
            self._act(now - self._last_rates)
            self._last_rates = now

    def _open_some(self, now: float) -> None:
        still = []
        for socket in self._opening:
            if socket.is_over or socket.reader.is_joined:
                continue
            if now - socket.began > CONNECT_SECONDS:
                socket.end()
            else:
                still.append(socket)
        self._opening = still
        while self._waiting and len(self._opening) < OPENING:
            reader = self._waiting.pop()
            reader.open()
            if reader.socket is not None:
                self._opening.append(reader.socket)

    # ---- acting ----------------------------------------------------------------------------

    def _act(self, seconds: float) -> None:
        if not self.is_busy:
            return
        for name, per_second, act in (
            ("messages", self.rates.messages, self._speak),
            ("logouts", self.rates.logouts, self._log_out),
            ("hops", self.rates.hops, lambda reader: reader.hop()),
            ("outs", self.rates.outs, lambda reader: reader.leave()),
        ):
            self._owed[name] += per_second * seconds  # type: ignore[assignment]
            while self._owed[name] >= 1:
                self._owed[name] -= 1
                reader = random.choice(self.readers)
                if reader.is_in and id(reader) not in self._asked:
                    act(reader)

    def _speak(self, reader: Reader) -> None:
        room = self.rooms[reader.room]
        room.next += 1
        reader.say(room.next - 1)

    def _log_out(self, reader: Reader) -> None:
        if self._asks.qsize() < LOGOUT_THREADS:  # no queue behind a database that stands
            self._asked.add(id(reader))
            self._asks.put((reader, self.at.token(reader.session)))

    def _log_out_all(self) -> None:
        while (asked := self._asks.get()) is not None:
            reader, token = asked
            status = 0
            try:
                connection = http.client.HTTPConnection(
                    *random.choice(self.addresses), timeout=HTTP_SECONDS
                )
                headers = {"Authorization": f"Bearer {token}", "Content-Length": "0"}
                connection.request("POST", "/api/auth/logout", headers=headers)
                status = connection.getresponse().status
                connection.close()
            except (OSError, http.client.HTTPException):
                pass  # refused, as the fault would have it
            self._answers.put((reader, status == 204, time.monotonic()))

    # ---- results ---------------------------------------------------------------------------

    def answered(self, room: int, number: int, is_good: bool) -> None:
        """To message `number` of a room."""
        if is_good:
            self.rooms[room].acknowledged |= 1 << number
            self.period.acknowledged += 1
        else:
            self.period.refused += 1

    def wants_in(self, reader: Reader) -> None:
        if not reader.is_retired:
            self._waiting.append(reader)

    def joined(self, reader: Reader) -> None:
        self.period.joins += 1
        if reader.revoked_at is not None:
            self.came_back += 1
            self.late.append(f"{self.period.name}: a reader joined after its logout")

    def _logged_out(self, reader: Reader, is_done: bool, at: float) -> None:
        self._asked.discard(id(reader))
        if not is_done:
            self.period.logouts_refused += 1
            return
        self.period.logouts += 1
        reader.revoked_at = at
        if reader.socket is not None:
            self._revoked[id(reader)] = reader
            self.later(PROMISED_SECONDS, lambda: self._check(reader))
        self._replace(reader)
        if self.period.logouts % RETURNS_EVERY == 0:
            self.later(0.2, lambda: self._try_back(reader))

    def _replace(self, reader: Reader) -> None:
        """Its login session is over: another one comes in its place."""
        reader.is_retired = True
        self.readers[self.readers.index(reader)] = fresh = Reader(self, next(self._sessions))
        self.wants_in(fresh)

    def _try_back(self, reader: Reader) -> None:
        self.tried_back += 1
        Intruder(self, random.randrange(len(self.addresses)), reader.session)

    def _since(self, reader: Reader, socket: Socket) -> float:
        """From when the three seconds count: a node that stands still reads nothing."""
        assert reader.revoked_at is not None
        return max(reader.revoked_at, self.running_since.get(socket.node, 0.0))

    def _check(self, reader: Reader) -> None:
        """Whether its socket is closed by now."""
        socket = reader.socket
        if socket is None or socket.is_over or not reader.is_joined:
            return  # one that is not joined has nothing yet; `joined` sees to it
        left = self._since(reader, socket) + PROMISED_SECONDS - time.monotonic()
        if left > 0:
            self.later(min(left, 0.5) + 0.005, lambda: self._check(reader))
        else:
            self.late.append(
                f"{self.period.name}: alive {PROMISED_SECONDS:.0f} s after its logout "
                f"(node {socket.node + 1}, this process was late by {self.lag:.2f} s at most)"
            )

    def frame_after(self, reader: Reader, payload: bytes) -> None:
        """A frame came after the acknowledgement. It may have lain in the kernel."""
        socket = reader.socket
        if socket is None or reader.revoked_at is None:
            return
        late = time.monotonic() - self._since(reader, socket)
        if late > PROMISED_SECONDS and not payload.startswith(b'{"event":"closing"'):
            self.late.append(f"{self.period.name}: {payload[:60]!r} {late:.1f} s after the logout")

    def ended(self, reader: Reader, socket: Socket, was_joined: bool) -> None:
        self._revoked.pop(id(reader), None)
        if reader.revoked_at is not None and was_joined:
            waited = time.monotonic() - self._since(reader, socket)
            self.period.seconds_to_close.append(max(0.0, waited))
        elif socket.code == 4410 and id(reader) in self._asked:
            self.period.seconds_to_close.append(0.0)  # before its logout was acknowledged
        elif socket.code == OWN or reader.is_retired:
            return
        elif socket.code == 4401 and id(reader) not in self._asked:
            self.period.answers_lost += 1  # of a logout, which was done all the same
            self._replace(reader)
        elif was_joined or socket.code != 1006:
            self.period.closes[f"{socket.code}" if was_joined else f"refused {socket.code}"] += 1

    # ---- the sum ---------------------------------------------------------------------------

    @property
    def repeated(self) -> int:
        return sum(period.repeated for period in self.periods)

    @property
    def alive_revoked(self) -> int:
        """Sockets that are open though their session was ended."""
        return len(self._revoked)

    def lost(self) -> tuple[int, int]:
        """Acknowledged messages that an entitled member did not receive: silently, and reported."""
        silent = reported = 0
        for reader in self.readers:
            acknowledged = self.rooms[reader.room].acknowledged
            silent += reader.lost(acknowledged)
            reported += reader.told_lost(acknowledged)
        return silent, reported


class Intruder(Connection):
    """Comes with the token of a session that was ended."""

    def __init__(self, crowd: Crowd, node: int, session: int) -> None:
        self._crowd = crowd
        super().__init__(crowd.reactor, crowd.addresses[node], crowd.upgrade(node, session))

    def on_text(self, payload: bytes) -> None:
        if payload.startswith(b'{"event":"joined"'):
            self._crowd.came_back += 1
            self._crowd.late.append(f"{self._crowd.period.name}: an ended session came back in")
            self.end()
