"""Finds the master that a set of sentinels names.

The master is looked up for every connection, as the guidelines for Sentinel clients ask: query the
sentinels, connect, and let the server confirm that it is the master. redis-py's client is not used:
it asks one sentinel after the other, so one that is unreachable uses up the whole timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from services.errors import StoreUnavailable
from services.redis.address import RedisAddress
from services.redis.query import Question, ask_all


class SentinelAddress:
    """`Address` of the current master.

    Args:
        sentinels: the addresses of the sentinels.
        master_name: the name of the master in the sentinels' configuration.
        server: login, database and TLS of the Redis servers; its host is not used.
    """

    # The reply to every write on a master that was demoted while we were connected.
    lost_by = frozenset({"READONLY"})

    def __init__(
        self, sentinels: Sequence[RedisAddress], master_name: str, server: RedisAddress
    ) -> None:
        self._sentinels, self._name, self._server = sentinels, master_name, server
        self.greeting = server.greeting

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """See `Address.connect`."""
        host, port = await self._find()
        question = Question((*self._server.greeting, ("ROLE",)))
        try:
            await self._server.at(host, port).connect(question)
            role = (await question.answer())[-1]
            if role[0] != b"master":
                raise StoreUnavailable("sentinel: what it names is not the master (any more)")
            question.hand_over(protocol)
        except BaseException:  # also if cancelled: no caller owns the connection yet
            question.hang_up()
            raise

    async def _find(self) -> tuple[str, int]:
        answers = await ask_all(
            self._sentinels,
            ("SENTINEL", "MASTER", self._name),
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name),
        )
        # After a restart or a partition a sentinel still names the old master.
        views = [view for _, replies in answers if (view := _read(*replies)) is not None]
        if not views:
            raise StoreUnavailable("sentinel: the master is down, no other is chosen yet")
        return max(views)[1]


def _read(state: list[bytes], address: list[bytes] | None) -> tuple[int, tuple[str, int]] | None:
    """The epoch of a sentinel's view, and the master in it; None where there is none."""
    facts: dict[bytes, Any] = dict(zip(state[::2], state[1::2], strict=True))
    if address is None:
        return None
    host, port = address
    # During a fail-over, `address` may be the new master while `facts` describe the old one.
    same = (host, port) == (facts[b"ip"], facts[b"port"])
    down = {b"s_down", b"o_down"} & set(facts[b"flags"].split(b","))
    if same and down:
        return None
    return int(facts[b"config-epoch"]), (host.decode(), int(port))
