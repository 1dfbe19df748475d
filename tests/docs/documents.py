"""What the tests of the API descriptions share: what the code has, and how a document is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types of its own

from handlers.reference.openapi import METHODS
from handlers.routes import API_ROUTES, CLIENT_ROUTES, DOCUMENT_ROUTES
from handlers.websocket.room_events import ROOM_EVENTS
from handlers.websocket.socket import EVENTS
from services.rooms.room_protocol import ROOM_SERVER_EVENTS
from services.websocket.protocol import SERVER_EVENTS

ROUTES = (*API_ROUTES, *CLIENT_ROUTES, *DOCUMENT_ROUTES)
CLIENT_EVENTS = {**EVENTS, **ROOM_EVENTS}
ALL_SERVER_EVENTS = {**SERVER_EVENTS, **ROOM_SERVER_EVENTS}
Json = dict[str, Any]


def fits(value: object, schema: Json, document: Json) -> None:
    """Checks a value against a schema that refers to a document's components.

    More strictly than a client may: what is not described must not be there either.
    """
    closed = {
        name: {**component, "additionalProperties": False}
        if "properties" in component
        else component
        for name, component in document["components"]["schemas"].items()
    }
    whole = {**schema, "components": {"schemas": closed}}
    jsonschema.Draft202012Validator(whole).validate(value)


def nodes(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from nodes(item)


def described_calls(openapi: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in openapi["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]
