"""Rows of deliveries: who may deliver what, when it is tried again, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from models.webhook import WebhookDelivery as D
from services.composition.upkeep import Upkeep
from services.errors import Conflict, NotFound
from services.providers.key_rotation import rotate_keys
from services.storage.encryption import Encryption, generate_key
from services.webhooks import deliveries, records
from services.webhooks.deliveries import (
    DELAYS,
    GIVE_UP_SECONDS,
    LATER_SECONDS,
    LEAST_ATTEMPTS,
    SOON_SECONDS,
    Claimed,
    Outcome,
)
from services.webhooks.webhooks import MAX_WEBHOOKS, TooManyWebhooks
from tests.support.parts import Parts, node

BAD, GOOD = Outcome(500, "status"), Outcome(204)


@asynccontextmanager
async def waiting(database_url: str, *subjects: str) -> AsyncIterator[Parts]:
    """A node with a delivery for webhook "w" per subject, in this order."""
    async with node(database_url) as parts:
        for subject in subjects:
            await enqueue(parts, subject)
        yield parts


async def enqueue(
    parts: Parts, subject: str, webhook: str = "w", type_: str = "user.changed"
) -> int:
    now = parts.clock()
    row = await parts.database.run(records.enqueue, webhook, type_, subject, "{}", now)
    return int(row.id)


async def claim(
    parts: Parts, most: int = 100, token: str = "t", webhook: str = "w"
) -> list[Claimed]:
    claimed, _ = await parts.database.run(deliveries.claim, {webhook: most}, parts.clock(), token)
    return claimed


async def finish(parts: Parts, one: Claimed, outcome: Outcome) -> str | None:
    return await parts.database.run(deliveries.finish, one, outcome, parts.clock())


def subjects(claimed: list[Claimed]) -> list[str]:
    return [one.subject for one in claimed]


async def rows(parts: Parts, webhook: str = "w") -> list[records.DeliveryRow]:
    found = await parts.database.run(records.page, webhook, None, 100, "")
    return found[::-1]


@pytest.mark.gen_test
async def test_the_first_of_each_subject_may_go_and_the_next_when_it_is_done(
    database_url: str,
) -> None:
    async with waiting(database_url, "a", "a", "b", "a", "b") as parts:
        first = await claim(parts)
        assert [one.id for one in first] == [1, 3]
        assert await claim(parts) == []
        assert await finish(parts, first[0], GOOD) == "delivered"
        second = await claim(parts)
        assert [one.id for one in second] == [2]
        assert await finish(parts, first[1], GOOD) == "delivered"
        assert await finish(parts, second[0], GOOD) == "delivered"
        assert [one.id for one in await claim(parts)] == [4, 5]


@pytest.mark.gen_test
async def test_a_failure_holds_back_its_subject_and_no_other(database_url: str) -> None:
    async with waiting(database_url, "a", "a", "b", "b") as parts:
        a, b = await claim(parts)
        assert await finish(parts, a, BAD) == "pending"
        assert await finish(parts, b, GOOD) == "delivered"
        assert subjects(await claim(parts)) == ["b"]
        parts.clock.forward(DELAYS[0])
        (again,) = await claim(parts)
        assert (again.id, again.attempts) == (a.id, 1)
        assert await finish(parts, again, GOOD) == "delivered"
        assert [one.id for one in await claim(parts)] == [2]


@pytest.mark.gen_test
async def test_one_subject_of_two_webhooks_waits_for_its_own(database_url: str) -> None:
    async with waiting(database_url, "a") as parts:
        await enqueue(parts, "a", "v")
        (mine,) = await claim(parts)
        await finish(parts, mine, BAD)
        assert subjects(await claim(parts, webhook="v")) == ["a"]


@pytest.mark.gen_test
async def test_retries_double_for_24_hours_and_then_it_has_failed(database_url: str) -> None:
    assert DELAYS[:6] == (1, 5, 30, 60, 120, 240)
    assert sum(DELAYS) == GIVE_UP_SECONDS
    async with waiting(database_url, "a", "a") as parts:
        for attempt, delay in enumerate(DELAYS):
            (one,) = await claim(parts)
            assert (one.id, one.attempts) == (1, attempt)
            assert await finish(parts, one, BAD) == "pending"
            parts.clock.forward(delay - 0.001)
            assert await claim(parts) == []
            parts.clock.forward(0.001)
        (one,) = await claim(parts)
        assert await finish(parts, one, BAD) == "failed"
        first, second = await rows(parts)
        assert (first.state, first.attempts, first.next_attempt_at) == (
            "failed",
            len(DELAYS) + 1,
            None,
        )
        assert (first.status, first.error) == (500, "status")
        # The next has waited all that time, and has a few attempts of its own.
        states = []
        for delay in DELAYS[:LEAST_ATTEMPTS]:
            (one,) = await claim(parts)
            assert one.id == int(second.id)
            states.append(await finish(parts, one, BAD))
            parts.clock.forward(delay)
        assert states == ["pending"] * (LEAST_ATTEMPTS - 1) + ["failed"]


@pytest.mark.gen_test
async def test_what_waits_behind_others_hides_nothing_that_is_due(database_url: str) -> None:
    async with waiting(database_url, *["a"] * (3 * deliveries.CANDIDATES), "b") as parts:
        (a,) = await claim(parts)
        await finish(parts, a, BAD)
        found: list[str] = []
        for _ in range(4):
            found += subjects(await claim(parts))
        assert found == ["b"]
        # However long nobody tells the others that the first is done, they are looked at again.
        parts.clock.forward(LATER_SECONDS + 1)
        assert subjects(await claim(parts)) == ["a"]


@pytest.mark.gen_test
async def test_two_nodes_never_have_the_same_in_hand(database_url: str) -> None:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        for n in range(40):
            await enqueue(here, f"s{n % 8}")
        both, done = (here, there), list[Claimed]()
        under_way: set[tuple[str, str]] = set()
        for round_ in range(12):
            claimed = await asyncio.gather(*(claim(both[n], 4, f"{round_}.{n}") for n in (0, 1)))
            for one in [*claimed[0], *claimed[1]]:
                assert (one.webhook_id, one.subject) not in under_way
                under_way.add((one.webhook_id, one.subject))
                done.append(one)
            for part, its in zip(both, claimed, strict=True):
                for one in its:
                    assert await finish(part, one, GOOD) == "delivered"
            under_way.clear()
        assert len({one.id for one in done}) == len(done) == 40
        for n in range(8):
            mine = [one.id for one in done if one.subject == f"s{n}"]
            assert mine == sorted(mine)


@pytest.mark.gen_test
async def test_an_attempt_whose_claim_was_taken_away_counts_no_more(database_url: str) -> None:
    async with waiting(database_url, "a") as parts:
        (late,) = await claim(parts, token="late")
        there = await parts.database.run(deliveries.claims)
        assert there == {late.id: "late"}
        assert await parts.database.run(deliveries.release, {late.id: "another"}) == 0
        assert await parts.database.run(deliveries.release, there) == 1
        (now,) = await claim(parts, token="now")
        assert await finish(parts, late, BAD) is None
        assert await finish(parts, now, GOOD) == "delivered"
        assert await finish(parts, late, GOOD) is None


@pytest.mark.gen_test
async def test_a_clock_that_is_set_back_makes_nothing_wait(database_url: str) -> None:
    async with waiting(database_url, "a", "b", "b") as parts:
        a, b = await claim(parts)
        await finish(parts, a, BAD)
        await claim(parts)
        parts.clock.forward(-100_000.0)
        assert await claim(parts) == []
        run = parts.database.run
        assert await run(deliveries.heal_times, ["w"], parts.clock()) == 2
        assert subjects(await claim(parts)) == ["a"]
        await finish(parts, b, GOOD)
        assert subjects(await claim(parts)) == ["b"]


@pytest.mark.gen_test
async def test_what_waits_its_turn_is_not_taken_for_a_fault_of_the_clock(database_url: str) -> None:
    async with waiting(database_url, "a", "a") as parts:
        for delay in DELAYS[:9]:
            (one,) = await claim(parts)
            await finish(parts, one, BAD)
            assert await claim(parts) == []
            assert not await parts.database.run(deliveries.heal_times, ["w"], parts.clock())
            parts.clock.forward(delay)
            if delay > SOON_SECONDS:
                assert not await parts.database.run(deliveries.heal_times, ["w"], parts.clock())


@pytest.mark.gen_test
async def test_what_is_done_is_kept_for_a_while_and_what_waits_for_ever(database_url: str) -> None:
    async with waiting(database_url, "a", "a", "b") as parts:
        a, _ = await claim(parts)
        await finish(parts, a, GOOD)
        keep = Upkeep(parts.database, parts.clock, keep_deliveries=100.0).purge
        parts.clock.forward(99.0)
        await keep()
        assert len(await rows(parts)) == 3
        parts.clock.forward(2.0)
        await keep()
        assert [row.id for row in await rows(parts)] == ["2", "3"]


# ---- webhooks ------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_deleted_webhook_gets_no_more_events_and_its_rows_are_deleted(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        hooks = parts.services.webhooks.webhooks
        row, _ = await hooks.create("https://example.com/", ["user.created"], "me")
        await enqueue(parts, "a", row.id)
        await hooks.delete(row.id)
        for gone in (hooks.delete(row.id), hooks.page(row.id, None, 1), hooks.test(row.id)):
            with pytest.raises(NotFound):
                await gone
        assert await hooks.all() == []
        assert await hooks.receivers() == {}

        def left(db: peewee.Database) -> int:
            return int(D.select().count(db))

        await Upkeep(parts.database, parts.clock).purge()
        assert await parts.database.run(left) == 0


@pytest.mark.gen_test
async def test_the_secret_lies_encrypted_and_without_its_key_nothing_is_sent(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        hooks = parts.services.webhooks.webhooks
        row, secret = await hooks.create("https://example.com/", ["user.created"], "me")
        text = secret.reveal()
        assert text.startswith("whsec_")
        (receiver,) = (await hooks.receivers()).values()
        assert receiver.secret is not None
        assert receiver.secret.reveal() == text

        def stored(db: peewee.Database) -> Any:
            return db.execute_sql("SELECT secret FROM webhooks").fetchone()[0]

        ciphertext = await parts.database.run(stored)
        assert text.removeprefix("whsec_") not in ciphertext
        parts.services.encryption.replace_keys([generate_key()])
        (receiver,) = (await hooks.receivers()).values()
        assert receiver.secret is None
        assert row.id in await hooks.receivers()


@pytest.mark.gen_test
async def test_a_rotation_of_keys_re_encrypts_the_secret_with_the_newest(database_url: str) -> None:
    async with node(database_url) as parts:
        hooks, new = parts.services.webhooks.webhooks, generate_key()
        _, secret = await hooks.create("https://example.com/", ["user.created"], "me")
        gone, _ = await hooks.create("https://example.com/", ["user.created"], "me")
        await hooks.delete(gone.id)
        old = parts.services.infrastructure.settings.encryption_keys
        done = await rotate_keys(parts.database, Encryption((new, *old)))
        assert done.unreadable == 0
        parts.services.encryption.replace_keys([new])
        (receiver,) = (await hooks.receivers()).values()
        assert receiver.secret is not None
        assert receiver.secret.reveal() == secret.reveal()


@pytest.mark.gen_test
async def test_there_are_so_many_webhooks(database_url: str) -> None:
    async with node(database_url) as parts:
        create = parts.services.webhooks.webhooks.create
        for _ in range(MAX_WEBHOOKS):
            await create("https://example.com/", ["user.created"], "me")
        with pytest.raises(TooManyWebhooks):
            await create("https://example.com/", ["user.created"], "me")


@pytest.mark.gen_test
async def test_a_replay_follows_pending_events_with_the_same_event_id(database_url: str) -> None:
    async with node(database_url) as parts:
        hooks = parts.services.webhooks.webhooks
        row, _ = await hooks.create("https://example.com/", ["user.created"], "me")
        first, second = await enqueue(parts, "a", row.id), await enqueue(parts, "a", row.id)
        with pytest.raises(Conflict):
            await hooks.replay(row.id, first)
        (one,) = await claim(parts, webhook=row.id)
        await finish(parts, one, GOOD)
        again = await hooks.replay(row.id, first)
        assert again.event_id == one.event_id
        (next_,) = await claim(parts, webhook=row.id)
        assert next_.id == second
        await finish(parts, next_, GOOD)
        (last,) = await claim(parts, webhook=row.id)
        assert (str(last.id), last.event_id) == (again.id, one.event_id)
        for wrong in (10**17, 10**18 - 1):
            with pytest.raises(NotFound):
                await hooks.replay(row.id, wrong)
