"""python-socketio on uvicorn: rooms and acknowledgements are its own."""

from __future__ import annotations

import json
from typing import Any

import socketio

from benchmarks.peers.servers import asgi
from benchmarks.peers.servers.job import Job, Refused, encode, message, reply

PING_SECONDS = 300


class Compact:
    """JSON as the other servers write it: text that is not ASCII is not escaped."""

    loads = staticmethod(json.loads)

    @staticmethod
    def dumps(value: object, **_: object) -> str:
        return encode(value)


server = socketio.AsyncServer(
    async_mode="asgi", transports=["websocket"], ping_interval=PING_SECONDS, json=Compact
)
app, job = socketio.ASGIApp(server), Job()


@server.event
async def connect(sid: str, _environ: dict[str, Any], auth: dict[str, str]) -> None:
    """The checks; the answer to the client's CONNECT follows."""
    try:
        person = await job.join(auth["token"])
    except Refused as error:
        raise socketio.exceptions.ConnectionRefusedError("refused") from error
    await server.save_session(sid, {"person": person})
    for room in person.rooms:
        await server.enter_room(sid, room)


@server.event
async def disconnect(sid: str, _reason: str) -> None:
    """The session ends with the socket."""
    session = await server.get_session(sid)
    await job.leave(session["person"])


@server.event
async def heartbeat(sid: str, asked: dict[str, Any]) -> Any:
    """A request; what is returned is its acknowledgement."""
    session = await server.get_session(sid)
    return json.loads(reply(session["person"], asked))


@server.on("message")
async def said(sid: str, asked: dict[str, Any]) -> None:
    """A message to a room."""
    session = await server.get_session(sid)
    person = session["person"]
    if asked["room"] in person.rooms:
        told = message(person, asked["room"], asked["data"])
        await server.emit("message", told, room=asked["room"])


if __name__ == "__main__":
    asgi.serve(app)
