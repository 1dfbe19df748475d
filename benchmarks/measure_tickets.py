"""The browser's way in: fetch a ticket over HTTP, spend it on a socket."""

from __future__ import annotations

from benchmarks.harness import BARE, SHARES, USHER, Figure, Lab, Sample
from benchmarks.http_load import call_all, request
from benchmarks.measure_joins import PACE
from benchmarks.servers import Server
from benchmarks.sizes import Sizes
from benchmarks.ws_load import handshake, visit


class Tickets:
    """Tickets are fetched first (timed on their own), then each opens one socket.

    The baseline has no tickets; it opens its sockets with the same request line.
    """

    name = "tickets"
    title = "Joins, single-use ticket in the query"
    subjects: tuple[str, ...] = (USHER, BARE)
    figures: tuple[Figure, ...] = (
        *PACE,
        Figure("tickets fetched", "/s", compare=False),
        Figure("server CPU, fetching", "ms per 1,000", compare=False),
        *SHARES,
    )

    def logins_used_up(self, sizes: Sizes) -> int:
        return 0

    def run(self, lab: Lab, subject: str) -> Sample:
        count, lanes, greeting = lab.sizes.tickets, lab.sizes.lanes, lab.greeting(subject)
        warm_up = count // 10
        tokens = lab.tokens(subject, count + warm_up)
        with lab.server(subject) as server:
            if subject == USHER:
                tickets, fetched = self._fetch(lab, server, tokens)
            else:
                tickets, fetched = [token[-43:] for token in tokens], {}
            upgrades = [handshake(server.address, ticket=ticket) for ticket in tickets]
            visit(server.address, upgrades[:warm_up], greeting, lanes)
            meter = lab.meter(server)
            done = visit(server.address, upgrades[warm_up:], greeting, lanes)
            usage = meter.stop()
        pace = {"joins": done / usage.wall, **usage.per_thousand(done), **usage.shares()}
        return Sample({**pace, **fetched})

    def _fetch(
        self, lab: Lab, server: Server, tokens: list[str]
    ) -> tuple[list[str], dict[str, float]]:
        requests = [
            request(server.address, "POST", "/api/ws/ticket", token=token) for token in tokens
        ]
        meter = lab.meter(server)
        answers = call_all(server.address, requests, lab.sizes.lanes)
        usage = meter.stop()
        tickets = [str(answer.data(201)["ticket"]) for answer in answers]
        return tickets, {
            "tickets fetched": len(tickets) / usage.wall,
            "server CPU, fetching": usage.server * 1e6 / len(tickets),
        }
