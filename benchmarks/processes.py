"""Several processes on one port beside one: `python -m benchmarks.processes --processes 2`.

Joins and request/reply are measured as work per second. On a machine with few cores the generator,
Redis and the server processes would share them, and nothing could be said about another core. So
each server process has a control group (cgroup v1 or v2, as root) that gives it a share of one
core, the same whether it is alone or one of several, and the rest is left to the generator. How
much of its share each process used is in the table: near 100 % they were the bottleneck. A share of
0 sets no limit.

A message to a room is measured as CPU time of all server processes, the supervisor included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import machine
from benchmarks.crowd import Member, Tally, leave_all, open_crowd
from benchmarks.errors import BenchmarkFailed
from benchmarks.installation import Installation
from benchmarks.measure_fanout import IN_FLIGHT, PEOPLE, Room, said
from benchmarks.measure_messages import Talker
from benchmarks.reactor import Reactor
from benchmarks.servers import Server, running, usher_command
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.ws_load import TEXT, handshake, masked_frame, open_all, visit
from services.rooms.presence import NOTICES_PER_SECOND

JOINED, REPLIED = b'"joined"', b'"ok":true'
PERIOD_US = 10_000
"""Short, so that a process is not away for long when its share is used up."""
TALK_SECONDS = 6.0
SOCKETS, LANES = 400, 200
"""Of request/reply, and joins at a time: that many are spread over processes about evenly, and a
process has work also while the generator waits for the machine."""
ENDLESS = 10**9
WORKER = b"worker"


@dataclass(frozen=True)
class Group:
    """The processes that serve, the one that supervises, if any, and their Redis."""

    server: Server
    serving: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return tuple({self.server.pid, *self.serving})

    def cpu(self) -> list[float]:
        """Seconds that each serving process has used."""
        return [machine.cpu_seconds(pid) for pid in self.serving]

    def whole_cpu(self) -> float:
        return sum(map(machine.cpu_seconds, self.all))

    def store_cpu(self) -> float:
        assert self.server.store_pid is not None
        return machine.cpu_seconds(self.server.store_pid)


class OnePort(Installation):
    """An installation whose server has one process or several."""

    @contextmanager
    def processes(self, count: int) -> Iterator[Group]:
        command = [*usher_command(self._folder / "a", self._ports[0]), "--processes", str(count)]
        with running(command, self._settings, None) as server:
            serving = (server.pid,) if count == 1 else _serving(server.pid, count)
            yield Group(server, serving)


def _serving(supervisor: int, count: int) -> tuple[int, ...]:
    """The workers of a supervisor, once all of them serve: it has said so by then."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended while we walked
            if parent == supervisor and WORKER in words:
                found.append(int(entry.name))
    if len(found) != count:
        raise BenchmarkFailed(f"{len(found)} workers instead of {count}")
    return tuple(found)


