"""Django Channels on uvicorn, with groups in memory: one process needs no Redis for them."""

from __future__ import annotations

import json
from typing import Any

import django
from channels.exceptions import DenyConnection
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

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

settings.configure(
    SECRET_KEY="not used by a socket",
    CHANNEL_LAYERS={
        # With the default of 100 it drops messages of a sender who does not wait.
        "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 9999}}
    },
)
django.setup()
job = Job()


class Consumer(AsyncWebsocketConsumer):
    """One socket."""

    person: Person | None = None

    async def connect(self) -> None:
        try:
            self.person = await job.join(bearer(",".join(self.scope["subprotocols"])))
        except Refused as error:
            raise DenyConnection from error
        for room in self.person.rooms:
            await self.channel_layer.group_add(group(room), self.channel_name)
        await self.accept(PROTOCOL)
        await self.send(text_data=joined(self.person))

    async def disconnect(self, code: int) -> None:
        if self.person is not None:
            for room in self.person.rooms:
                await self.channel_layer.group_discard(group(room), self.channel_name)
            await job.leave(self.person)

    async def receive(self, text_data: str | None = None, bytes_data: Any = None) -> None:
        asked = json.loads(text_data or "null")
        person = self.person
        if person is None:
            return
        if asked["event"] == "message":
            room = asked["data"]["room"]
            if room not in person.rooms:
                return
            told = {"event": "message", "data": message(person, room, asked["data"]["data"])}
            event = {"type": "room.said", "text": encode(told)}
            await self.channel_layer.group_send(group(room), event)
        await self.send(text_data=reply(person, asked))

    async def room_said(self, event: dict[str, str]) -> None:
        """A message of the room."""
        await self.send(text_data=event["text"])


def group(room: str) -> str:
    """Names of groups may not contain a colon."""
    return room.replace(":", ".")


if __name__ == "__main__":
    routes = URLRouter([path("ws", Consumer.as_asgi())])
    asgi.serve(ProtocolTypeRouter({"websocket": routes}))
