"""Refresh tokens: lost responses, concurrent tabs, copies, and clocks that were set back."""

from __future__ import annotations

import pytest

from services.errors import Unauthenticated
from services.refresh.steps import (
    CLOCK_SKEW_SECONDS,
    GRACE_TICKS,
    REFRESH_GRACE_SECONDS,
    current_tick,
)
from services.sessions.session_views import SignedIn
from tests.support.parts import Parts, node, open_socket, session_row

LATER = REFRESH_GRACE_SECONDS + 1


async def refresh(parts: Parts, login: SignedIn) -> SignedIn:
    return await parts.refresh.rotation.refresh(login.refresh_token.reveal())


async def go_on(parts: Parts, each: list[SignedIn]) -> None:
    """Two holders use what they have, in turns."""
    for turn in range(6):
        parts.clock.forward(LATER)
        each[turn % 2] = await refresh(parts, each[turn % 2])


async def ends_the_session(parts: Parts, copied: SignedIn) -> None:
    """The token is refused, and its session is over for whoever has it."""
    with pytest.raises(Unauthenticated):
        await refresh(parts, copied)
    row = await parts.database.run(session_row, copied.claims.sid)
    assert row["end_reason"] == "refresh_reuse"


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.gen_test
async def test_a_lost_response_ends_no_session_however_late_the_retry(
    database_url: str, times: int
) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        for _ in range(times):
            await refresh(parts, login)  # the answer is lost
            parts.clock.forward(300)
        arrived = await refresh(parts, login)
        parts.clock.forward(300)
        assert (await refresh(parts, arrived)).claims.sid == login.claims.sid


@pytest.mark.gen_test
async def test_it_works_until_the_newest_has_been_used_once(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        newer = await refresh(parts, login)
        peer = await open_socket(parts, newer)
        parts.clock.forward(LATER)
        newest = await refresh(parts, newer)
        parts.clock.forward(LATER)
        await ends_the_session(parts, login)
        assert await peer.close_code() == 4410
        with pytest.raises(Unauthenticated):
            await refresh(parts, newest)


@pytest.mark.parametrize("late", [0.0, LATER])
@pytest.mark.parametrize("first", ["thief", "owner"])
@pytest.mark.gen_test
async def test_when_thief_and_owner_both_continue_the_session_ends(
    database_url: str, first: str, late: float
) -> None:
    """Within the grace and after it, whoever comes first, and whoever goes on first."""
    for goes_on_first in (0, 1):
        async with node(database_url) as parts:
            stolen = await parts.signed_in()
            lines = {first: await refresh(parts, stolen)}
            parts.clock.forward(late)
            lines["owner" if first == "thief" else "thief"] = await refresh(parts, stolen)
            each = list(lines.values())
            if goes_on_first:
                each.reverse()
            with pytest.raises(Unauthenticated):
                await go_on(parts, each)
            row = await parts.database.run(session_row, stolen.claims.sid)
            assert row["end_reason"] == "refresh_reuse"


@pytest.mark.gen_test
async def test_a_response_that_was_replaced_by_another_is_invalid(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        lost = await refresh(parts, login)
        parts.clock.forward(LATER)
        await refresh(parts, login)
        await ends_the_session(parts, lost)


@pytest.mark.gen_test
async def test_a_tab_whose_request_was_slow_is_accepted_within_the_grace_period(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        newest = await refresh(parts, await refresh(parts, login))
        parts.clock.forward(REFRESH_GRACE_SECONDS)
        slow = await refresh(parts, login)
        assert (await refresh(parts, newest)).claims.sid == login.claims.sid
        assert (await refresh(parts, slow)).claims.sid == login.claims.sid


@pytest.mark.gen_test
async def test_the_cookie_of_the_slower_tab_continues_though_the_other_was_used_meanwhile(
    database_url: str,
) -> None:
    # Tab 1 and 2 race; tab 3 uses what tab 1 brought; then tab 2's answer takes the jar.
    async with node(database_url) as parts:
        login = await parts.signed_in()
        one, two = await refresh(parts, login), await refresh(parts, login)
        await refresh(parts, one)
        parts.clock.forward(600)
        kept = await refresh(parts, two)
        parts.clock.forward(600)
        assert (await refresh(parts, kept)).claims.sid == login.claims.sid


# ---- clocks --------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [CLOCK_SKEW_SECONDS + 1, 3600.0])
@pytest.mark.gen_test
async def test_a_clock_that_was_set_back_gives_no_grace(database_url: str, back: float) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await refresh(parts, await refresh(parts, login))
        parts.clock.forward(-back)
        await ends_the_session(parts, login)


@pytest.mark.gen_test
async def test_a_clock_set_back_gives_no_grace_after_a_restart_when_it_comes_to_the_moment_again(
    database_url: str,
) -> None:
    async with node(database_url) as before:
        login = await before.signed_in()
        await refresh(before, await refresh(before, login))
        then = before.clock.now
    async with node(database_url) as after:
        await after.refresh.ticks.tick()
        after.clock.now = then + 1
        await ends_the_session(after, login)


@pytest.mark.gen_test
async def test_nor_on_a_node_whose_clock_lags_behind_that_of_another(database_url: str) -> None:
    async with node(database_url) as ahead, node(database_url) as behind:
        for each in (behind, ahead):
            await each.refresh.ticks.tick()
        login = await ahead.signed_in()
        await refresh(ahead, await refresh(ahead, login))
        for _ in range(GRACE_TICKS + 1):  # an hour passes, and `behind` comes to that moment
            await ahead.refresh.ticks.tick()
            await behind.refresh.ticks.tick()
        await ends_the_session(behind, login)


@pytest.mark.gen_test
async def test_of_two_nodes_one_advances_the_counter(database_url: str) -> None:
    async with node(database_url) as here, node(database_url) as there:
        await here.refresh.ticks.tick()
        await there.refresh.ticks.tick()
        await here.refresh.ticks.tick()  # learns what the other's start has made of it
        first = await here.database.run(current_tick)
        for _ in range(5):
            await there.refresh.ticks.tick()
            await here.refresh.ticks.tick()
        assert await here.database.run(current_tick) - first in (5, 6)


@pytest.mark.gen_test
async def test_within_the_grace_a_few_ticks_change_nothing(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.refresh.ticks.tick()
        login = await parts.signed_in()
        newest = await refresh(parts, await refresh(parts, login))
        for _ in range(GRACE_TICKS):
            await parts.refresh.ticks.tick()
        await refresh(parts, login)
        assert (await refresh(parts, newest)).claims.sid == login.claims.sid


@pytest.mark.gen_test
async def test_another_node_whose_clock_is_a_little_behind_lets_a_racing_tab_on(
    database_url: str,
) -> None:
    async with node(database_url) as here, node(database_url) as there:
        there.clock.now = here.clock.now - CLOCK_SKEW_SECONDS
        login = await here.signed_in()
        await refresh(here, await refresh(here, login))
        assert (await refresh(there, login)).claims.sid == login.claims.sid


@pytest.mark.gen_test
async def test_a_lost_answer_costs_nothing_where_the_clock_was_set_back(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await refresh(parts, login)
        parts.clock.forward(-60)
        arrived = await refresh(parts, login)
        assert (await refresh(parts, arrived)).claims.sid == login.claims.sid
