"""The store in Redis, through one multiplexed and pipelined connection.

A pool with one await per command was the largest cost of a join (docs/performance.md). Here all
commands of one loop tick leave in one write, replies are matched in order, and one future stands
for a whole group: about 10 µs of CPU for four commands.

This module holds what the services use: availability, calls, and reconnecting in the background.
link.py is one connection. The address that it connects to is one server (address.py) or the master
that sentinels name (sentinel.py), looked up for every connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from services.errors import StoreUnavailable
from services.event_loop.tasks import end_tasks
from services.redis.address import Address
from services.redis.cluster import ClusterAddress
from services.redis.epoch import epoch_of
from services.redis.forms import address_of
from services.redis.link import (
    ELSEWHERE,
    PING,
    REFUSALS,
    Group,
    RedisLink,
    failed,
    redis_error_word,
)
from services.redis.memory_use import USABLE, MemoryUse, ask_memory
from services.redis.store import Command, Then
from services.redis.trial import trial, write_probe
from services.secret import Secret

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.05, 1.0
"""Back-off between attempts. Its end is short, so that recovery is quick; the jitter keeps the
nodes of an installation from coming back in step."""

FULL = "OOM"
"""The error word of a server that has used all the memory that it may use."""

MAX_GROUPS, MAX_BYTES = 100_000, 32 * 1024 * 1024
"""What may wait for replies: far above a second's full load, far below what would hurt."""


