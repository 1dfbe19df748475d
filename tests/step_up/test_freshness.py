"""How long an authentication counts as recent, whatever clocks do."""

from __future__ import annotations

import pytest

from services.claims import Claims
from services.step_up.freshness import CLOCK_SKEW_SECONDS, Freshness
from services.storage.database import Database
from tests.support.databases import opened
from tests.support.parts import Clock

SECONDS = 900.0


def claims(auth_time: float) -> Claims:
    return Claims("u", "s", "j", auth_time, auth_time + 900, "user", auth_time)


async def started(database: Database, clock: Clock) -> Freshness:
    """As a node that starts with this clock."""
    freshness = Freshness(database, SECONDS, clock)
    await freshness.tick()
    return freshness


@pytest.mark.gen_test
async def test_a_proof_counts_until_its_seconds_have_ended_and_not_a_moment_longer(
    database_url: str,
) -> None:
    async with opened(database_url) as database:
        clock = Clock()
        freshness = await started(database, clock)
        proof = claims(clock())
        assert freshness.is_fresh(proof, 0)
        clock.forward(SECONDS - 0.001)
        assert freshness.is_fresh(proof, 0)
        clock.forward(0.001)
        assert not freshness.is_fresh(proof, 0)


@pytest.mark.gen_test
async def test_a_proof_from_the_future_does_not_count(database_url: str) -> None:
    async with opened(database_url) as database:
        clock = Clock()
        freshness = await started(database, clock)
        assert freshness.is_fresh(claims(clock() + CLOCK_SKEW_SECONDS), 0), "another node's clock"
        assert not freshness.is_fresh(claims(clock() + CLOCK_SKEW_SECONDS + 0.001), 0)


@pytest.mark.gen_test
async def test_a_restart_with_a_clock_that_was_set_back_ends_all_proofs(database_url: str) -> None:
    async with opened(database_url) as database:
        clock = Clock()
        before = await started(database, clock)
        proof = claims(clock())
        clock.forward(2 * SECONDS)
        await before.tick()
        assert not before.is_fresh(proof, before.epoch)
        clock.now = proof.auth_time + 1
        after = await started(database, clock)
        assert not after.is_fresh(proof, 0), "it was over before the clock was set back"
        assert after.epoch == 1
        assert after.is_fresh(claims(clock()), after.epoch), "a new one counts"
        await before.tick()
        assert before.epoch == 1, "the other nodes learn of it"


@pytest.mark.gen_test
async def test_a_restart_with_a_right_clock_ends_nothing(database_url: str) -> None:
    async with opened(database_url) as database:
        clock = Clock()
        await started(database, clock)
        proof = claims(clock())
        clock.forward(-CLOCK_SKEW_SECONDS)  # another node's clock, a little behind
        after = await started(database, clock)
        assert after.is_fresh(proof, 0)


@pytest.mark.gen_test
async def test_a_clock_that_was_far_ahead_for_a_while_is_forgotten(database_url: str) -> None:
    async with opened(database_url) as database:
        wrong, right = Clock(4e9), Clock()
        await started(database, wrong)
        assert (await started(database, right)).epoch == 1
        right.forward(10)
        assert (await started(database, right)).epoch == 1, "once, not at every start"
