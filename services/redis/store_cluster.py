"""The store in a Redis Cluster: a `RedisStore` for each master, and a map of the slots.

A group of commands is split by the nodes of its slots. Each node gets its part in order, in one
write with everything else of the tick. Order between commands of different nodes is not preserved.

A command that a node refuses (MOVED, ASK, TRYAGAIN, CLUSTERDOWN) was not executed. Only that
command is sent again, a limited number of times. Commands that a lost node may have executed fail.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hiredis import ReplyError

from services.errors import StoreUnavailable
from services.event_loop.tasks import end_tasks
from services.redis.cluster import SLOTS, ClusterAddress, Place, View, place, slot_of, tag_between
from services.redis.cluster_parts import Part, Reply
from services.redis.forms import address_of
from services.redis.link import error_word, packed, refusal
from services.redis.store import Command, Then, pass_on
from services.redis.store_redis import MAX_BYTES, MAX_GROUPS, RedisStore
from services.secret import Secret

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.05, 0.5
"""Between two looks at the cluster while slots are without a node."""

MAX_TRIES = 4
"""How often one command is sent: a stale map and a slot on its way take three."""

MAX_MOVES = 12
"""How often one command is sent that nodes redirect with MOVED. Two masters may each name the other
as the owner of a slot until gossip has settled it: after MAX_TRIES the next look is awaited."""

REFUSALS = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})

_ASKING: Command = ("ASKING",)


class ClusterStore:
    """`Store` in a Redis Cluster.

    Args:
        where: a redis+cluster:// or rediss+cluster:// URL (redis_url.py), or an address.
        timeout: seconds that a reply, or a whole attempt to connect to a node, may take.
        tried: whether every connection is tested with writes, see `RedisStore`.
        on_change: called with `available` whenever it changes, within the loop.
        max_groups, max_bytes: how much may be pending at one node.

    Raises:
        ValueError: the URL cannot be used; the text never quotes it.
    """

    kind = "redis"

    def __init__(
        self,
        where: Secret | str | ClusterAddress,
        *,
        timeout: float = 1.0,
        tried: bool = False,
        on_change: Callable[[bool], None] | None = None,
        max_groups: int = MAX_GROUPS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        address = address_of(where) if isinstance(where, Secret | str) else where
        if not isinstance(address, ClusterAddress):
            raise ValueError("not a redis+cluster:// URL")  # noqa: TRY004 - it is the URL's value
        self._address = address
        self._timeout, self._tried = timeout, tried
        self._on_change = on_change
        self._limits = max_groups, max_bytes
        self._nodes: dict[Place, RedisStore] = {}
        self._owners: list[RedisStore | None] = [None] * SLOTS
        self._masters: frozenset[RedisStore] = frozenset()
        self._whole = False  # the nodes are up and every slot has an owner
        self._waiting: list[Part] = []  # refused parts, until the next look at the cluster
        self._stale = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False
        self.available = self.nearly_full = False
        self.reason = "not connected yet"

    def call(self, *commands: Command) -> asyncio.Future[list[Any]]:
        """See `Store.call`.

        Raises:
            ValueError: also if the keys of one command do not share a slot.
        """
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        if not commands:
            future.set_result([])
            return future
        reply = Reply(future, len(commands))
        parts = self._parts(reply, commands)
        payloads = [packed(part.commands) for _, part in parts]  # all, before any is issued
        for (node, part), payload in zip(parts, payloads, strict=True):
            if node is None:
                part.fail(self.reason or "cluster: a slot is without a node")
            else:
                node.issue(part, payload)
        return future

    def tell(self, *commands: Command, then: Then | None = None) -> None:
        """See `Store.tell`."""
        pass_on(self.call(*commands), then)

    @property
    def memory_share(self) -> float:
        """See `Store.memory_share`: that of the fullest master."""
        return max((node.memory_share for node in self._masters), default=0.0)

    def look_at_memory(self) -> None:
        """See `Store.look_at_memory`."""
        for node in self._masters:
            node.look_at_memory()
        self.nearly_full = any(node.nearly_full for node in self._masters)

    def epoch(self, key: str) -> str | None:
        """See `Store.epoch`: the key's own node decides."""
        slot = slot_of(("GET", key))
        node = None if slot is None else self._owners[slot]
        return None if node is None else node.epoch()

    async def connect(self) -> None:
        """Read the topology once, then keep it up to date until `close()`. Never raises."""
        if self._keeper is None and not self._closed:
            await self._refresh()
            if not self.available:
                self._stale.set()
            self._keeper = asyncio.create_task(self._keep(), name="redis-cluster-keeper")

    async def close(self) -> None:
        self._closed, self.reason = True, "closed"
        await end_tasks(self._keeper)
        self._owners = [None] * SLOTS
        for part in self._taken():
            part.fail("closed")
        await asyncio.gather(*(node.close() for node in self._nodes.values()))
        self._check_nodes()

    # Which node a command goes to

    def _parts(
        self, reply: Reply, commands: tuple[Command, ...]
    ) -> list[tuple[RedisStore | None, Part]]:
        slots = [slot_of(command) for command in commands]
        first = next((slot for slot in slots if slot is not None), None)
        # A command that any node can answer is sent with the rest of its group.
        usual = self._any_node() if first is None else self._owners[first]
        owners = self._owners
        nodes = [usual if slot is None else owners[slot] for slot in slots]
        if nodes.count(usual) == len(nodes):  # the hash tags see to it
            return [(usual, Part(self, usual, reply, commands, range(len(commands))))]
        places: dict[RedisStore | None, list[int]] = {}
        for number, node in enumerate(nodes):
            places.setdefault(node, []).append(number)
        return [
            (node, Part(self, node, reply, tuple(commands[i] for i in numbers), numbers))
            for node, numbers in places.items()
        ]

    def _any_node(self) -> RedisStore | None:
        return next((node for node in self._masters if node.available), None)

    # What was refused

    def sort_out(self, part: Part, commands: Iterable[Command], replies: Iterable[Any]) -> None:
        """Take the replies of a part, and send refused commands again."""
        again: dict[tuple[RedisStore | None, bool], list[int]] = {}
        kept = dict(zip(part.places, commands, strict=True))
        for number, reply in zip(part.places, replies, strict=True):
            if reply.__class__ is not ReplyError:
                part.reply.put(number, reply)
                continue
            word = error_word(reply)
            limit = MAX_MOVES if word == "MOVED" else MAX_TRIES
            if word in REFUSALS and part.tries < limit and self._may_wait(word):
                target = self._target(word, reply, part)
                again.setdefault(target, []).append(number)
                if target[0] is None or word == "MOVED":
                    self._stale.set()
            else:
                evidence = refusal(kept[number], reply)
                part.reply.fail(evidence)
                if part.node is not None:
                    part.node.refused(evidence)
        for (node, asking), numbers in again.items():
            self._send_again(part, [kept[i] for i in numbers], numbers, node, asking)

    def _may_wait(self, word: str) -> bool:
        # If the cluster is known to be down, callers do not wait: the database is used.
        return not self._closed and (word != "CLUSTERDOWN" or self.available)

    def _target(self, word: str, reply: ReplyError, part: Part) -> tuple[RedisStore | None, bool]:
        """The node that a refusal names, and whether it needs ASKING; None: read the topology."""
        if word not in {"MOVED", "ASK"} or part.tries >= MAX_TRIES:
            return None, False
        _, slot, where = str(reply).split()[:3]
        host, _, port = where.rpartition(":")
        known = next((at[0] for at, node in self._nodes.items() if node is part.node), "")
        node = self._nodes.get(there := place(known, host, port))
        if node is None:  # the target of a migration has no slot yet, so no look finds it
            node = self._new_node(there)
        if not node.available:
            return None, False
        if word == "MOVED":
            self._owners[int(slot)] = node
        return node, word == "ASK"

    def _send_again(
        self,
        part: Part,
        commands: Sequence[Command],
        numbers: Sequence[int],
        node: RedisStore | None,
        asking: bool,
    ) -> None:
        if asking:
            commands = [each for command in commands for each in (_ASKING, command)]
        again = Part(self, node, part.reply, tuple(commands), numbers, part.tries + 1, asking)
        if node is not None:
            node.issue(again, packed(again.commands))
        elif len(self._waiting) < self._limits[0]:
            self._waiting.append(again)
        else:
            again.fail("redis: too much is waiting")

    def _taken(self) -> list[Part]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _retry(self) -> None:
        for part in self._taken():
            for command, number in zip(part.commands, part.places, strict=True):
                slot = slot_of(command)
                node = self._any_node() if slot is None else self._owners[slot]
                again = Part(self, node, part.reply, (command,), (number,), part.tries)
                if node is None:
                    again.fail("cluster: a slot is without a node")
                else:
                    node.issue(again, packed((command,)))

    # What the cluster looks like

    async def _keep(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            await self._stale.wait()
            self._stale.clear()
            await self._refresh()
            self._retry()
            delay = FIRST_DELAY_SECONDS if self.available else min(delay * 2, LAST_DELAY_SECONDS)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            if not self.available:
                self._stale.set()

    async def _refresh(self) -> None:
        try:
            view = await asyncio.wait_for(self._address.look(), self._timeout)
            await self._adopt(view)
        except StoreUnavailable as error:
            self._unknown(error.evidence)
        except asyncio.TimeoutError:
            self._unknown("no answer in time")
        except Exception as error:  # a fault of ours must not end the loop that heals
            log.exception("Looking at the Redis cluster failed in an unexpected way")
            self._unknown(type(error).__name__)

    def _unknown(self, reason: str) -> None:
        if reason != self.reason and not self.available:  # once, not at every attempt
            log.warning("The Redis cluster cannot be used: %s", reason)
        self.reason = reason

    async def _adopt(self, view: View) -> None:
        there = {where for _, _, where in view.ranges}
        for where in there - self._nodes.keys():
            self._new_node(where)
        if self._tried:
            for first, last, where in sorted(view.ranges, key=lambda r: r[1] - r[0]):
                self._nodes[where].tried_as = tag_between(first, last)  # of its widest range
        known = dict(self._nodes)
        await asyncio.gather(*(node.connect() for node in known.values()))
        owners: list[RedisStore | None] = [None] * SLOTS
        for first, last, where in view.ranges:
            owners[first : last + 1] = [self._nodes[where]] * (last + 1 - first)
        self._owners = owners
        self._masters = frozenset(self._nodes[where] for where in there)
        self._whole = view.up and None not in owners
        self.reason = "" if self._whole else "cluster: down, or a slot is without a node"
        # A node without slots is kept while it answers: slots may be migrating to it.
        gone = {at for at, node in known.items() if at not in there and not node.available}
        await asyncio.gather(*(self._nodes.pop(at).close() for at in gone))
        self._check_nodes()

    def _new_node(self, where: Place) -> RedisStore:
        node = self._nodes[where] = RedisStore(
            self._address.at(where),
            timeout=self._timeout,
            on_change=self._node_changed,
            max_groups=self._limits[0],
            max_bytes=self._limits[1],
        )
        return node

    def _node_changed(self, available: bool) -> None:
        if not available:
            self._stale.set()
        self._check_nodes()

    def _check_nodes(self) -> None:
        available = (
            self._whole and not self._closed and all(node.available for node in self._masters)
        )
        if available == self.available:
            return
        self.available = available
        if available:
            log.info("The Redis cluster answers: %d nodes have all slots", len(self._masters))
        elif not self._closed:
            log.warning("The Redis cluster is incomplete, the database is used meanwhile")
        if self._on_change is not None:
            try:
                self._on_change(available)
            except Exception:  # an error of the listener must not stop the store
                log.exception("A listener to the store's availability failed")
