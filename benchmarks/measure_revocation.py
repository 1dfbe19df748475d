"""A logout on one node, the socket on another: idle, and while a room is busy on both."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks.accounts import Login
from benchmarks.crowd import Member, Tally, open_crowd
from benchmarks.errors import BenchmarkFailed
from benchmarks.harness import NODES, SHARES, USHER, Figure, Lab, Sample
from benchmarks.measure_fanout import said
from benchmarks.measure_logout import ANSWERED, QUANTILES, SENT, Desk, Watcher, log_out
from benchmarks.prometheus import read_histogram
from benchmarks.reactor import Reactor
from benchmarks.servers import Server
from benchmarks.sizes import Sizes
from benchmarks.ws_load import TEXT, handshake, masked_frame, open_all

METRIC = "usher_revocation_seconds"
IDLE, BUSY = "idle", "busy"
LOAD_PEOPLE = 10
WARM_UP_SECONDS = 0.5
MAX_BEHIND = 100
"""Messages that may be sent in one go to catch up: what the kernel's buffer surely holds."""


class _Pacer:
    """Sends a message to the room so many times a second, from one of its members."""

    def __init__(self, sender: Member, frame: bytes, per_second: float) -> None:
        self._sender, self._frame, self._rate = sender, frame, per_second
        self._start = time.perf_counter()
        self.sent = 0

    def pulse(self) -> None:
        due = int((time.perf_counter() - self._start) * self._rate) - self.sent
        if due > 0:
            count = min(due, MAX_BEHIND)
            self._sender.send(self._frame * count)
            self.sent += count


@dataclass
class _Stage:
    """What one sample collects."""

    values: dict[str, float] = field(default_factory=dict)
    pools: dict[str, list[float]] = field(default_factory=dict)


class Revocation:
    """One logout at a time, sent to node A, each of a session with one open socket on node B.

    Busy: 20,000 deliveries a second to a room of 100 that has half its members on each node, from
    a sender on A at a steady pace. Who is logged out is not in that room. Both times as in
    `logout`; B's own are from its /metrics: from the row to the cut, by the clocks of both nodes.
    """

    name = "revocation"
    title = "Logout on node A to close on node B"
    subjects: tuple[str, ...] = (NODES,)
    figures: tuple[Figure, ...] = (
        *(
            Figure(f"{state}: {since}, {label}", "ms", 2, False, f"{state}: {since}", quantile)
            for state in (IDLE, BUSY)
            for since in (SENT, ANSWERED)
            for label, quantile in QUANTILES
        ),
        *(
            Figure(f"{state}: by B's /metrics, {label}", "ms", 2, False)
            for state in (IDLE, BUSY)
            for label in ("p50", "p99")
        ),
        Figure("busy: deliveries", "/s", compare=False),
        Figure("busy: messages sent", "/s", compare=False),
        *SHARES,
    )

    def __init__(self) -> None:
        self._logins: list[Login] = []

    def logins_used_up(self, sizes: Sizes) -> int:
        return 0  # of the lab: the sessions to be ended belong to the environment

    def run(self, lab: Lab, subject: str) -> Sample:
        count, stage = lab.sizes.node_logouts, _Stage()
        logins = self._take(lab, 2 * count)
        with lab.room_servers(subject) as servers:
            reactor = Reactor()
            try:
                self._log_out_all(lab, servers, reactor, logins[:count], IDLE, stage)
                self._be_busy(lab, servers, reactor, logins[count:], stage)
            finally:
                reactor.close()
        return Sample(stage.values, stage.pools)

    def _take(self, lab: Lab, count: int) -> list[Login]:
        if not self._logins:
            self._logins = lab.installation.sign_in(lab.sizes.rounds * count)
        taken, self._logins = self._logins[:count], self._logins[count:]
        return taken

    def _log_out_all(
        self,
        lab: Lab,
        servers: list[Server],
        reactor: Reactor,
        logins: list[Login],
        state: str,
        stage: _Stage,
    ) -> None:
        node_a, node_b = servers
        watchers = [_watch(lab, node_b, reactor, login) for login in logins]
        open_all(reactor, watchers, lab.sizes.lanes)
        desk = Desk(reactor, node_a.address)
        before = read_histogram(node_b, METRIC)
        sent = stage.pools.setdefault(f"{state}: {SENT}", [])
        answered = stage.pools.setdefault(f"{state}: {ANSWERED}", [])
        for login, watcher in zip(logins, watchers, strict=True):
            start = time.perf_counter()
            answer, closed_at = log_out(reactor, node_a.address, desk, login, watcher)
            sent.append((closed_at - start) * 1_000)
            answered.append((closed_at - answer.at) * 1_000)
        reactor.discard(desk)
        cut = read_histogram(node_b, METRIC).since(before)
        if cut.count != len(logins):
            raise BenchmarkFailed(f"{METRIC} on B counts {cut.count} of {len(logins)} logouts")
        for label, quantile in QUANTILES[:2]:
            stage.values[f"{state}: by B's /metrics, {label}"] = cut.quantile(quantile) * 1_000

    def _be_busy(
        self,
        lab: Lab,
        servers: list[Server],
        reactor: Reactor,
        logins: list[Login],
        stage: _Stage,
    ) -> None:
        sizes, tally = lab.sizes, Tally()
        members = _open_load(lab, servers, reactor, tally)
        rate = sizes.load_deliveries_per_second / len(members)
        pacer = _Pacer(members[0], masked_frame(TEXT, said(lab.installation.room)), rate)
        reactor.on_pulse(pacer.pulse)
        reactor.run_for(WARM_UP_SECONDS)
        meter, delivered, sent = lab.meter(*servers), tally.total, pacer.sent
        self._log_out_all(lab, servers, reactor, logins, BUSY, stage)
        usage = meter.stop()
        reactor.on_pulse(None)
        stage.values["busy: deliveries"] = (tally.total - delivered) / usage.wall
        stage.values["busy: messages sent"] = (pacer.sent - sent) / usage.wall
        stage.values |= usage.shares()
        wanted = pacer.sent * len(members)
        reactor.run_until(lambda: tally.total >= wanted, 30, "the last messages")
        if any(member.seen != pacer.sent for member in members):
            raise BenchmarkFailed("not every member of the busy room got every message once")


def _watch(lab: Lab, server: Server, reactor: Reactor, login: Login) -> Watcher:
    upgrade = handshake(server.address, login.access_token, origin=lab.installation.origin)
    return Watcher(reactor, server.address, upgrade, lab.greeting(USHER))


def _open_load(lab: Lab, servers: list[Server], reactor: Reactor, tally: Tally) -> list[Member]:
    count = lab.sizes.load_members
    members = [
        Member(
            reactor,
            servers[number % 2].address,
            handshake(servers[number % 2].address, token, origin=lab.installation.origin),
            lab.greeting(USHER),
            tally,
        )
        for number, token in enumerate(lab.installation.tokens(min(LOAD_PEOPLE, count), count))
    ]
    open_crowd(reactor, members, count, count)
    return members
