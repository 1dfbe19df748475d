"""Memory of a socket that is open, known, and silent."""

from __future__ import annotations

import time

from benchmarks import machine
from benchmarks.errors import BenchmarkFailed
from benchmarks.harness import BARE, TORNADO, USHER, Figure, Lab, Sample
from benchmarks.reactor import Reactor
from benchmarks.servers import Server
from benchmarks.sizes import Sizes
from benchmarks.ws_load import Client, handshake, open_all, visit

WARM_UP = 200
SETTLE_SECONDS = 1.0
RESERVED_FILES = 200


class Memory:
    """RSS of a fresh, warmed-up server before and after N sockets, divided by N.

    Kernel buffers are not in it; the embedded Redis is shown by itself.
    """

    name = "memory"
    title = "Memory per idle authenticated socket"
    subjects: tuple[str, ...] = (USHER, TORNADO, BARE)
    figures: tuple[Figure, ...] = (
        Figure("server RSS", "KiB per socket", digits=2),
        Figure("Redis RSS", "KiB per socket", digits=2, compare=False),
        Figure("sockets open", "", compare=False),
    )

    def logins_used_up(self, sizes: Sizes) -> int:
        return 0

    def run(self, lab: Lab, subject: str) -> Sample:
        if subject in (USHER, TORNADO) and not lab.sizes.keep_servers:
            lab = lab.apart(self.name)
        count, greeting = lab.sizes.idle_sockets, lab.greeting(subject)
        if machine.raise_file_limit(count + RESERVED_FILES) < count + RESERVED_FILES:
            raise BenchmarkFailed(f"{count} sockets need a higher limit: ulimit -n")
        tokens = lab.tokens(subject, count + WARM_UP)
        with lab.server(subject) as server:
            upgrades = [handshake(server.address, token=token) for token in tokens]
            visit(server.address, upgrades[:WARM_UP], greeting, lab.sizes.lanes)
            reactor = Reactor()
            before = _resident(server)
            clients = open_all(
                reactor,
                (Client(reactor, server.address, one, greeting) for one in upgrades[WARM_UP:]),
            )
            time.sleep(SETTLE_SECONDS)
            after = _resident(server)
            _check_alive(reactor, clients)
            for client in clients:
                client.abandon()
            reactor.close()
        used, store = (
            (end - start) / 1024 / count for start, end in zip(before, after, strict=True)
        )
        return Sample({"server RSS": used, "Redis RSS": store, "sockets open": len(clients)})


def _resident(server: Server) -> tuple[int, int]:
    store = server.store_pid
    return (
        machine.resident_bytes(server.pid),
        machine.resident_bytes(store) if store is not None else 0,
    )


def _check_alive(reactor: Reactor, clients: list[Client]) -> None:
    """Every socket must still be open, or the division would flatter the server."""
    reactor.run_for(0.2)
    closed = sum(client.close_code is not None or client.sock.fileno() < 0 for client in clients)
    if closed:
        raise BenchmarkFailed(f"{closed} of {len(clients)} idle sockets were closed")
