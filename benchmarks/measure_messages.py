"""Request and reply on open sockets: `heartbeat` with an id for Usher, an echo for the baseline."""

from __future__ import annotations

from benchmarks.errors import BenchmarkFailed
from benchmarks.harness import BARE, SHARES, TORNADO, USHER, Figure, Lab, Sample
from benchmarks.reactor import Reactor
from benchmarks.servers import Server
from benchmarks.sizes import Sizes
from benchmarks.ws_load import TEXT, Address, Client, handshake, masked_frame, open_all

HEARTBEAT = masked_frame(TEXT, b'{"event":"heartbeat","id":12345}')
ANSWERED = {USHER: b'"ok":true', TORNADO: b'"ok":true', BARE: b'"heartbeat"'}


class Talker(Client):
    """Keeps ``depth`` requests in flight until its share is done."""

    def __init__(
        self,
        reactor: Reactor,
        address: Address,
        upgrade: bytes,
        greeting: bytes,
        answered: bytes,
        depth: int,
    ) -> None:
        self._answered = answered
        self._depth = depth
        self._in_flight = 0
        self.left = 0
        super().__init__(reactor, address, upgrade, greeting)

    def start(self, count: int) -> None:
        self.left = count
        self._send_batch()

    def _send_batch(self) -> None:
        self._in_flight = min(self._depth, self.left)
        self.send(HEARTBEAT * self._in_flight)

    def on_text(self, payload: bytes) -> None:
        if self._answered not in payload:
            raise BenchmarkFailed(f"unexpected reply: {payload[:200]!r}")
        self.left -= 1
        self._in_flight -= 1
        if not self._in_flight and self.left:
            self._send_batch()

    def on_closed(self) -> None:
        raise BenchmarkFailed(f"socket closed while talking, code {self.close_code}")


class Messages:
    """``depth`` requests at a time from each of N sockets, the next batch when all are answered."""

    subjects: tuple[str, ...] = (USHER, TORNADO, BARE)
    figures: tuple[Figure, ...] = (
        Figure("request/reply", "/s"),
        Figure("server CPU", "ms per 1,000"),
        Figure("Redis CPU", "ms per 1,000", compare=False),
        *SHARES,
    )

    def __init__(self, name: str, depth: int) -> None:
        self.name = name
        self.title = f"Request and reply, {depth} in flight per socket"
        self._depth = depth

    def logins_used_up(self, sizes: Sizes) -> int:
        return 0

    def run(self, lab: Lab, subject: str) -> Sample:
        sizes = lab.sizes
        with lab.server(subject) as server:
            reactor = Reactor()
            try:
                talkers = self._open(lab, subject, server, reactor)
                self._talk(reactor, talkers, sizes.messages // 10)
                meter = lab.meter(server)
                done = self._talk(reactor, talkers, sizes.messages)
                usage = meter.stop()
            finally:
                reactor.close()
        pace = {"request/reply": done / usage.wall, **usage.per_thousand(done)}
        return Sample({**pace, **usage.shares()})

    def _open(self, lab: Lab, subject: str, server: Server, reactor: Reactor) -> list[Talker]:
        talkers: list[Talker] = []
        greeting, answered = lab.greeting(subject), ANSWERED[subject]
        for token in lab.tokens(subject, lab.sizes.message_sockets):
            upgrade = handshake(server.address, token=token)
            talker = Talker(reactor, server.address, upgrade, greeting, answered, self._depth)
            talkers.append(talker)
        open_all(reactor, talkers)
        return talkers

    def _talk(self, reactor: Reactor, talkers: list[Talker], count: int) -> int:
        share = max(1, count // len(talkers))
        for talker in talkers:
            talker.start(share)
        reactor.run_until(lambda: not any(talker.left for talker in talkers), 120, self.name)
        return share * len(talkers)
