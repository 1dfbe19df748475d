"""Plain Tornado: `WebSocketHandler` on uvloop, and a loop of `write_message` for a room."""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict
from typing import Any

import tornado.httpserver
import tornado.web
import tornado.websocket
import uvloop

from benchmarks.peers.servers.job import (
    PROTOCOL,
    Job,
    Person,
    Refused,
    address,
    bearer,
    encode,
    joined,
    message,
    reply,
)

BACKLOG = 2048
Rooms = defaultdict[str, set["Socket"]]


class Socket(tornado.websocket.WebSocketHandler):
    """One socket."""

    def initialize(self, job: Job, rooms: Rooms) -> None:
        self._job, self._rooms = job, rooms
        self._person: Person | None = None

    async def prepare(self) -> None:
        offered = self.request.headers.get("Sec-WebSocket-Protocol")
        try:
            self._person = await self._job.join(bearer(offered))
        except Refused as error:
            raise tornado.web.HTTPError(401) from error

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return PROTOCOL

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        if self._person is not None:
            for room in self._person.rooms:
                self._rooms[room].add(self)
            self.write_message(joined(self._person))

    def on_message(self, text: str | bytes) -> None:
        asked: dict[str, Any] = json.loads(text)
        person = self._person
        if person is None:
            return
        if asked["event"] == "message":
            self._tell(person, asked["data"]["room"], asked["data"]["data"])
        self.write_message(reply(person, asked))

    def _tell(self, person: Person, room: str, data: object) -> None:
        if room in person.rooms:
            told = encode({"event": "message", "data": message(person, room, data)})
            for member in tuple(self._rooms[room]):
                member.write_message(told)

    def on_close(self) -> None:
        if self._person is not None:
            for room in self._person.rooms:
                self._rooms[room].discard(self)
            leaving = self._job.leave(self._person)
            self._leaving = asyncio.get_running_loop().create_task(leaving)


async def main() -> None:
    """Listen until killed."""
    port = int(os.environ["PEER_PORT"])
    given = {"job": Job(), "rooms": defaultdict(set)}
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/ws", Socket, given)]))
    server.listen(port, "127.0.0.1", backlog=BACKLOG)
    print(address(port), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.new_event_loop().run_until_complete(main())
