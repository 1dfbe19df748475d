"""The rooms of a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from usher_client import events
from usher_client.catch_up import CatchUp
from usher_client.errors import (
    ConnectionEnded,
    Forbidden,
    NotConnected,
    RateLimited,
    TimedOut,
    Unavailable,
    UsherError,
)
from usher_client.events import Event, Gap, History, Message, People, Session
from usher_client.inbox import Inbox
from usher_client.log import RoomLog

JOIN_AGAIN_SECONDS = 5.0


class Asks(Protocol):
    """Sends an event and returns the data of the reply."""

    def __call__(
        self, event: str, data: object, timeout: float | None = None
    ) -> Awaitable[Any]: ...


class Says(Protocol):
    """Sends an event without a reply."""

    def __call__(self, event: str, data: object) -> Awaitable[None]: ...


class Room:
    """One room. It queues events from its creation on, over all connections.

        async for message in room:
            print(message.sender, message.data)

    The iteration ends when the client is closed or leaves the room. If something else ends it, it
    raises SignInNeeded, Forbidden or ConnectionEnded.
    """

    def __init__(
        self, name: str, ask: Asks, say: Says, leave: Callable[[str], None], inbox: Inbox
    ) -> None:
        self.name = name
        self._ask = ask
        self._say = say
        self._leave = leave
        self._inbox = inbox
        self._after_gap = False

    def __repr__(self) -> str:
        return f"Room({self.name!r})"

    async def send(self, data: object) -> str:
        """Send a message. Returns its id.

        Raises:
            Forbidden: no right to write, or no such room.
            RateLimited: retry after `retry_after`.
            TimedOut, ConnectionEnded: it may or may not have been sent.
            NotConnected, TooBig, Busy, Misuse: it was not sent.
        """
        answer = await self._ask("message", {"room": self.name, "data": data})
        found = answer.get("id") if isinstance(answer, dict) else None
        return found if isinstance(found, str) else ""

    async def history(self, after: str | None = None) -> History:
        """A page of the messages after a message, or of the whole history; oldest first."""
        data = {"room": self.name} if after is None else {"room": self.name, "after": after}
        return events.history(await self._ask("history", data))

    async def presence(self) -> People:
        """The users in the room, on all nodes."""
        answer = await self._ask("presence", {"room": self.name})
        found = answer if isinstance(answer, dict) else {}
        people = events.users(found.get("users"))
        total = found.get("total")
        return People(people, total if isinstance(total, int) else len(people))

    async def typing(self) -> None:
        """Notify the others that the user is typing. There is no reply, and a refusal is not
        reported.

        Raises:
            NotConnected: there is no joined socket.
        """
        await self._say("typing", {"room": self.name})

    async def leave(self) -> None:
        """Leave the room, also after reconnects. `Usher.room` joins it again."""
        self._leave(self.name)
        with suppress(NotConnected, ConnectionEnded):  # the next socket leaves at once
            await self._ask("leave", {"room": self.name})

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        while (event := await self._inbox.get()) is not None:
            if isinstance(event, Gap):
                self._after_gap = True
            elif isinstance(event, Message):
                gap, self._after_gap = self._after_gap, False
                return replace(event, after_gap=True) if gap else event
        raise StopAsyncIteration

    async def events(self) -> AsyncIterator[Event]:
        """All events: Message, Typing, Presence and Gap. Use it instead of the plain iteration, not
        together with it, because both read the same queue."""
        while (event := await self._inbox.get()) is not None:
            yield event


@dataclass
class _RoomState:
    """The state of a room that the app uses."""

    room: Room
    inbox: Inbox
    log: RoomLog


class Rooms:
    """All rooms of a client, over all its connections.

    Args:
        ask, say: send an event over the joined socket.
        limit: the number of events of a room that may be queued for the app.
    """

    def __init__(self, ask: Asks, say: Says, limit: int) -> None:
        self._ask = ask
        self._say = say
        self._limit = limit
        self._rooms: dict[str, _RoomState] = {}
        self._left: set[str] = set()
        self._in: set[str] = set()
        self._is_joined = False
        self._offset: float | None = None
        self._user_id = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, name: str) -> Room:
        """The room of this name."""
        if (kept := self._rooms.get(name)) is not None:
            return kept.room
        inbox = Inbox(name, self._limit)
        room = Room(name, self._ask, self._say, self._leave, inbox)
        kept = self._rooms[name] = _RoomState(room, inbox, RoomLog(name, inbox.put))
        self._left.discard(name)
        if name in self._in:
            kept.log.joined(self._offset)
        elif self._is_joined:
            self._spawn(self._join(kept))
        return room

    def _leave(self, name: str) -> None:
        self._left.add(name)
        self._in.discard(name)
        if (kept := self._rooms.pop(name, None)) is not None:
            kept.log.left()
            kept.inbox.finish(None)

    # ---- events of the connection --------------------------------------------------------------

    def clock(self, offset: float) -> None:
        """The server's clock minus the monotonic one."""
        self._offset = offset
        for kept in self._rooms.values():
            kept.log.clock(offset)

    def joined(self, session: Session) -> None:
        """A socket has joined."""
        if self._user_id not in {"", session.user.id}:  # the state of the previous user is dropped
            self._left.clear()
            for kept in self._rooms.values():
                kept.log.left()
        self._user_id = session.user.id
        self._in, self._is_joined = set(session.rooms), True
        for name in self._in & self._left:
            self._spawn(self._send_leave(name))
        for kept in self._rooms.values():
            kept.inbox.reopen()
            if kept.log.name in self._in:
                kept.log.joined(self._offset)
            else:
                self._spawn(self._join(kept))
        self._spawn(self._catch_up())

    def changed(self, names: tuple[str, ...]) -> None:
        """The rooms that the socket is in have changed."""
        before, self._in = self._in, set(names)
        for name, kept in self._rooms.items():
            if name in self._in and name not in before:
                kept.inbox.reopen()
                kept.log.joined(self._offset)
            elif name in before and name not in self._in:
                kept.log.left()
                kept.inbox.finish(Forbidden(f"the right in {name} was revoked"))
        self._spawn(self._catch_up())

    def receive(self, frame: dict[str, Any]) -> None:
        """An event of the server."""
        event = events.room_event(frame)
        if event is not None and (kept := self._rooms.get(event.room)) is not None:
            kept.log.receive(event)

    def lost(self) -> None:
        """The connection has ended, and another may follow."""
        self._in, self._is_joined = set(), False
        for task in self._tasks:
            task.cancel()

    def finish(self, error: UsherError | None) -> None:
        """No connection follows."""
        self.lost()
        for kept in self._rooms.values():
            kept.inbox.finish(error)

    # ---- work of one connection ----------------------------------------------------------------

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _catch_up(self) -> None:
        await CatchUp([kept.log for kept in self._rooms.values()], self._history).run()

    def _history(self, question: dict[str, Any]) -> Awaitable[Any]:
        return self._ask("history", question)

    async def _join(self, kept: _RoomState) -> None:
        """Join a room that the socket has not joined automatically."""
        while True:
            try:
                await self._ask("join", {"room": kept.log.name})
            except (RateLimited, Unavailable, TimedOut) as error:
                await asyncio.sleep(error.retry_after or JOIN_AGAIN_SECONDS)
            except ConnectionEnded:
                return
            except UsherError as error:
                kept.inbox.finish(error)
                return
            else:
                self._in.add(kept.log.name)
                kept.log.joined(self._offset)
                await CatchUp([kept.log], self._history).run()
                return

    async def _send_leave(self, name: str) -> None:
        with suppress(UsherError):  # the app gets no events of the room in any case
            await self._ask("leave", {"room": name})
