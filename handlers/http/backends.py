"""Calls for backends: API keys, publishing into rooms, and the model registry."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from handlers.api import ApiHandler
from handlers.operations import operation
from handlers.websocket.room_events import ROOM_EVENTS
from handlers.websocket.socket import EVENTS
from services.accounts.api_key_rows import KeyRow, Scope
from services.backends.idempotency import KeyReused, StillUnderWay
from services.backends.publishing import Event
from services.errors import BadRequest, NotFound, StepUpNeeded, Unavailable
from services.rooms.model_registry import MAX_TITLE_LENGTH, ModelRow
from services.rooms.room_names import CHANNEL, USER
from services.rooms.room_protocol import ROOM_SERVER_EVENTS, RoomName, null
from services.websocket.protocol import SERVER_EVENTS

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TITLE_LENGTH)]
MAX_ROOMS = 100
Rooms = Annotated[list[RoomName], msgspec.Meta(min_length=1, max_length=MAX_ROOMS)]
IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
EventName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")]

OWN_EVENTS = {*EVENTS, *ROOM_EVENTS, *SERVER_EVENTS, *ROOM_SERVER_EVENTS, "error"} - {"message"}
"""Names of Usher's own events, which a backend must not publish."""


class NewKey(msgspec.Struct):
    """`scopes`: what the key may do. `expires_at`: epoch seconds; without it, the key does not
    expire."""

    name: str
    scopes: list[Scope]
    expires_at: float | None = None


class KeyShown(msgspec.Struct, frozen=True):
    """`key`: shown only once. `created_by`: the id of the administrator who created it."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: float
    expires_at: float | None
    created_by: str | None
    key: str


class KeyList(msgspec.Struct, frozen=True):
    items: list[KeyRow]


class ModelList(msgspec.Struct, frozen=True):
    items: list[ModelRow]


class NewModel(msgspec.Struct):
    title: Title


class Publication(msgspec.Struct):
    """Members get `{event, data}` as given, with `room` beside. Either `room` or `rooms`, and each
    of them has to exist. `keep`: it is in `history`, too; then `id` and `sent_at` are beside."""

    event: EventName
    room: RoomName | msgspec.UnsetType = msgspec.UNSET
    rooms: Rooms | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw = msgspec.field(default_factory=null)
    keep: bool = False

    def names(self) -> list[str]:
        """The rooms to publish into.

        Raises:
            BadRequest: neither or both fields are given, or a name is not that of a room.
        """
        if (self.room is msgspec.UNSET) == (self.rooms is msgspec.UNSET):
            raise BadRequest("publish", detail="room or rooms: one of the two")
        if self.room is not msgspec.UNSET:
            found, member = [self.room], "room"
        else:
            found, member = list(self.rooms or ()), "rooms"
        if not all(name.startswith((USER, CHANNEL)) for name in found):
            raise BadRequest("publish", detail=f"{member}: user:{{id}} or channel:{{id}}")
        return found


class KeysHandler(ApiHandler):
    @operation("The keys that are not revoked, newest first.", access="admin", answer=KeyList)
    async def get(self) -> KeyList:
        return KeyList(await self.services.api_keys.active())

    @operation(
        "Make a key for a backend. It is shown this one time.",
        access="admin",
        body=NewKey,
        status=201,
        answer=KeyShown,
        audit="api_key.created",
    )
    async def post(self, body: NewKey) -> KeyShown:
        keys, claims = self.services.api_keys, self.identity.claims
        row, key = await keys.create(
            body.name, body.scopes, claims.sub, body.expires_at, claims.sid
        )
        return KeyShown(
            row.id,
            row.name,
            row.scopes,
            row.created_at,
            row.expires_at,
            row.created_by,
            key.reveal(),
        )


class KeyHandler(ApiHandler):
    @operation(
        "Revoke a key.",
        access="admin",
        status=204,
        errors=(NotFound,),
        audit="api_key.revoked",
    )
    async def delete(self, key_id: str) -> None:
        await self.services.api_keys.revoke(key_id)


class PublishHandler(ApiHandler):
    @operation(
        "Push an event to every member of a room or of several, on every node.",
        access="publish",
        body=Publication,
        status=204,
        errors=(NotFound, KeyReused, StillUnderWay, StepUpNeeded, Unavailable),
        headers={
            "Idempotency-Key": "any text of your own: with the same one it is sent once in an hour"
        },
    )
    async def post(self, body: Publication) -> None:
        names = body.names()
        if body.event in OWN_EVENTS:
            raise BadRequest("publish", detail="event: one of Usher's own")
        idempotency_key = self.request.headers.get("Idempotency-Key")
        if idempotency_key is not None and not IDEMPOTENCY_KEY.fullmatch(idempotency_key):
            detail = "Idempotency-Key: 1 to 255 printable characters of ASCII"
            raise BadRequest("publish", detail=detail)
        caller = f"key:{self.key.id}" if self.key else self.identity.user_id
        if self.key is None and await self.services.publishing.is_guarded(names):
            await self.require_step_up()
        await self.services.publishing.publish(
            Event(names, body.event, body.data, body.keep),
            caller,
            idempotency_key or "",
            self.request.body,
        )


class ModelsHandler(ApiHandler):
    @operation("The models that `usage` may name.", answer=ModelList)
    async def get(self) -> ModelList:
        return ModelList(await self.services.models.all())


class ModelHandler(ApiHandler):
    @operation(
        "Register a model, or give it another title.",
        access="publish",
        body=NewModel,
        answer=ModelRow,
        audit="model.registered",
        step_up=True,
    )
    async def put(self, model_id: str, body: NewModel) -> ModelRow:
        return await self.services.models.put(model_id, body.title)

    @operation(
        "Strike a model off.",
        access="publish",
        status=204,
        errors=(NotFound,),
        audit="model.removed",
        step_up=True,
    )
    async def delete(self, model_id: str) -> None:
        await self.services.models.remove(model_id)
