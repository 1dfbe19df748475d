"""The dispatcher of a node: takes over from the dead, gives back at a stop, shares its places."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from services.errors import DatabaseUnavailable
from services.event_loop.tasks import end_tasks
from services.metrics import Metrics
from services.outbox import SocketJoinedEvent
from services.webhooks import deliveries, records
from services.webhooks.dispatcher import (
    PLACES,
    PLACES_OF_FAILING,
    PLACES_OF_ONE,
    SLOW_SECONDS,
    Dispatcher,
)
from services.webhooks.sender import Sender
from services.webhooks.socket_events import MAX_WAITING, SocketEvents
from tests.support.parts import Parts, node
from tests.support.redis import until
from tests.support.server import PATIENCE
from tests.support.webhook_receiver import WebhookReceiver, webhook_receiver

CLAIM_SECONDS = 1.0


class Ticks:
    """A monotonic clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Looking(Dispatcher):
    """One that counts how often it has looked."""

    looks = 0

    async def step(self) -> None:
        await super().step()
        self.looks += 1

    async def looked(self) -> None:
        """Wake it, and wait until it has looked: one look may be under way already."""
        looks = self.looks
        self.wake()
        await until(lambda: self.looks > looks + 1)


@asynccontextmanager
async def dispatching(
    parts: Parts, monotonic: Callable[[], float] = time.monotonic
) -> AsyncIterator[Looking]:
    """A dispatcher at work."""
    one = Looking(
        parts.database,
        parts.services.webhooks.webhooks,
        lambda places: Sender(True, places, seconds=PATIENCE),
        Metrics(),
        parts.clock,
        CLAIM_SECONDS,
        monotonic,
    )

    async def go_on() -> None:
        while True:
            await one.step()

    task = asyncio.ensure_future(go_on())
    try:
        yield one
    finally:
        await end_tasks(task)
        await one.close()


async def hook(parts: Parts, receiver: WebhookReceiver) -> str:
    webhooks = parts.services.webhooks.webhooks
    private = type(webhooks)(parts.database, parts.services.encryption, True)
    row, _ = await private.create(receiver.url, ["user.created"], "me")
    return row.id


async def enqueue(parts: Parts, webhook_id: str, subject: str) -> None:
    now = parts.clock()
    await parts.database.run(records.enqueue, webhook_id, "user.created", subject, "{}", now)


async def states(parts: Parts, webhook_id: str) -> list[str]:
    rows = await parts.database.run(records.page, webhook_id, None, 100, "")
    return [row.state for row in rows]


@pytest.mark.gen_test
async def test_a_claim_that_does_not_move_is_taken_over_by_the_monotonic_clock(
    database_url: str,
) -> None:
    with webhook_receiver() as receiver:
        async with node(database_url) as parts:
            id_ = await hook(parts, receiver)
            await enqueue(parts, id_, "a")
            # A node claims it, and dies.
            await parts.database.run(deliveries.claim, {id_: 1}, parts.clock(), "of the dead")
            ticks = Ticks()
            async with dispatching(parts, ticks) as one:
                await one.looked()
                parts.clock.forward(10**6)  # what the wall clock says does not matter
                await one.looked()
                await asyncio.sleep(0.3)
                assert not receiver.received
                for _ in range(3):  # it is seen, it is too old, it is claimed anew
                    ticks.now += 2.5
                    await one.looked()
                await until(lambda: receiver.received)
                await until(lambda: not one._tasks)
            assert await states(parts, id_) == ["delivered"]


@pytest.mark.gen_test
async def test_a_stop_gives_back_what_has_not_ended(database_url: str) -> None:
    with webhook_receiver() as receiver:
        receiver.answer = receiver.hang
        async with node(database_url) as parts:
            id_ = await hook(parts, receiver)
            await enqueue(parts, id_, "a")
            async with dispatching(parts) as one:
                one.wake()
                await until(lambda: receiver.received)
                assert await parts.database.run(deliveries.claims)
            assert await parts.database.run(deliveries.claims) == {}
            assert await states(parts, id_) == ["pending"]


