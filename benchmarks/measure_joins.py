"""Authenticated joins: open a socket with an access token, be greeted, say good-bye."""

from __future__ import annotations

from benchmarks.harness import BARE, SHARES, TORNADO, USHER, Figure, Lab, Sample
from benchmarks.sizes import Sizes
from benchmarks.ws_load import handshake, visit

PACE = (
    Figure("joins", "/s"),
    Figure("server CPU", "ms per 1,000"),
    Figure("Redis CPU", "ms per 1,000", compare=False),
)


class Joins:
    """Credential: the subprotocol bearer, every join with an access token of its own.

    A join is TCP connect, upgrade, authentication and the ``joined`` frame; its cost includes the
    closing handshake. The baseline gets the same bytes and ends its join with the 101 answer.
    """

    name = "joins"
    title = "Joins, access token in the subprotocol"
    subjects: tuple[str, ...] = (USHER, TORNADO, BARE)
    figures: tuple[Figure, ...] = (*PACE, *SHARES)

    def logins_used_up(self, sizes: Sizes) -> int:
        return 0

    def run(self, lab: Lab, subject: str) -> Sample:
        count, lanes, greeting = lab.sizes.joins, lab.sizes.lanes, lab.greeting(subject)
        warm_up = count // 10
        tokens = lab.tokens(subject, count + warm_up)
        with lab.server(subject) as server:
            upgrades = [handshake(server.address, token=token) for token in tokens]
            visit(server.address, upgrades[:warm_up], greeting, lanes)
            meter = lab.meter(server)
            done = visit(server.address, upgrades[warm_up:], greeting, lanes)
            usage = meter.stop()
        return Sample({"joins": done / usage.wall, **usage.per_thousand(done), **usage.shares()})
