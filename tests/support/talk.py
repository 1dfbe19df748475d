"""A client in rooms: it keeps every event that comes, so that a test can say what did not."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.server import Client, Usher, bearer, connect

Data = dict[str, Any]
PATIENCE = 12.0
"""Seconds: less than a test's timeout, so that a missing message is reported."""


class Talker:
    """A socket that has joined. Replies go to who asked; events wait in `events`."""

    def __init__(self, socket: ClientConnection, client: Client) -> None:
        self.socket, self.client = socket, client
        self.joined: Data = {}
        self.events: list[Data] = []
        """Every event but replies, as it came."""
        self.answered = 0
        """Replies that came."""
        self._taken: set[int] = set()
        self._news = asyncio.Condition()
        self._replies: dict[str, asyncio.Future[Data]] = {}
        self._numbers = itertools.count()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._listen())

    @property
    def id(self) -> str:
        return str(self.client.user["id"])

    @property
    def member(self) -> Data:
        """As `from` and `presence` name them."""
        return {"id": self.id, "name": self.client.user["name"]}

    @property
    def is_open(self) -> bool:
        return not self._code.done()

    async def _listen(self) -> None:
        try:
            async for text in self.socket:
                await self._take(json.loads(text))
        except websockets.ConnectionClosed:
            pass  # the code says it
        finally:
            code = self.socket.close_code
            if not self._code.done():
                self._code.set_result(1006 if code is None else code)
            for waiting in self._replies.values():
                if not waiting.done():
                    waiting.cancel()
            async with self._news:
                self._news.notify_all()

    async def _take(self, frame: Data) -> None:
        if frame["event"] == "reply":
            self.answered += 1
            self._replies.pop(frame["id"]).set_result(frame)
            return
        async with self._news:
            self.events.append(frame)
            self._news.notify_all()

    # ---- saying ----------------------------------------------------------------------------

    async def send(self, name: str, data: Any = None) -> None:
        """An event without an id."""
        await self.socket.send(json.dumps({"event": name, "data": data}))

    def asks(self, name: str, data: Any = None) -> asyncio.Task[Data]:
        """Send an event now; the task gives its reply."""
        return asyncio.create_task(self.ask(name, data))

    async def ask(self, name: str, data: Any = None) -> Data:
        """Send an event and give its reply."""
        frame_id = f"t{next(self._numbers)}"
        reply = self._replies[frame_id] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps({"event": name, "id": frame_id, "data": data}))
        return await asyncio.wait_for(reply, PATIENCE)

    async def ok(self, name: str, data: Any = None) -> Any:
        """Ask; the reply has to be a good one. Returns its data."""
        reply = await self.ask(name, data)
        assert reply["ok"] is True, reply
        assert set(reply) == {"event", "id", "ok", "data"}
        return reply["data"]

    async def refused(self, name: str, data: Any = None) -> str:
        """Ask; the reply has to be an error. Returns its code."""
        reply = await self.ask(name, data)
        assert reply["ok"] is False, reply
        assert set(reply) == {"event", "id", "ok", "error"}
        assert set(reply["error"]) == {"code", "message"}
        return str(reply["error"]["code"])

    async def say(self, room: str, data: Any) -> str:
        """Say something in a room. Returns the message's id."""
        said = await self.ok("message", {"room": room, "data": data})
        assert set(said) == {"id"}
        return str(said["id"])

    # ---- hearing ---------------------------------------------------------------------------

    async def frame(
        self,
        name: str,
        wanted: Callable[[Any], object] = lambda _: True,
        seconds: float = PATIENCE,
    ) -> Data:
        """The first event of this name, not asked for before, whose data fits; whole."""

        async def look() -> Data:
            async with self._news:
                while True:
                    for number, frame in enumerate(self.events):
                        fits = frame["event"] == name and wanted(frame.get("data"))
                        if fits and number not in self._taken:
                            self._taken.add(number)
                            return frame
                    assert self.is_open, f"closed ({self._code.result()}) and no {name}"
                    await self._news.wait()

        try:
            return await asyncio.wait_for(look(), seconds)
        except asyncio.TimeoutError:
            raise AssertionError(f"no {name}; instead: {self.events[-20:]}") from None

    async def next(
        self,
        name: str,
        wanted: Callable[[Any], object] = lambda _: True,
        seconds: float = PATIENCE,
    ) -> Any:
        """The data of `frame`."""
        return (await self.frame(name, wanted, seconds))["data"]

    async def hears(self, room: str, data: Any, seconds: float = PATIENCE) -> Data:
        """Wait for a message; returns it."""
        message = await self.next(
            "message", lambda said: said["room"] == room and said["data"] == data, seconds
        )
        assert isinstance(message, dict)
        return message

    def messages(self, room: str) -> list[Data]:
        """Every message of a room that came so far, in its order."""
        received = (frame["data"] for frame in self.events if frame["event"] == "message")
        return [message for message in received if message["room"] == room]

    def said(self, room: str) -> list[Any]:
        """What the messages of a room said so far."""
        return [message["data"] for message in self.messages(room)]

    async def received(self, room: str, count: int, seconds: float = PATIENCE) -> list[Data]:
        """Wait until so many messages of a room came; returns all."""

        async def look() -> list[Data]:
            async with self._news:
                while len(messages := self.messages(room)) < count:
                    assert self.is_open, f"closed with {self._code.result()}"
                    await self._news.wait()
                return messages

        try:
            return await asyncio.wait_for(look(), seconds)
        except asyncio.TimeoutError:
            raise AssertionError(f"{len(self.messages(room))} of {count} messages") from None

    async def sees(self, room: str, *user_ids: str, seconds: float = PATIENCE) -> list[Data]:
        """Ask for presence until exactly these users are there."""
        end = asyncio.get_running_loop().time() + seconds
        while True:
            users = (await self.ok("presence", {"room": room}))["users"]
            if sorted(user["id"] for user in users) == sorted(user_ids):
                assert isinstance(users, list)
                return users
            assert asyncio.get_running_loop().time() < end, users
            await asyncio.sleep(0.05)

    async def settle(self) -> None:
        """A round trip: what this node wrote to the socket before has been read."""
        await self.ok("heartbeat")

    async def code(self, seconds: float = PATIENCE) -> int:
        """Wait for the end; returns the close code."""
        return await asyncio.wait_for(asyncio.shield(self._code), seconds)

    async def close(self) -> None:
        await self.socket.close()
        await asyncio.gather(self._task, return_exceptions=True)

    async def drop(self) -> None:
        """The line is cut: no close frame."""
        self.socket.transport.abort()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def talking(server: Usher, client: Client, *, ticket: bool = True) -> AsyncIterator[Talker]:
    """A socket of a client on a node, joined.

    Args:
        ticket: else the client's bearer token, which holds one socket only.
    """
    talker = await start_talking(server, client, ticket=ticket)
    try:
        yield talker
    finally:
        await talker.close()


async def start_talking(server: Usher, client: Client, *, ticket: bool = True) -> Talker:
    """As `talking`; whoever calls closes it."""
    if ticket:
        socket = await connect(server, "?ticket=" + client.ticket())
    else:
        socket = await connect(server, subprotocols=bearer(client.token))
    talker = Talker(socket, client)
    try:
        talker.joined = await talker.next("joined")
    except BaseException:
        await talker.close()
        raise
    return talker