@pytest.mark.gen_test
async def test_each_webhook_has_its_share_of_the_places(database_url: str) -> None:
    with webhook_receiver() as dead, webhook_receiver() as good:
        dead.answer = dead.hang
        async with node(database_url) as parts:
            one_dead, one_good = await hook(parts, dead), await hook(parts, good)
            for n in range(3 * PLACES):
                await enqueue(parts, one_dead, f"s{n}")
            async with dispatching(parts) as one:
                one.wake()
                await until(lambda: len(dead.received) == PLACES_OF_ONE)
                for n in range(20):
                    await enqueue(parts, one_good, f"s{n}")
                one.wake()
                await until(lambda: len(good.received) == 20)
                assert len(dead.received) == PLACES_OF_ONE


@pytest.mark.gen_test
async def test_those_that_fail_leave_half_of_the_places_to_the_others(database_url: str) -> None:
    with webhook_receiver() as receiver:
        async with node(database_url) as parts:
            failing = [await hook(parts, receiver) for _ in range(PLACES)]
            good = await hook(parts, receiver)
            one = parts.services.webhooks.dispatcher
            one._receivers = await parts.services.webhooks.webhooks.receivers()
            one._failing = set(failing)
            places = one._free_places()
            assert places[good] == PLACES_OF_ONE
            assert sum(places[id_] for id_ in failing if id_ in places) == PLACES_OF_FAILING
            assert max(places[id_] for id_ in failing if id_ in places) == 1


@pytest.mark.gen_test
async def test_one_that_answers_late_has_one_place_until_it_answers_in_time(
    database_url: str,
) -> None:
    ticks = Ticks()
    with webhook_receiver() as receiver:
        async with node(database_url) as parts:
            id_ = await hook(parts, receiver)
            async with dispatching(parts, ticks) as one:

                async def delivered(seconds: float) -> int:
                    """Has one delivered in so many seconds. Returns the places it has then."""
                    before = len(receiver.received)

                    def answer(*_: object) -> int:
                        ticks.now += seconds
                        return 204

                    receiver.answer = answer
                    await enqueue(parts, id_, f"s{before}")
                    one.look_again()
                    await until(lambda: len(receiver.received) > before and not one._tasks)
                    return one._free_places()[id_]

                assert await delivered(SLOW_SECONDS) == 1
                assert await delivered(0.1) == PLACES_OF_ONE
            assert await states(parts, id_) == ["delivered"] * 2


def joined(n: int) -> SocketJoinedEvent:
    return SocketJoinedEvent("u", "a session", f"socket {n}", 1.0)


# ---- events of sockets ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.gen_test
async def test_socket_events_are_bounded_and_wait_for_the_database(database_url: str) -> None:
    async with node(database_url) as parts:
        webhooks = parts.services.webhooks
        row, _ = await webhooks.webhooks.create("https://example.com/", ["socket.joined"], "me")
        metrics = Metrics()
        events = SocketEvents(parts.database, webhooks.outbox, metrics, frozenset)
        for types, wanted in ((("user.created",), False), (("user.created", "socket.left"), True)):
            events.want(frozenset(types))
            assert events.wanted is wanted
        for n in range(MAX_WAITING + 3):
            events.record("socket.joined", f"u{n % 7}", joined(n))
        dropped = metrics.registry.get_sample_value("usher_webhook_dropped_total")
        assert dropped == 3
        await events.write()
        counted = await parts.database.run(records.count_pending, [row.id])
        assert counted == {row.id: MAX_WAITING}
        full = SocketEvents(parts.database, webhooks.outbox, metrics, lambda: frozenset((row.id,)))
        full.record("socket.joined", "u", joined(0))
        await full.write()
        assert await parts.database.run(records.count_pending, [row.id]) == counted
        await parts.database.close()
        events.record("socket.joined", "u", joined(0))
        with pytest.raises(DatabaseUnavailable):
            await events.write()
        assert len(events._waiting) == 1
