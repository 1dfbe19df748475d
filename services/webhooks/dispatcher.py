"""Delivers due events of all nodes, with a share of the concurrent attempts for each webhook.

A webhook whose last attempt failed or took long has one attempt at a time, and all such webhooks
together have half of the attempts. So a slow or unresponsive receiver does not delay the others.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from services.errors import UsherError
from services.event_loop.stale_claims import StaleClaims
from services.event_loop.steady_clock import SteadyClock
from services.metrics import Metrics
from services.storage.database import Database
from services.webhooks import deliveries, records
from services.webhooks.deliveries import CLAIM_SECONDS, Claimed, Outcome, State
from services.webhooks.sender import Sender
from services.webhooks.webhooks import Receiver, Webhooks

POLL_SECONDS = 1.0
EAGER_SECONDS = (0.02, 0.2)
"""After news of an event, which comes shortly before its commit."""
RECEIVERS_SECONDS = 1.0
"""How soon a node knows of a webhook that was made or deleted at another."""
WATCH_SECONDS = 2.0
COUNT_SECONDS = 15.0
PLACES = 32
"""Attempts under way on one node."""
PLACES_OF_ONE = 8
PLACES_OF_FAILING = PLACES // 2
SLOW_SECONDS = 4.0
"""An attempt that takes longer holds its place at the cost of others, whatever its outcome."""
STOP_SECONDS = 2.0
RECORD_TRIES = 3
MAX_PENDING_SOCKET_EVENTS = 20_000
"""Pending events of a webhook above which socket events are not written for it."""

log = logging.getLogger("usher.webhooks")


class Dispatcher:
    """Delivers events to webhooks.

    Args:
        make_sender: called once, on the event loop.
        claim_seconds: see `deliveries.CLAIM_SECONDS`.
        monotonic: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        database: Database,
        webhooks: Webhooks,
        make_sender: Callable[[int], Sender],
        metrics: Metrics,
        clock: Callable[[], float] | None = None,
        claim_seconds: float = CLAIM_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._webhooks, self._metrics = database, webhooks, metrics
        self._make_sender = make_sender
        self._clock = clock or SteadyClock()
        self._claims, self._monotonic = StaleClaims(claim_seconds, monotonic), monotonic
        self._sender: Sender | None = None
        self._receivers: dict[str, Receiver] = {}
        self._token = secrets.token_urlsafe(9)
        self._attempts = 0
        self._news = asyncio.Event()
        self._eager = list[float]()
        self._due = {"receivers": 0.0, "watch": 0.0, "count": 0.0}
        self._tasks: dict[asyncio.Task[None], Claimed] = {}
        self._under_way: Counter[str] = Counter()
        self._failing: set[str] = set()
        """Webhooks whose last attempt failed or took long."""
        self.full: frozenset[str] = frozenset()
        """Webhooks with too many pending events to receive socket events."""
        self._unreadable: set[str] = set()
        self._on_receivers: Callable[[frozenset[str]], None] = lambda _: None

    def on_receivers(self, act: Callable[[frozenset[str]], None]) -> None:
        """Call `act` with the event types that webhooks subscribe to, whenever they were read."""
        self._on_receivers = act

    def wake(self) -> None:
        """Signal that a delivery is due, or will be soon."""
        self._eager = list(EAGER_SECONDS)
        self._news.set()

    def look_again(self) -> None:
        """Signal that the webhooks were changed on this node."""
        self._due["receivers"] = 0.0
        self.wake()

    # ---- the loop --------------------------------------------------------------------------

    async def step(self) -> None:
        """Wait briefly for a signal, then start due deliveries.

        Raises:
            DatabaseUnavailable, Busy: retry later.
        """
        wait = self._eager.pop(0) if self._eager else POLL_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), wait)
        self._news.clear()
        # Runs in the lane of users, as one caller among them, so that deliveries delay no user.
        with self._database.callers.on_behalf_of("users", "webhooks"):
            await self._work()

    async def _work(self) -> None:
        if self._is_time("receivers", RECEIVERS_SECONDS):
            await self._read_receivers()
        if not self._receivers:
            return
        if self._is_time("watch", WATCH_SECONDS):
            await self._watch_claims()
        if self._is_time("count", COUNT_SECONDS):
            await self._count()
        places = self._free_places()
        now = self._clock()
        if not places or not await self._database.read(deliveries.is_any_due, list(places), now):
            return
        self._attempts += 1
        token = f"{self._token}.{self._attempts}"
        claimed, more = await self._database.run(deliveries.claim, places, now, token)
        for one in claimed:
            self._begin(one)
        if claimed or more:
            self.wake()

    def _is_time(self, what: str, seconds: float) -> bool:
        now = self._monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + seconds
        return True

    async def _read_receivers(self) -> None:
        self._receivers = await self._webhooks.receivers()
        unreadable = {id_ for id_, one in self._receivers.items() if one.secret is None}
        for webhook_id in unreadable - self._unreadable:
            log.error("webhook=%s waits: no encryption key fits its secret", webhook_id)
        self._unreadable = unreadable
        self._failing &= self._receivers.keys()
        self._on_receivers(frozenset(e for one in self._receivers.values() for e in one.events))

    def _free_places(self) -> dict[str, int]:
        """How many deliveries of each webhook may start now, in rotating order."""
        free = PLACES - sum(self._under_way.values())
        failing = PLACES_OF_FAILING - sum(self._under_way[id_] for id_ in self._failing)
        ids = [id_ for id_ in self._receivers if id_ not in self._unreadable]
        random.shuffle(ids)
        # Responsive webhooks first; failing ones share the rest. Among them, the one with the
        # fewest deliveries in progress.
        ids.sort(key=lambda id_: (id_ in self._failing, self._under_way[id_]))
        places: dict[str, int] = {}
        for id_ in ids:
            most = 1 if id_ in self._failing else PLACES_OF_ONE
            count = min(most - self._under_way[id_], free)
            if id_ in self._failing:
                count = min(count, failing)
                failing -= max(0, count)
            if count > 0:
                places[id_] = count
                free -= count
        return places

    # ---- attempts --------------------------------------------------------------------------

    def _begin(self, one: Claimed) -> None:
        self._under_way[one.webhook_id] += 1
        task = asyncio.get_running_loop().create_task(self._attempt(one))
        self._tasks[task] = one
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        one = self._tasks.pop(task)
        self._under_way[one.webhook_id] -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook=%s delivery=%s broke", one.webhook_id, one.id, exc_info=error)
        self.wake()

    async def _attempt(self, one: Claimed) -> None:
        receiver = self._receivers.get(one.webhook_id)
        if receiver is None or receiver.secret is None:  # deleted, or keys changed, meanwhile
            await self._database.run(deliveries.release, {one.id: one.claim})
            return
        if self._sender is None:
            self._sender = self._make_sender(PLACES)
        began = self._monotonic()
        outcome = await self._sender.send(receiver.url, receiver.secret, one)
        if outcome.error is None and self._monotonic() - began < SLOW_SECONDS:
            self._failing.discard(one.webhook_id)
        else:
            self._failing.add(one.webhook_id)
        await self._record(one, outcome)

    async def _record(self, one: Claimed, outcome: Outcome) -> None:
        try:
            state = await self._finish(one, outcome)
        except UsherError as error:
            # Its claim expires, and it is delivered again.
            log.warning("delivery=%s: outcome not noted: %s", one.id, error.evidence)
            return
        word = "overtaken" if state is None else "retried" if state == "pending" else state
        self._metrics.webhook_deliveries.labels(outcome=word).inc()
        if outcome.error is not None:
            log.info(
                "webhook=%s delivery=%s attempt %d: %s %s; %s",
                one.webhook_id,
                one.id,
                one.attempts + 1,
                outcome.error,
                outcome.status or "",
                word,
            )

    async def _finish(self, one: Claimed, outcome: Outcome) -> State | None:
        for _ in range(RECORD_TRIES - 1):
            try:
                return await self._database.run(deliveries.finish, one, outcome, self._clock())
            except UsherError:
                await asyncio.sleep(1.0)
        return await self._database.run(deliveries.finish, one, outcome, self._clock())

    # ---- watching --------------------------------------------------------------------------

    async def _watch_claims(self) -> None:
        """Remove claims that have not changed for too long."""
        mine = {one.id for one in self._tasks.values()}
        stale = self._claims.find(await self._database.read(deliveries.claims), mine)
        if stale:
            count = await self._database.run(deliveries.release, stale)
            log.warning("deliveries of a node that is gone are taken over: %d", count)

    async def _count(self) -> None:
        ids = list(self._receivers)
        counts = await self._database.read(records.count_pending, ids)
        self._metrics.webhook_pending.set(sum(counts.values()))
        self.full = frozenset(
            id_ for id_, count in counts.items() if count > MAX_PENDING_SOCKET_EVENTS
        )
        if await self._database.run(deliveries.heal_times, ids, self._clock()):
            log.warning("the clock was set back: deliveries that waited for it are due now")

    async def close(self) -> None:
        """Wait briefly for attempts in progress, and release the claims of the others."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=STOP_SECONDS)
        left = {one.id: one.claim for one in self._tasks.values()}
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if left:
            with suppress(UsherError, asyncio.TimeoutError):  # else they run out
                await asyncio.wait_for(self._database.run(deliveries.release, left), STOP_SECONDS)
        if self._sender is not None:
            self._sender.close()
