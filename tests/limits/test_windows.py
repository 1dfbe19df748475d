from __future__ import annotations

from services.limits import windows
from services.limits.windows import Windows
from tests.support.parts import Clock


def test_a_window_begins_with_its_first_hit_and_ends() -> None:
    clock = Clock()
    here = Windows(10, clock)
    assert here.take("k", 2) == (True, 10)
    clock.forward(4)
    assert here.take("k", 2) == (True, 6)
    assert here.take("k", 2) == (False, 6)
    assert here.take("other", 2) == (True, 10)
    clock.forward(6)
    assert here.take("k", 2) == (True, 10)


def test_what_is_given_back_can_be_taken_again_and_never_more() -> None:
    here = Windows(10, Clock())
    assert here.take("k", 1)[0]
    here.give_back("k")
    here.give_back("k")
    here.give_back("nobody's")
    assert here.take("k", 1)[0]
    assert not here.take("k", 1)[0]


def test_the_oldest_windows_are_forgotten_when_there_are_too_many() -> None:
    here = Windows(10, Clock())
    for number in range(windows.MAX_WINDOWS + 1):
        assert here.take(str(number), 1)[0]
    assert not here.take(str(windows.MAX_WINDOWS), 1)[0]
    assert here.take("0", 1)[0]
