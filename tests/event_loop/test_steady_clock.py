"""A clock that does not go back when the system time is set back."""

from __future__ import annotations

from services.event_loop.steady_clock import SteadyClock
from tests.support.parts import Clock


def test_it_continues_where_the_wall_clock_is_set_back() -> None:
    wall, monotonic = Clock(1000.0), Clock(50.0)
    clock = SteadyClock(wall, monotonic)
    assert clock() == 1000.0
    wall.forward(5)
    monotonic.forward(5)
    assert clock() == 1005.0
    wall.forward(-3600)
    assert clock() == 1005.0
    monotonic.forward(7)
    assert clock() == 1012.0


def test_it_follows_the_wall_clock_forward_as_after_a_suspended_machine() -> None:
    wall, monotonic = Clock(1000.0), Clock(50.0)
    clock = SteadyClock(wall, monotonic)
    wall.forward(600)
    assert clock() == 1600.0
    monotonic.forward(1)
    assert clock() == 1601.0
