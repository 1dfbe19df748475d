"""Shares a limited number of places fairly between classes of callers and between callers.

Each lane has reserved places, and the rest are shared by weight. Within a lane, callers are served
in rotation, however many requests one of them has queued. The queue is bounded per lane and per
caller.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

from services.errors import Busy


class Lane(msgspec.Struct, frozen=True):
    """Attributes:
    name: names it.
    weight: its share of what nobody has reserved, against the other lanes'.
    reserved: places that no other lane takes, even while this one has no use for them.
    most: places that it may have at one time.
    most_of_one: places that one who asks may have at one time.
    waiting: how many may wait or have a place.
    waiting_of_one: how many of one who asks.
    """

    name: str
    weight: int
    reserved: int
    most: int
    most_of_one: int
    waiting: int
    waiting_of_one: int


class Turn:
    """One request for a place. To be released in the end, whatever came of it."""

    __slots__ = ("_queue", "granted", "has_place", "is_over", "key", "lane")

    def __init__(self, queue: FairQueue, lane: _LaneState, key: str) -> None:
        self._queue, self.lane, self.key = queue, lane, key
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_place = self.is_over = False

    async def wait(self) -> None:
        """Wait for the place."""
        await self.granted

    def release(self) -> None:
        """Give the place to the next, or cease to wait for it. More than once does no harm."""
        if not self.is_over:
            self.is_over = True
            self._queue.release(self)


class FairQueue:
    """Places.

    Args:
        places: how many there are.
        lanes: who shares them.
    """

    def __init__(self, places: int, lanes: Sequence[Lane]) -> None:
        self._free = places
        self._lanes = {lane.name: _LaneState(lane) for lane in lanes}
        self._virtual = 0.0

    def request(self, lane: str, key: str) -> Turn:
        """Ask for a place in a lane.

        Args:
            key: who asks.

        Raises:
            Busy: too many wait in this lane, or of this one.
        """
        state = self._lanes[lane]
        if state.under_way >= state.lane.waiting:
            raise Busy(f"{lane}: {state.under_way} are waiting")
        if state.under_way_of[key] >= state.lane.waiting_of_one:
            raise Busy(f"{lane}: {state.under_way_of[key]} of one are waiting")
        if not state.under_way:
            state.served = max(state.served, self._virtual)
        turn = Turn(self, state, key)
        state.add(turn)
        self._dispatch()
        return turn

    def release(self, turn: Turn) -> None:
        """Called by `Turn.release`, once."""
        if turn.has_place:
            self._free += 1
            turn.lane.give_up_place(turn)
        else:
            turn.lane.give_up_waiting(turn)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._free:
            ready = [state for state in self._lanes.values() if self._may_have(state)]
            ready = [state for state in ready if state.has_ready()]
            if not ready:
                return
            state = min(ready, key=lambda one: one.served)
            self._virtual = state.served
            state.served += 1 / state.lane.weight
            self._free -= 1
            state.grant()

    def _may_have(self, state: _LaneState) -> bool:
        """Whether a place may go to a lane, with what the others have reserved left to them."""
        owed = sum(
            max(0, other.lane.reserved - other.running)
            for other in self._lanes.values()
            if other is not state
        )
        return state.running < state.lane.most and (
            self._free > owed or state.running < state.lane.reserved
        )


class _LaneState:
    """Who waits in a lane, and who has a place.

    Attributes:
        served: what the lane has had, by its weight.
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.served = 0.0
        self.running = self.under_way = 0
        self.under_way_of: Counter[str] = Counter()
        self._running_of: Counter[str] = Counter()
        self._waiting: dict[str, deque[Turn]] = {}
        self._ring: deque[str] = deque()

    def add(self, turn: Turn) -> None:
        self.under_way += 1
        self.under_way_of[turn.key] += 1
        if turn.key not in self._waiting:
            self._waiting[turn.key] = deque()
            self._ring.append(turn.key)
        self._waiting[turn.key].append(turn)

    def has_ready(self) -> bool:
        """Bring somebody who may have a place to the front, if anybody is there."""
        for _ in range(len(self._ring)):
            if self._running_of[self._ring[0]] < self.lane.most_of_one:
                return True
            self._ring.rotate(-1)
        return False

    def grant(self) -> None:
        """Give a place to whoever is in front."""
        key = self._ring.popleft()
        turn = self._waiting[key].popleft()
        if self._waiting[key]:
            self._ring.append(key)
        else:
            del self._waiting[key]
        self.running += 1
        self._running_of[key] += 1
        turn.has_place = True
        if not turn.granted.done():  # else its task was cancelled, and will release it
            turn.granted.set_result(None)

    def give_up_place(self, turn: Turn) -> None:
        self.running -= 1
        _take_one(self._running_of, turn.key)
        self._leave(turn)

    def give_up_waiting(self, turn: Turn) -> None:
        waiting = self._waiting[turn.key]
        waiting.remove(turn)
        if not waiting:
            del self._waiting[turn.key]
            self._ring.remove(turn.key)
        turn.granted.cancel()
        self._leave(turn)

    def _leave(self, turn: Turn) -> None:
        self.under_way -= 1
        _take_one(self.under_way_of, turn.key)


def _take_one(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
