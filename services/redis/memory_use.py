"""How much of its memory a Redis uses: before it is full, room is left for what matters most.

A full Redis refuses every write. Revocations, sessions and tickets then go by the database, and
messages fail. Histories are what can fill it, so they stop growing before (bus_redis.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from services.redis.link import Group, RedisLink, packed
from services.redis.store import Command

FULL, EASED = 0.9, 0.85
"""Shares of `maxmemory` from which it is nearly full, and below which it is no longer."""
USABLE = 0.98
"""A Redis that was full is used again below this. At its very limit it would take the commands that
try it, and refuse the next."""
NO_EVICTION = "noeviction"

_QUESTION: tuple[Command, ...] = (("INFO", "memory"),)

log = logging.getLogger(__name__)


class _Asked(Group):
    __slots__ = ("_told",)

    def __init__(self, told: Callable[[bytes], None]) -> None:
        super().__init__(_QUESTION)
        self._told = told

    def take(self, replies: list[Any]) -> None:
        self._told(replies[0] if isinstance(replies[0], bytes) else b"")

    def fail(self, reason: str) -> None:
        self._told(b"")


def ask_memory(link: RedisLink, told: Callable[[bytes], None]) -> None:
    """Ask a server once. `told` gets the reply; empty if there is none, or INFO is refused."""
    link.issue(_Asked(told), packed(_QUESTION))


class MemoryUse:
    """What one server last said.

    Attributes:
        share: of `maxmemory`, from 0 up; 0.0 if it has none, or is not known.
        nearly_full: whether little is left.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self.nearly_full = False
        self._policy = ""

    def read(self, info: bytes) -> None:
        """Read the reply to `INFO memory`. An empty one changes nothing."""
        if not info:
            return
        lines = info.decode("utf-8", "replace").splitlines()
        said = {name: value for name, _, value in (line.partition(":") for line in lines)}
        most = _number(said.get("maxmemory"))
        # What the server itself does not count, such as the buffers of its replicas.
        used = _number(said.get("used_memory")) - _number(said.get("mem_not_counted_for_evict"))
        self.share = used / most if most else 0.0
        self._look(most)
        self._look_at_policy(said.get("maxmemory_policy", NO_EVICTION) if most else NO_EVICTION)

    def _look(self, most: int) -> None:
        is_now = self.share >= (EASED if self.nearly_full else FULL)
        if is_now == self.nearly_full:
            return
        self.nearly_full = is_now
        if is_now:
            log.warning(
                "Redis is nearly full: %d %% of its maxmemory of %d MiB are used. Messages are "
                "delivered, but histories do not grow until it is below %d %%",
                self.share * 100,
                most >> 20,
                EASED * 100,
            )
        else:
            log.info("Redis has memory again: histories may grow")

    def _look_at_policy(self, policy: str) -> None:
        if policy not in (self._policy, NO_EVICTION):
            log.warning(
                "Redis evicts keys when it is full, also revocations: maxmemory-policy is %s, and "
                "has to be noeviction",
                policy,
            )
        self._policy = policy


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
