from __future__ import annotations

from services.bus.log_clock import TOLERANCE_MS, LogClock
from tests.support.parts import Clock

HOUR_MS = 3_600_000
NOON_MS = 1_800_000_000_000


def clock() -> tuple[LogClock, Clock]:
    monotonic = Clock(100.0)
    return LogClock(HOUR_MS, monotonic), monotonic


def test_nothing_is_known_before_the_first_look() -> None:
    log_clock, _ = clock()
    assert log_clock.now_ms() == 0
    assert log_clock.look(NOON_MS)
    assert log_clock.now_ms() == NOON_MS


def test_time_continues_between_looks() -> None:
    log_clock, monotonic = clock()
    log_clock.look(NOON_MS)
    monotonic.now += 5.0
    assert log_clock.now_ms() == NOON_MS + 5_000


def test_a_redis_whose_clock_is_behind_is_reported_and_its_time_not_used() -> None:
    log_clock, monotonic = clock()
    log_clock.look(NOON_MS)
    monotonic.now += 1.0
    assert not log_clock.look(NOON_MS - HOUR_MS // 2)
    assert log_clock.now_ms() == NOON_MS + 1_000


def test_clocks_that_differ_a_little_are_right() -> None:
    log_clock, _ = clock()
    log_clock.look(NOON_MS)
    assert log_clock.look(NOON_MS - TOLERANCE_MS)
    assert log_clock.now_ms() == NOON_MS


def test_a_clock_that_once_ran_far_ahead_does_not_last() -> None:
    """Rights count from a time: ids of a day to come would be readable by who is let in later."""
    log_clock, _ = clock()
    log_clock.look(NOON_MS + 24 * HOUR_MS)
    assert log_clock.look(NOON_MS)
    assert log_clock.now_ms() == NOON_MS
