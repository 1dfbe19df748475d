"""FastAPI: a connection manager with rooms, as in its documentation."""

from __future__ import annotations

import json
from collections import defaultdict

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from benchmarks.peers.servers import asgi
from benchmarks.peers.servers.job import (
    PROTOCOL,
    Job,
    Person,
    Refused,
    bearer,
    encode,
    joined,
    message,
    reply,
)

app, job = FastAPI(), Job()
rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)


@app.websocket("/ws")
async def endpoint(socket: WebSocket) -> None:
    """Join, serve frames, leave."""
    try:
        person = await job.join(bearer(socket.headers.get("sec-websocket-protocol")))
    except Refused:
        await socket.close(4401)
        return
    await socket.accept(PROTOCOL)
    for room in person.rooms:
        rooms[room].add(socket)
    try:
        await socket.send_text(joined(person))
        while True:
            await take(socket, person, await socket.receive_text())
    except WebSocketDisconnect:
        pass
    except Refused:
        await socket.close(4401)
    finally:
        for room in person.rooms:
            rooms[room].discard(socket)
        await job.leave(person)


async def take(socket: WebSocket, person: Person, text: str) -> None:
    """Serve one frame."""
    asked = json.loads(text)
    if asked["event"] == "message":
        room = asked["data"]["room"]
        if room not in person.rooms:
            raise Refused
        told = encode({"event": "message", "data": message(person, room, asked["data"]["data"])})
        for member in tuple(rooms[room]):
            await member.send_text(told)
    await socket.send_text(reply(person, asked))


if __name__ == "__main__":
    asgi.serve(app)