class RedisStore:
    """`Store` in one Redis (or Valkey) server, or in the master of a sentinel set.

    Args:
        where: a redis://, rediss:// or unix:// URL, with user, password, database number and
            `ssl_*` options as redis-py takes them; other options are not used. Or a
            redis+sentinel:// URL (redis_url.py), or an address. For a cluster: ClusterStore.
        timeout: seconds that a reply, or a whole attempt to connect, may take. One late reply
            closes the link, because all replies after it are late as well.
        tried_as: a hash tag. Every connection is tested with all commands that Usher needs,
            including writes, before it is used and periodically after that. It is closed if one
            is refused with READONLY, OOM, NOPERM or another word of `REFUSALS`. If empty, only
            PING is sent.
        on_change: called with `available` whenever it changes, within the loop.
        max_groups, max_bytes: how much may be pending at one time.

    Raises:
        ValueError: the URL, or a certificate file it names, cannot be used. The text never
            quotes the URL, because it may hold a password.
    """

    kind = "redis"

    def __init__(
        self,
        where: Secret | str | Address,
        *,
        timeout: float = 1.0,
        tried_as: str = "",
        on_change: Callable[[bool], None] | None = None,
        max_groups: int = MAX_GROUPS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        address = address_of(where) if isinstance(where, Secret | str) else where
        if isinstance(address, ClusterAddress):
            raise ValueError("one link is not enough for a cluster")  # noqa: TRY004 - the URL's
        self._address: Address = address
        self._timeout, self.tried_as = timeout, tried_as
        self._on_moved: Callable[[], None] | None = None
        self._refused = False
        self._memory = MemoryUse()
        self._on_change = on_change
        self._limits = max_groups, max_bytes
        self._link: RedisLink | None = None
        self._epoch: str | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False
        self.reason = "not connected yet"

    @property
    def available(self) -> bool:
        return self._link is not None

    def epoch(self, _key: str = "") -> str | None:
        """See `Store.epoch`."""
        return self._epoch if self._link is not None else None

    def call(self, *commands: Command) -> asyncio.Future[list[Any]]:
        """See `Store.call`."""
        link = self._link
        if link is None:
            return failed(asyncio.get_running_loop().create_future(), self.reason)
        return link.send(commands)

    def tell(self, *commands: Command, then: Then | None = None) -> None:
        """See `Store.tell`."""
        link = self._link
        if link is not None:
            link.tell(commands, then)
        elif then is not None:
            then(None)

    @property
    def nearly_full(self) -> bool:
        return self._memory.nearly_full

    @property
    def memory_share(self) -> float:
        return self._memory.share

    def look_at_memory(self) -> None:
        """See `Store.look_at_memory`."""
        if self._link is not None:
            ask_memory(self._link, self._memory.read)

    def refused(self, evidence: str) -> None:
        """Handle an error reply to a group that was issued with `issue`."""
        if self._link is not None:
            self._link.refused(evidence)

    def issue(self, group: Group, payload: bytes) -> None:
        """Like `call`, for a group that handles error replies itself."""
        if self._link is None:
            group.fail(self.reason)
        else:
            self._link.issue(group, payload)

    async def connect(self) -> None:
        """Connect once, then keep the link connected in the background until `close()`. Never
        raises."""
        if self._keeper is None and not self._closed:
            await self._attempt()
            self._keeper = asyncio.create_task(self._keep(), name="redis-keeper")

    async def close(self) -> None:
        self._closed = True
        await end_tasks(self._keeper)
        if (link := self._link) is not None:
            link.lose("closed")
            await link.ended

    async def _keep(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self._closed:
            if self._link is not None:
                since = asyncio.get_running_loop().time()
                await self._lost.wait()
                # If the link was lost at once, the back-off continues.
                if asyncio.get_running_loop().time() - since > LAST_DELAY_SECONDS:
                    delay = FIRST_DELAY_SECONDS
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            delay = min(delay * 2, LAST_DELAY_SECONDS)
            await self._attempt()

    async def _attempt(self) -> None:
        link = RedisLink(
            asyncio.get_running_loop(),
            self._timeout,
            self._limits,
            self._on_lost,
            self._address.lost_by | (REFUSALS if self.tried_as else frozenset()),
        )
        try:
            await asyncio.wait_for(self._open(link), self._timeout)
        except StoreUnavailable as error:
            self._unreachable(link, error.evidence)
        except asyncio.TimeoutError:
            self._unreachable(link, "no answer in time")
        except OSError as error:  # ssl.SSLError is one too
            self._unreachable(link, error.strerror or type(error).__name__)
        except Exception as error:  # a bug must not end the loop that reconnects
            log.exception("Connecting to Redis failed in an unexpected way")
            self._unreachable(link, type(error).__name__)
        except asyncio.CancelledError:
            link.lose("closed")
            raise

    async def _open(self, link: RedisLink) -> None:
        await self._address.connect(link)
        await link.send(self._address.greeting)
        if self.tried_as:
            await self._try(link)
        if redis_error_word(self.reason) == FULL:
            await self._check_room(link)
        epoch = await epoch_of(link)
        if not link.alive or self._closed:
            raise StoreUnavailable("redis: lost while connecting")
        self._lost.clear()
        self._link, self._epoch = link, epoch
        self.reason = ""
        link.watch(write_probe(self.tried_as) if self.tried_as else PING)
        if epoch is None:
            log.warning(
                "Redis does not say which server it is (INFO is refused): tickets lie in "
                "the database, and a user with +info would have them in Redis"
            )
        log.info("Redis answers")
        self._report_availability(True)
        if self._refused and self._on_moved is not None:
            self._refused = False
            self._on_moved()

    async def _try(self, link: RedisLink) -> None:
        try:
            await link.send(trial(self.tried_as))
        except StoreUnavailable as error:
            if redis_error_word(error.evidence) not in ELSEWHERE:
                raise

    async def _check_room(self, link: RedisLink) -> None:
        told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(info: bytes) -> None:
            if not told.done():
                told.set_result(info)

        ask_memory(link, take)
        self._memory.read(await told)
        if self._memory.share > USABLE:
            raise StoreUnavailable(f"memory: {FULL}")

    def on_moved(self, act: Callable[[], None]) -> None:
        """Call `act` when commands work again after they were refused, for example with READONLY:
        the same name may now lead to another server. A server that was full is the same."""
        self._on_moved = act

    def _note_refusal(self, reason: str) -> None:
        word = redis_error_word(reason)
        self._refused |= word in REFUSALS and word != FULL

    def _unreachable(self, link: RedisLink, reason: str) -> None:
        link.lose(reason)
        # Logged once, not at every attempt; "SET: OOM" after "EVAL: OOM" is the same reason.
        refused = redis_error_word(reason) in REFUSALS and redis_error_word(
            reason
        ) == redis_error_word(self.reason)
        if reason != self.reason and not refused:
            log.warning("Redis cannot be used: %s", _explained(reason))
        self._note_refusal(reason)
        self.reason = reason

    def _on_lost(self, link: RedisLink, reason: str) -> None:
        # Runs before the pending groups fail, so that their callers see the new state.
        if link is self._link:
            self._link = None
            self.reason = reason
            self._note_refusal(reason)
            self._lost.set()
            if not self._closed:
                explained = _explained(reason)
                log.warning("Redis is lost, the database is used meanwhile: %s", explained)
            self._report_availability(False)

    def _report_availability(self, available: bool) -> None:
        if self._on_change is not None:
            try:
                self._on_change(available)
            except Exception:  # an error of the listener must not close the link
                log.exception("A listener to the store's availability failed")


def _explained(reason: str) -> str:
    if redis_error_word(reason) != FULL:
        return reason
    return f"{reason} (Redis is full: it has used its maxmemory)"
