"""Shares a limited number of slots fairly between classes of callers and between callers.

Each lane has reserved slots, and the rest are shared by weight. Within a lane, callers are served
in rotation, however many requests one of them has queued. The queue is bounded per lane and per
caller. In a full lane, the newest request of who has the most makes way for that of another.
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
    weight: its share of the unreserved slots, relative to the other lanes.
    reserved: slots that no other lane may use, even while they are free.
    most: the most slots of the lane at one time.
    most_of_one: the most slots of one caller at one time.
    waiting: the most requests of the lane that wait or have a slot.
    waiting_of_one: the most requests of one caller that wait or have a slot.
    """

    name: str
    weight: int
    reserved: int
    most: int
    most_of_one: int
    waiting: int
    waiting_of_one: int


class Slot:
    """One request for a slot. It must be released in any case."""

    __slots__ = ("_queue", "granted", "is_held", "is_over", "key", "lane")

    def __init__(self, queue: FairQueue, lane: _LaneState, key: str) -> None:
        self._queue, self.lane, self.key = queue, lane, key
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_held = self.is_over = False

    async def wait(self) -> None:
        """Wait until the slot is granted.

        Raises:
            Busy: the request has made way for that of another caller, who had fewer.
        """
        await self.granted

    def release(self) -> None:
        """Release the slot, or stop waiting for it. May be called more than once."""
        if not self.is_over:
            self.is_over = True
            self._queue.release(self)


class FairQueue:
    """Grants a limited number of slots.

    Args:
        slots: the number of slots.
        lanes: the lanes that share them.
    """

    def __init__(self, slots: int, lanes: Sequence[Lane]) -> None:
        self._free = slots
        self._lanes = {lane.name: _LaneState(lane) for lane in lanes}
        self._virtual = 0.0

    def request(self, lane: str, key: str) -> Slot:
        """Request a slot in a lane.

        Args:
            key: the caller.

        Raises:
            Busy: too many requests of this lane or this caller are waiting. `Slot.wait` raises it
                if the request has to make way.
        """
        state = self._lanes[lane]
        if state.under_way_of[key] >= state.lane.waiting_of_one:
            raise Busy(f"{lane}: {state.under_way_of[key]} of one are waiting")
        if state.under_way >= state.lane.waiting and not state.make_way(key):
            raise Busy(f"{lane}: {state.under_way} are waiting")
        if not state.under_way:
            state.served = max(state.served, self._virtual)
        slot = Slot(self, state, key)
        state.add(slot)
        self._dispatch()
        return slot

    def release(self, slot: Slot) -> None:
        """Called by `Slot.release`, once."""
        if slot.is_held:
            self._free += 1
            slot.lane.give_up(slot)
        else:
            slot.lane.give_up_waiting(slot)
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
        """Whether a lane may have a slot, without using the reserved slots of others."""
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
        self._waiting: dict[str, deque[Slot]] = {}
        self._ring: deque[str] = deque()

    def add(self, slot: Slot) -> None:
        self.under_way += 1
        self.under_way_of[slot.key] += 1
        if slot.key not in self._waiting:
            self._waiting[slot.key] = deque()
            self._ring.append(slot.key)
        self._waiting[slot.key].append(slot)

    def make_way(self, key: str) -> bool:
        """Refuse the newest waiting request of the caller who has the most, for one of another
        caller. Returns False if nobody has more than that caller would have then."""
        most = max(self._waiting, key=self.under_way_of.__getitem__, default=key)
        if self.under_way_of[most] <= self.under_way_of[key] + 1:
            return False
        slot = self._waiting[most].pop()
        if not self._waiting[most]:
            del self._waiting[most]
            self._ring.remove(most)
        slot.is_over = True
        if not slot.granted.done():
            slot.granted.set_exception(Busy(f"{self.lane.name}: made way for another caller"))
            slot.granted.exception()  # retrieved, or asyncio logs it if the caller has left
        self._leave(slot)
        return True

    def has_ready(self) -> bool:
        """Rotate a caller that may have a slot to the front. Returns whether there is one."""
        for _ in range(len(self._ring)):
            if self._running_of[self._ring[0]] < self.lane.most_of_one:
                return True
            self._ring.rotate(-1)
        return False

    def grant(self) -> None:
        """Grant a slot to the caller in front."""
        key = self._ring.popleft()
        slot = self._waiting[key].popleft()
        if self._waiting[key]:
            self._ring.append(key)
        else:
            del self._waiting[key]
        self.running += 1
        self._running_of[key] += 1
        slot.is_held = True
        if not slot.granted.done():  # else its task was cancelled, and will release it
            slot.granted.set_result(None)

    def give_up(self, slot: Slot) -> None:
        self.running -= 1
        _take_one(self._running_of, slot.key)
        self._leave(slot)

    def give_up_waiting(self, slot: Slot) -> None:
        waiting = self._waiting[slot.key]
        waiting.remove(slot)
        if not waiting:
            del self._waiting[slot.key]
            self._ring.remove(slot.key)
        slot.granted.cancel()
        self._leave(slot)

    def _leave(self, slot: Slot) -> None:
        self.under_way -= 1
        _take_one(self.under_way_of, slot.key)


def _take_one(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