@contextmanager
def limited(pids: Sequence[int], share: float) -> Iterator[None]:
    """Give each process so much of one core, until the block ends."""
    with ExitStack() as stack:
        for pid in pids if share else ():
            folder = _controller() / f"usher-bench-{pid}"
            folder.mkdir()
            stack.callback(folder.rmdir)
            quota = round(PERIOD_US * share)
            if (folder / "cpu.max").exists():
                (folder / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            else:
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (folder / "cpu.cfs_quota_us").write_text(str(quota))
            (folder / "cgroup.procs").write_text(str(pid))
            stack.callback((_controller() / "cgroup.procs").write_text, str(pid))
        yield


def _controller() -> Path:
    v1 = Path("/sys/fs/cgroup/cpu")
    return v1 if v1.exists() else Path("/sys/fs/cgroup")


def joins(place: OnePort, group: Group, sizes: Sizes, share: float) -> dict[str, float]:
    """Joins by access token in the subprotocol, each with a token of its own."""
    address, warm_up = group.server.address, sizes.joins // 10
    tokens = place.mint.spread(place.logins, sizes.joins + warm_up)
    upgrades = [handshake(address, token, origin=place.origin) for token in tokens]
    visit(address, upgrades[:warm_up], JOINED, sizes.lanes)
    with limited(group.serving, share):
        before, began = group.cpu(), time.perf_counter()
        done = visit(address, upgrades[warm_up:], JOINED, LANES)
        wall = time.perf_counter() - began
    return _figures("joins", done, wall, before, group.cpu(), share)


def talk(place: OnePort, group: Group, share: float) -> dict[str, float]:
    """Heartbeats, one in flight on each socket."""
    reactor = Reactor()
    talkers = []
    try:
        for token in place.mint.spread(place.logins, SOCKETS):
            upgrade = handshake(group.server.address, token, origin=place.origin)
            talkers.append(Talker(reactor, group.server.address, upgrade, JOINED, REPLIED, 1))
        open_all(reactor, talkers)
        with limited(group.serving, share):
            for talker in talkers:
                talker.start(ENDLESS)
            reactor.run_for(TALK_SECONDS / 6)
            left = sum(talker.left for talker in talkers)
            before, began = group.cpu(), time.perf_counter()
            reactor.run_for(TALK_SECONDS)
            wall = time.perf_counter() - began
            after, done = group.cpu(), left - sum(talker.left for talker in talkers)
    finally:
        for talker in talkers:
            talker.abandon()
        reactor.close()
    return _figures("request/reply", done, wall, before, after, share)


def _figures(
    name: str, done: int, wall: float, before: list[float], after: list[float], share: float
) -> dict[str, float]:
    used = [now - then for now, then in zip(after, before, strict=True)]
    return {
        f"{name}, /s": done / wall,
        f"{name}, CPU us": sum(used) * 1e6 / done,
        f"{name}, busiest process, % of the work": 100 * max(used) / sum(used),
        f"{name}, share used, % (least)": 100 * min(used) / (wall * (share or 1)),
    }


def room(place: OnePort, group: Group, sizes: Sizes) -> dict[str, float]:
    """Messages to a room, pipelined and one by one: CPU time of all processes."""
    reactor, tally, count = Reactor(), Tally(), sizes.room
    members: list[Member] = []
    address = group.server.address
    tokens = place.tokens(min(PEOPLE, count), count)

    def arriving(token: str) -> Member:
        upgrade = handshake(address, token, origin=place.origin)
        members.append(Member(reactor, address, upgrade, JOINED, tally))
        return members[-1]

    found: dict[str, float] = {}
    try:
        open_crowd(reactor, map(arriving, tokens), count, sizes.lanes)
        reactor.run_for(0.2 + count / NOTICES_PER_SECOND)
        frame = masked_frame(TEXT, said(place.room))
        told = Room(reactor, members, tally, frame, "processes")
        many, few = sizes.many_deliveries // count, max(2, sizes.deliveries // count)
        told.say(max(1, many // 10), IN_FLIGHT)
        for name, messages, at_once in (("pipelined", many, IN_FLIGHT), ("one by one", few, 1)):
            before, store = group.whole_cpu(), group.store_cpu()
            told.say(messages, at_once)
            deliveries = messages * count
            used, store = group.whole_cpu() - before, group.store_cpu() - store
            found[f"room, {name}, CPU us a delivery"] = used * 1e6 / deliveries
            found[f"room, {name}, Redis CPU us a delivery"] = store * 1e6 / deliveries
        told.check()
        leave_all(members)
    finally:
        reactor.close()
    place.empty_room()
    return found


def memory(group: Group) -> dict[str, float]:
    """What the processes have to themselves, and their part of what they share (PSS)."""
    kib = 0
    for pid in group.all:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kib += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return {"memory of all processes, MiB": kib / 1024}


def measure(
    place: OnePort, count: int, sizes: Sizes, share: float, only: str | None
) -> dict[str, float]:
    """One round of a server with so many processes."""
    with place.processes(count) as group:
        found = memory(group)
        if only in (None, "joins"):
            found |= joins(place, group, sizes, share)
        if only in (None, "talk"):
            found |= talk(place, group, share)
        if only in (None, "room"):
            found |= room(place, group, sizes)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("--processes", type=int, default=2, help="beside one process (2)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--share", type=float, default=0.3, help="of a core, for each process (0.3)"
    )
    parser.add_argument("--only", choices=("joins", "talk", "room"))
    parser.add_argument("--quick", action="store_true", help="small and fast: does it still run?")
    options = parser.parse_args(argv)
    sizes = replace(QUICK if options.quick else FULL, keep_servers=False)
    machine.raise_file_limit(sizes.room * 2 + 1000)
    rounds: dict[int, list[dict[str, float]]] = {1: [], options.processes: []}
    with (
        tempfile.TemporaryDirectory(prefix="usher-bench-") as folder,
        closing(OnePort(sizes, machine.pick_cores(), Path(folder) / "place")) as place,
    ):
        for number in range(options.rounds):
            for count, found in rounds.items():
                print(f"… {count} processes, round {number + 1}", file=sys.stderr, flush=True)
                found.append(measure(place, count, sizes, options.share, options.only))
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}", end="; ")
    print(f"{options.share:g} of a core for each process; medians of {options.rounds} rounds")
    one, several = rounds[1], rounds[options.processes]
    print(f"| | 1 process | {options.processes} processes | ratio |\n|-|-|-|-|")
    for name in one[0]:
        first, second = (
            statistics.median(each[name] for each in found) for found in (one, several)
        )
        ratio = f"{second / first:.2f}" if first else "-"
        print(f"| {name} | {first:,.2f} | {second:,.2f} | {ratio} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
