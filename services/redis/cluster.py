"""Redis Cluster: the slot of a command, and the node of a slot.

Source: the Redis Cluster specification (hash tags, MOVED and ASK), CLUSTER SLOTS and CLUSTER
INFO as Redis 6.2 to 8 and Valkey answer them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec
from redis.crc import key_slot

from services.errors import StoreUnavailable
from services.redis.address import RedisAddress
from services.redis.link import command_name
from services.redis.query import ask_all
from services.redis.store import Command

KEYLESS = frozenset({"PING", "TIME", "ECHO", "INFO", "CLUSTER", "COMMAND", "DBSIZE", "ROLE"})
ALL_KEYS = frozenset({"MGET", "DEL", "EXISTS", "UNLINK", "TOUCH"})
COUNTED_KEYS = frozenset({"EVAL", "EVALSHA", "FCALL"})
SPECIAL = KEYLESS | ALL_KEYS | COUNTED_KEYS | {"XREAD"}

SLOTS = 16_384

ASKED_AT_ONCE = 6
"""How many nodes are asked what the cluster looks like: enough to outvote a stale one."""

Place = tuple[str, int]
"""Host and port."""


def slot_of(command: Command) -> int | None:
    """The slot of a command; None if any node can answer it.

    Supports the commands in store.py, EVAL, XREAD, and every command whose only key follows its
    name. PUBLISH is treated as one of these: a channel's messages stay in order if one node
    publishes them all.

    Raises:
        ValueError: the keys are in several slots, which a cluster does not allow, or the command
            is empty.
        TypeError: a key is not text, bytes or a number.
    """
    if not command:
        raise ValueError("an empty command")
    name = command_name(command)
    if name not in SPECIAL:
        return _slot(command[1]) if len(command) > 1 else None
    slots = {_slot(key) for key in _keys(name, command)}
    if len(slots) > 1:
        raise ValueError(f"{name}: its keys do not share a slot")
    return slots.pop() if slots else None


def _keys(name: str, command: Command) -> Command:
    if name in KEYLESS:
        return ()
    if name in ALL_KEYS:
        return command[1:]
    if name in COUNTED_KEYS:
        count = command[2] if len(command) > 2 else 0
        return command[3 : 3 + int(count)]
    words = [word.upper() if isinstance(word, str) else word for word in command]  # XREAD
    streams = command[words.index("STREAMS") + 1 :]
    return streams[: len(streams) // 2]


def _slot(key: object) -> int:
    if isinstance(key, str):
        return key_slot(key.encode())
    if isinstance(key, bytes):
        return key_slot(key)
    if isinstance(key, int | float) and not isinstance(key, bool):
        return key_slot(repr(key).encode())
    raise TypeError("a key is text, bytes or a number")


def tag_between(first: int, last: int) -> str:
    """A hash tag whose keys belong to one of these slots."""
    return next(tag for n in count() if first <= key_slot((tag := f"t{n}").encode()) <= last)


class View(msgspec.Struct, frozen=True):
    """One node's view of the cluster.

    Attributes:
        up: whether the node accepts commands.
        epoch: the configuration epoch; a higher one is newer.
        ranges: first slot, last slot, and the master that serves them.
        nodes: every node that has slots, including replicas.
    """

    up: bool
    epoch: int
    ranges: tuple[tuple[int, int, Place], ...]
    nodes: frozenset[Place]


def read_view(asked: str, info: bytes, slots: Sequence[Any]) -> View:
    """Parse the replies to CLUSTER INFO and CLUSTER SLOTS from the node at host `asked`."""
    facts = dict(line.partition(b":")[::2] for line in info.splitlines())
    ranges, nodes = [], set()
    for first, last, *places in slots:
        found = [place(asked, host, port) for host, port, *_ in places]
        ranges.append((int(first), int(last), found[0]))
        nodes.update(found)
    return View(
        up=facts.get(b"cluster_state") == b"ok",
        epoch=int(facts.get(b"cluster_current_epoch", 0)),
        ranges=tuple(ranges),
        nodes=frozenset(nodes),
    )


def place(asked: str, host: bytes | str | None, port: int | str) -> Place:
    """Host and port as a node reports them. If it does not know its own host, `asked` is used."""
    text = host.decode() if isinstance(host, bytes) else host
    return asked if not text or text == "?" else text, int(port)


class ClusterAddress:
    """`Address` of any cluster node that is up, for the subscription and to read the topology.

    Args:
        seeds: the nodes named in the URL. The other nodes are discovered from them.
    """

    lost_by: frozenset[str] = frozenset()

    def __init__(self, seeds: Sequence[RedisAddress]) -> None:
        self._seeds = {(seed.host, seed.port): seed for seed in seeds}
        self._learned: frozenset[Place] = frozenset()
        self.greeting = seeds[0].greeting

    def at(self, node: Place) -> RedisAddress:
        """The address of one node."""
        return next(iter(self._seeds.values())).at(*node)

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """See `Address.connect`."""
        ways = [address for address, view in await self._ask() if view.up]
        if not ways:
            raise StoreUnavailable("cluster: down")
        await random.choice(ways).connect(protocol)  # noqa: S311 - no secret

    async def look(self) -> View:
        """The newest view of the cluster, from a node that is up if there is one.

        The cluster is up if none of its masters reports otherwise: a master that has just
        returned refuses commands for a while, although the others already list it.

        Raises:
            StoreUnavailable: no node answers.
        """
        answers = await self._ask()
        newest = max(
            (view for _, view in answers), key=lambda view: (view.up, view.epoch, len(view.ranges))
        )
        down = {(address.host, address.port) for address, view in answers if not view.up}
        up = newest.up and not any(where in down for _, _, where in newest.ranges)
        return msgspec.structs.replace(newest, up=up)

    async def _ask(self) -> list[tuple[RedisAddress, View]]:
        known = list(self._learned - self._seeds.keys())
        chosen = random.sample(known, min(len(known), ASKED_AT_ONCE))
        asked = [*self._seeds.values(), *map(self.at, chosen)]
        answers = await ask_all(asked, ("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
        views = [(address, read_view(address.host, *replies)) for address, replies in answers]
        self._learned = frozenset().union(*(view.nodes for _, view in views)) or self._learned
        return views
