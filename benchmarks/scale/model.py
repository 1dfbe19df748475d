"""The loads of an installation, computed from costs: how busy each part is at a number of sockets.

A load is a share of what one unit of the part can do: one core of a node, one core of a Redis
server, one core of PostgreSQL, the memory of a node. Above `full` a part counts as broken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

INPUTS = Path(__file__).with_name("inputs.json")
KIB = 1024
DAY = 86_400
LEASE_EVERY = 10
"""Seconds between renewals (services/sockets/session_pool.py, services/rooms/presence.py)."""


@dataclass(frozen=True)
class Inputs:
    """Costs (CPU µs, KiB or bytes, as inputs.json says) and assumptions, by name."""

    costs: dict[str, float]
    assumed: dict[str, float]

    @classmethod
    def read(cls, path: Path = INPUTS) -> Inputs:
        """Read a file of inputs."""
        given = json.loads(path.read_text("utf-8"))
        costs, assumed = (
            {name: float(entry["value"]) for name, entry in given[part].items()}
            for part in ("costs", "assumed")
        )
        return cls(costs, assumed)


@dataclass(frozen=True)
class Design:
    """How an installation is built. The defaults are a single Redis and a single PostgreSQL.

    Attributes:
        masters: of Redis Cluster; 1 is a server without a cluster.
        sharded_channels: messages are published in the shard of their room only.
        placed_rooms: the sockets of a small room are on so many nodes at most; 0: on any.
        presence_on_change: a node reads a room's index only if its version has changed.
        count_above: rooms with more sockets have counts instead of names; 0: none has.
        node_leases: one lease for all sockets of a node, instead of one for each.
        pooled: PgBouncer in front of PostgreSQL shares connections between nodes.
        databases: PostgreSQL servers, divided by user.
        feeds: streams of revocations, divided by user.
    """

    masters: int = 1
    sharded_channels: bool = False
    placed_rooms: int = 0
    presence_on_change: bool = False
    count_above: int = 0
    node_leases: bool = False
    pooled: bool = False
    databases: int = 1
    feeds: int = 1


class Model:
    """Loads of one design at one number of sockets."""

    def __init__(self, inputs: Inputs, design: Design, sockets: float) -> None:
        self._costs, self._given, self._design = inputs.costs, inputs.assumed, design
        self.sockets = sockets
        self.nodes = max(1.0, sockets / self._given["sockets per node"])
        self.joins = sockets / self._given["seconds of a socket"]
        self.rooms = sockets * self._given["rooms of a socket"] / self._given["sockets of a room"]
        self.messages = sockets * self._given["messages per socket and second"]
        self.cuts = sockets * self._given["cuts per socket and day"] / DAY
        self.refreshes = sockets / self._given["seconds between refreshes"]
        self.changes = 2 * self.joins * self._given["rooms of a socket"]
        """Sockets that enter or leave a room, per second."""

    @property
    def nodes_of_room(self) -> float:
        """How many nodes have a socket of a small room, with sockets spread at random."""
        size = self._given["sockets of a room"]
        spread: float = self.nodes * (1 - (1 - 1 / self.nodes) ** size)
        return min(spread, self._design.placed_rooms or spread)

    @property
    def pairs(self) -> float:
        """Pairs of a room and a node that has a socket in it."""
        return self.rooms * self.nodes_of_room

    # ---- Redis, in cores -------------------------------------------------------------------

    def redis(self) -> dict[str, float]:
        """Cores of Redis that each kind of work needs."""
        cost, large = self._costs, self._large()
        told = cost["message to a subscribed node, Redis"]
        lease = cost["lease of a socket, Redis"] * self.sockets / LEASE_EVERY
        if self._design.node_leases:
            lease = cost["lease of a socket, Redis"] * self.nodes / LEASE_EVERY
        published = self.messages + self.changes
        # In a cluster that is not sharded each message goes to every master, too.
        relayed = 0 if self._design.sharded_channels else self._design.masters - 1
        return {
            "joins": micro(self.joins * cost["join, Redis"]),
            "leases of sockets": micro(lease),
            "leases of sockets in rooms": micro(self._room_leases()),
            "presence, read again": micro(self._room_reads("Redis")),
            "messages, logs": micro(self.messages * cost["message kept, Redis"]),
            "messages and presence, told": micro(published * self.nodes_of_room * told),
            "… relayed between masters": micro(published * relayed * told),
            "refreshes": micro(self.refreshes * cost["refresh, Redis"]),
            "revocations": micro(self.cuts * (cost["message kept, Redis"] + self.nodes * told)),
            "the large room": large,
        }

    def _room_leases(self) -> float:
        cost, entries = self._costs, self.rooms * self._given["sockets of a room"]
        if self._design.node_leases:
            entries = self.pairs
        more = max(0.0, entries - self.pairs) * cost["lease in a large room, Redis"]
        return (self.pairs * cost["lease in a room, Redis"] + more) / LEASE_EVERY

    def _room_reads(self, where: str) -> float:
        cost, size = self._costs, self._given["sockets of a room"]
        whole = (
            cost[f"presence read of a room, {where}"]
            + (size - 1) * cost[f"presence entry read, {where}"]
        )
        if self._design.presence_on_change:  # the version only
            whole = cost[f"presence read of a room, {where}"]
        return self.pairs * whole / LEASE_EVERY

    def _large(self) -> float:
        """The one large room: leases, reads by every node, and its messages."""
        cost, size = self._costs, self._large_size()
        told = cost["message to a subscribed node, Redis"]
        messages = self._given["messages per second in the large room"]
        load = messages * (cost["message kept, Redis"] + self.nodes * told)
        if self._counted():
            return micro(load + self.nodes * cost["lease in a room, Redis"] / LEASE_EVERY)
        load += size * cost["lease in a large room, Redis"] / LEASE_EVERY
        load += self.nodes * size * cost["presence entry read, Redis"] / LEASE_EVERY
        changes = 2 * size / self._given["seconds of a socket"]
        return micro(load + changes * self.nodes * told)

    def _counted(self) -> bool:
        above = self._design.count_above
        return bool(above) and self._large_size() > above

    def _large_size(self) -> float:
        return self.sockets * self._given["share in the large room"]

    # ---- a node ----------------------------------------------------------------------------

    def node(self) -> dict[str, float]:
        """Share of one core of a node that each kind of work needs."""
        cost, nodes = self._costs, self.nodes
        own = self.sockets / nodes
        received = (self.messages + self.changes) * self.nodes_of_room / nodes
        deliveries = self.messages * self._given["sockets of a room"] / nodes
        size, changes = self._large_size(), 2 * self._large_size()
        changes /= self._given["seconds of a socket"]
        said = self._given["messages per second in the large room"]
        large = said * size / nodes * cost["delivery one by one, node"]
        if not self._counted():
            large += size * cost["presence entry read, node"] / LEASE_EVERY
            large += changes * cost["message received, node"]
            large += size / nodes / LEASE_EVERY * cost["lease in a large room, node"]
        leases = own * cost["lease of a socket, node"] / LEASE_EVERY
        pair = cost["lease in a room, node"]
        return {
            "joins": micro(self.joins / nodes * cost["join, node"]),
            "refreshes": micro(self.refreshes / nodes * cost["refresh, node"]),
            "heartbeats": micro(
                own / self._given["seconds between heartbeats"] * cost["request, node"]
            ),
            "messages received": micro(received * cost["message received, node"]),
            "deliveries": micro(deliveries * cost["delivery one by one, node"]),
            "leases": micro(0.0 if self._design.node_leases else leases),
            "presence of rooms": micro(
                self.pairs / nodes / LEASE_EVERY * pair + self._room_reads("node") / nodes
            ),
            "revocations": micro(self.cuts * cost["message received, node"]),
            "the large room": micro(large),
        }

    def memory(self) -> dict[str, float]:
        """GiB of a node."""
        cost, own = self._costs, self.sockets / self.nodes
        size = self._given["sockets of a room"]
        channels = self._given["rooms of a socket"] * cost["channel of a socket, node"]
        user = cost["user in presence, node, bytes"]
        return {
            "sockets": own * (cost["idle socket, node"] + channels) * KIB / KIB**3,
            "presence of rooms": self.pairs / self.nodes * size * user / KIB**3,
            "presence of the large room": self.memory_of_large_room(),
        }

    def memory_of_large_room(self) -> float:
        """GiB of a node for the names in the large room."""
        user = self._costs["user in presence, node, bytes"]
        return 0.0 if self._counted() else self._large_size() * user / KIB**3

    def large_room_bytes(self) -> float:
        """MiB per second of presence that a node sends to its members of the large room."""
        members = self._large_size() / self.nodes
        seconds = max(0.05, members / self._given["presence frames per second"])
        if self._counted():
            return members * self._given["bytes of a count"] / seconds / KIB**2
        changes = 2 * self._large_size() / self._given["seconds of a socket"] * seconds
        people = min(changes, self._given["people in a presence frame"])
        return members * people * self._given["bytes of a person"] / seconds / KIB**2

    # ---- PostgreSQL ------------------------------------------------------------------------

    def database(self) -> dict[str, float]:
        """Cores of PostgreSQL that each kind of work needs. A usual join needs none."""
        return {
            "refreshes": micro(self.refreshes * self._costs["refresh, PostgreSQL"]),
            "logouts": micro(self.cuts * self._costs["refresh, PostgreSQL"]),
            "reading of revocations": micro(self.nodes * self._costs["idle node, PostgreSQL"]),
        }

    # ---- how full --------------------------------------------------------------------------

    def shares(self) -> dict[str, float]:
        """How full each part is: 1 is the most that `inputs.json` allows it."""
        given, design = self._given, self._design
        redis = self.redis()
        relayed, cuts = redis.pop("… relayed between masters"), redis.pop("revocations")
        large = redis.pop("the large room")
        # A room, and a feed of revocations, is in one slot; what is relayed, all masters have.
        fullest = sum(redis.values()) / design.masters + large + cuts / design.feeds
        fullest += relayed / max(1, design.masters - 1)
        return {
            "a Redis server's core": fullest / given["full"],
            "a node's core": sum(self.node().values()) / given["full"],
            "a node's memory": sum(self.memory().values()) / given["GiB of a node"],
            "PostgreSQL's cores": sum(self.database().values())
            / design.databases
            / (given["full"] * given["cores of PostgreSQL"]),
            "PostgreSQL's connections": (0 if design.pooled else self.nodes)
            * given["connections of a node"]
            / given["connections of PostgreSQL"],
            "a node's network": self.large_room_bytes() / given["MiB per second of a node"],
        }


def micro(microseconds: float) -> float:
    """Seconds of CPU per second: cores."""
    return microseconds / 1e6


def most_sockets(inputs: Inputs, design: Design, part: str) -> float:
    """At how many sockets a part is full."""
    low, high = 100.0, 1e11
    for _ in range(60):
        middle = (low * high) ** 0.5
        if Model(inputs, design, middle).shares()[part] > 1:
            high = middle
        else:
            low = middle
    return low
