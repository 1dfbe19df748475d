"""How the OpenAPI document describes webhooks."""

from __future__ import annotations

from handlers.reference.schemas import Json, Schemas
from services.outbox import EVENT_DATA, EventType


def webhook(type_: EventType, schemas: Schemas) -> Json:
    """What a receiver is sent: OpenAPI 3.1 section 4.8.1.1."""
    headers = {
        "webhook-id": "the same for every attempt and replay",
        "webhook-timestamp": "of the attempt, in epoch seconds",
        "webhook-signature": "`v1,` and HMAC-SHA-256 of `id.timestamp.body` in Base64",
    }
    body = {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"const": type_},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": schemas.of(EVENT_DATA[type_]),
        },
    }
    return {
        "operationId": f"webhook_{type_.replace('.', '_')}",
        "tags": ["Webhooks"],
        "summary": f"Sent to webhooks that subscribe to `{type_}`.",
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": text,
                "schema": {"type": "string"},
            }
            for name, text in headers.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "2XX": {"description": "Taken."},
            "default": {"description": "Tried again for 24 hours."},
        },
    }
