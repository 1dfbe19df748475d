"""How much work one round does: of a run to quote, and of one that only tries whether it works."""

from __future__ import annotations

from dataclasses import dataclass

LIMITS = {
    "USHER_MESSAGE_RATE": "1000000",
    "USHER_MAX_SOCKETS_PER_USER": "1000000",
    "USHER_MAX_UNJOINED_PER_ADDRESS": "1000000",
    "USHER_LIMIT_TICKETS": "1000000",
    "USHER_LIMIT_REFRESHES": "1000000",
}
"""Counted all the same: what they cost is in the figures."""
TOKEN_TTL_SECONDS = 7_200  # longer than any run: no token expires while it is measured


@dataclass(frozen=True)
class Sizes:
    """How much work one round does.

    ``deliveries``: of the baseline and through Tornado, and one by one; ``many_deliveries``: of
    Usher where messages are pipelined, as CPU time is counted in steps of 10 ms. ``present``:
    sockets in the room, of which ``audience`` stay. ``keep_servers``: one process for the whole run
    instead of one per sample.
    """

    rounds: int
    users: int
    logins: int
    joins: int
    tickets: int
    lanes: int
    messages: int
    message_sockets: int
    idle_sockets: int
    logouts: int
    room: int
    large_room: int
    deliveries: int
    many_deliveries: int
    present: int
    audience: int
    sessions: tuple[int, ...]
    grown_joins: int
    node_logouts: int
    load_members: int
    load_deliveries_per_second: int
    keep_servers: bool = False


FULL = Sizes(
    rounds=3,
    users=5,
    logins=250,
    joins=5_000,
    tickets=3_000,
    lanes=50,
    messages=60_000,
    message_sockets=50,
    idle_sockets=5_000,
    logouts=334,
    room=1_000,
    large_room=10_000,
    deliveries=200_000,
    many_deliveries=2_000_000,
    present=11_000,
    audience=1_000,
    sessions=(1_000, 10_000, 100_000),
    grown_joins=3_000,
    node_logouts=334,
    load_members=100,
    load_deliveries_per_second=20_000,
)
QUICK = Sizes(
    rounds=1,
    users=2,
    logins=8,
    joins=400,
    tickets=200,
    lanes=20,
    messages=4_000,
    message_sockets=20,
    idle_sockets=200,
    logouts=15,
    room=50,
    large_room=200,
    deliveries=4_000,
    many_deliveries=20_000,
    present=220,
    audience=20,
    sessions=(1_000, 10_000),
    grown_joins=100,
    node_logouts=8,
    load_members=20,
    load_deliveries_per_second=2_000,
    keep_servers=True,
)
