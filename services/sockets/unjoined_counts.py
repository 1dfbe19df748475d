"""Shares between nodes how many connections of an address have not joined.

A connection costs no round trip. Once a second, each node writes to Redis which addresses have many
connections here, and reads the counts of other nodes. So an address that fills one node is refused
by the others a second later. Addresses with few connections are not reported; all nodes together
omit at most a tenth of the limit.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping

import msgspec

from services.errors import StoreUnavailable
from services.redis.store import Command, Store
from services.sockets.nodes import Nodes

SHARE_SECONDS = 1.0
LIFE_MS = 5000
"""Expiry of a node's counts, in case it stops or stalls."""
UNTOLD_PART = 10
"""Divisor: all nodes together may omit this part of the limit."""
MAX_TOLD = 500
"""Maximum number of addresses that a node reports, the largest counts first."""

_DECODER = msgspec.json.Decoder(dict[str, int])


class UnjoinedCounts:
    """The counts of other nodes, by address.

    Args:
        nodes: the live nodes.
        most: MAX_UNJOINED_PER_ADDRESS.
        processes: server processes of this node. While Redis is unavailable the others are taken
            to have as many connections of an address as this one.
    """

    def __init__(self, store: Store, nodes: Nodes, most: int, processes: int = 1) -> None:
        self._store, self._nodes, self._most = store, nodes, most
        self._beside, self._is_alone = processes - 1, False
        self._here: Mapping[str, int] = {}
        self._elsewhere: dict[str, int] = {}
        self._has_told = False

    def watch(self, here: Mapping[str, int]) -> None:
        """Tell of these counts, by address, from now on."""
        self._here = here

    def elsewhere(self, group: str) -> int:
        """How many an address has on the other nodes, as of about a second ago."""
        if self._is_alone:
            return self._here.get(group, 0) * self._beside
        return self._elsewhere.get(_mark(group), 0) if self._elsewhere else 0

    async def share(self) -> None:
        """Publish the counts of this node, and read those of the others.

        Raises:
            StoreUnavailable: Redis is unavailable; each node then counts only its own connections.
        """
        if self._store.kind != "redis":
            return
        try:
            self._elsewhere = await self._exchange()
            self._is_alone = False
        except StoreUnavailable:
            self._elsewhere, self._is_alone = {}, True
            raise

    async def _exchange(self) -> dict[str, int]:
        others = await self._nodes.active() - {self._nodes.node}
        if not others:
            return {}
        commands: list[Command] = [("GET", _key(name)) for name in others]
        told = self._decode_counts(len(others) + 1)
        if told or self._has_told:
            text = msgspec.json.encode(told)
            commands.append(("SET", _key(self._nodes.node), text, "PX", LIFE_MS))
        answers = await self._store.call(*commands)
        self._has_told = bool(told)
        found: dict[str, int] = {}
        for text in answers[: len(others)]:
            for mark, count in _DECODER.decode(text).items() if text else ():
                found[mark] = found.get(mark, 0) + count
        return found

    def _decode_counts(self, nodes: int) -> dict[str, int]:
        least = max(1, self._most // (UNTOLD_PART * nodes))
        many = [item for item in self._here.items() if item[1] >= least]
        if len(many) > MAX_TOLD:
            many = heapq.nlargest(MAX_TOLD, many, key=lambda item: item[1])
        return {_mark(group): count for group, count in many}


def _key(node: str) -> str:
    return f"usher:{{nodes}}:unjoined:{node}"


def _mark(group: str) -> str:
    """The hash of an address, which stands for it in Redis."""
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:16]
