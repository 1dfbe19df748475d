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
    name: a unique name.
    weight: its share of the unreserved places, relative to the other lanes.
    reserved: places that no other lane may use, even while they are free.
    most: the most places of the lane at one time.
    most_of_one: the most places of one caller at one time.
    waiting: the most requests of the lane that wait or have a place.
    waiting_of_one: the most requests of one caller that wait or have a place.
    """

    name: str
    weight: int
    reserved: int
    most: int
    most_of_one: int
    waiting: int
    waiting_of_one: int


class Turn:
    """One request for a place. It must be released in any case."""

    __slots__ = ("_queue", "granted", "has_place", "is_over", "key", "lane")

    def __init__(self, queue: FairQueue, lane: _LaneState, key: str) -> None:
        self._queue, self.lane, self.key = queue, lane, key
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_place = self.is_over = False

    async def wait(self) -> None:
        """Wait until the place is granted."""
        await self.granted

    def release(self) -> None:
        """Release the place, or stop waiting for it. May be called more than once."""
        if not self.is_over:
            self.is_over = True
            self._queue.release(self)


class FairQueue:
    """Grants a limited number of places.

    Args:
        places: the number of places.
        lanes: the lanes that share them.
    """

    def __init__(self, places: int, lanes: Sequence[Lane]) -> None:
        self._free = places
        self._lanes = {lane.name: _LaneState(lane) for lane in lanes}
        self._virtual = 0.0

    def request(self, lane: str, key: str) -> Turn:
        """Request a place in a lane.

        Args:
            key: the caller.

        Raises:
            Busy: too many requests of this lane or this caller are waiting.
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
        """Whether a lane may have a place, without using the reserved places of others."""
        owed = sum(
            max(0, other.lane.reserved - other.running)
            for other in self._lanes.values()
            if other is not state
        )
        return state.running < state.lane.most and (
            self._free > owed or state.running < state.lane.reserved
        )


class _LaneState:
    """The waiting and granted requests of a lane.

    Attributes:
        served: the number of granted requests, divided by the weight.
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
        """Rotate a caller that may have a place to the front. Returns whether there is one."""
        for _ in range(len(self._ring)):
            if self._running_of[self._ring[0]] < self.lane.most_of_one:
                return True
            self._ring.rotate(-1)
        return False

    def grant(self) -> None:
        """Grant a place to the caller in front."""
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
