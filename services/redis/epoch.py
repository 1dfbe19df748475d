"""Identifies the data set of a Redis: a restart, fail-over or full resynchronisation changes it.

A server that restarts may have loaded an older snapshot, and a replica that is promoted may have
missed the last writes. A used value may be there again. So every single-use value carries the epoch
in which it was written and is invalid in any other.
"""

from __future__ import annotations

import asyncio
from typing import Any

from services.redis.link import Group, RedisLink, failed, packed
from services.redis.store import Command

_QUESTIONS: tuple[Command, ...] = (("INFO", "server"), ("INFO", "replication"))
_FACTS = ("run_id", "master_replid")
"""`run_id` is another in every process, `master_replid` whenever a replica became the master."""


class _Answers(Group):
    """Collects replies, including errors: the link is usable even if INFO is refused."""

    def __init__(self, future: asyncio.Future[list[Any]]) -> None:
        super().__init__(_QUESTIONS)
        self._future = future

    def take(self, replies: list[Any]) -> None:
        if not self._future.done():
            self._future.set_result(replies)

    def fail(self, reason: str) -> None:
        if not self._future.done():
            failed(self._future, reason)


async def epoch_of(link: RedisLink) -> str | None:
    """The epoch of the connected server; None if INFO is refused (it needs the ACL category
    @dangerous, or +info).

    Raises:
        StoreUnavailable: the link is lost.
    """
    future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    link.issue(_Answers(future), packed(_QUESTIONS))
    facts: dict[str, str] = {}
    for reply in await future:
        if isinstance(reply, bytes):
            lines = reply.decode("utf-8", "replace").splitlines()
            facts |= {name: value for name, _, value in (line.partition(":") for line in lines)}
    values = [facts.get(name, "") for name in _FACTS]
    return "/".join(values) if all(values) else None
