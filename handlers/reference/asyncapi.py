"""Generates AsyncAPI 3.0 from the tables of events and close codes."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from handlers.http.backends import Publication
from handlers.reference.schemas import About, Json, Schemas
from handlers.websocket.context import ClientEvent
from handlers.websocket.plain_head import SOCKET_PATH
from handlers.websocket.socket_identity import EXPIRY_NOTICE_SECONDS
from services.rooms.room_protocol import History, Message, RoomHistory
from services.rooms.usage import FADE_SECONDS
from services.sockets.keepalive import PING_SECONDS, SILENCE_SECONDS
from services.websocket.connection import OUTBOX_BYTES
from services.websocket.protocol import (
    CLOSE_MEANINGS,
    MAX_MESSAGE_BYTES,
    MAX_UNJOINED_MESSAGE_BYTES,
    RETRY_MEANINGS,
    SUBPROTOCOL,
    CloseCode,
    Refusal,
    ServerEvent,
)

ID = {"type": ["string", "number"], "description": "returned unchanged in the reply"}

DESCRIPTION = f"""\
A frame is JSON text `{{"event": string, "id"?: string | number, "data"?: any}}`. A frame with an
`id` gets exactly one `reply`; a frame without one gets none. The frames of one socket are answered
in their order. Invalid data or an unknown event is refused (`bad_request`, `unknown_event`), and
the socket stays open. A message that is not a frame closes it with 4400.

A message may have up to {MAX_MESSAGE_BYTES // 1024} KiB, or {MAX_UNJOINED_MESSAGE_BYTES // 1024}
KiB before the join. A client with more than {OUTBOX_BYTES // 1024} KiB of unread data is closed
with 4413. The server pings an idle client every {PING_SECONDS:.0f} seconds, and drops it after
{SILENCE_SECONDS:.0f} seconds without data. `token-expiring` is sent {EXPIRY_NOTICE_SECONDS:.0f}
seconds before the token expires.

A room is `user:{{id}}` (the user's own) or `channel:{{id}}`. A socket that joins enters the rooms
that it may read, but of the channels that users have opened to everybody only a bounded number
(MAX_JOINED_OPEN_CHANNELS); `join` enters any other. All members receive the messages of a room in
the order of their ids, on every node. A client that was disconnected requests `history` after the
last id that it received, and repeats this while there is `more`. `presence` names many users in
several frames. A use that is not repeated ends after {FADE_SECONDS:.0f} seconds. An event that a
backend publishes has `room` beside `data`. It is in `history` only if the backend asked for that.
While Redis is unavailable, the socket stays open, and `message`, `usage` and `history` are refused
(`unavailable`)."""

PUBLISHED = "published"
"""Placeholder for the events of backends, which have names of the backends' choice."""
PUBLISHED_SUMMARY = (
    "A backend has published an event in a room: `event` and `data` as the backend sent them, with "
    "`room` beside `data`. `event` is not the name of one of Usher's events, except `message`."
)

OPENING = f"""\
The client presents a credential in the handshake or in the first message: an access token in
`Authorization: Bearer`, or as the subprotocol `usher.bearer.<token>` together with `{SUBPROTOCOL}`;
a ticket as `?ticket=`; the cookie, with the server's own or an allowed `Origin`; or `user-join`
within the time limit. Two explicit credentials, or one of a login session other than the cookie's,
are refused with 4400. An access token can have one open socket, a ticket opens one socket, and a
cookie opens any number."""


def asyncapi_document(
    client_events: Mapping[str, ClientEvent],
    server_events: Mapping[str, ServerEvent],
    about: About,
) -> Json:
    """Generate the AsyncAPI 3.0 document of the socket, from the server's point of view."""
    schemas = Schemas()
    refusal = schemas.of(Refusal)
    messages: Json = {}
    for name, event in client_events.items():
        messages[name] = _client_message(name, event, schemas)
        messages[f"{name}.reply"] = _reply_message(name, event, schemas, refusal)
    for name, sent in server_events.items():
        messages[f"server.{name}"] = _server_message(name, sent, schemas, refusal)
    messages[f"server.{PUBLISHED}"] = _published_message()
    _describe_kept(schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Usher", "version": about.version, "description": _lines(DESCRIPTION)},
        "defaultContentType": "application/json",
        "servers": {"usher": _server(about)},
        "channels": {"socket": _channel(messages)},
        "operations": {
            **{name: _receive(name) for name in client_events},
            **{f"server.{n}": _send(n, event.summary) for n, event in server_events.items()},
            f"server.{PUBLISHED}": _send(PUBLISHED, PUBLISHED_SUMMARY),
        },
        "components": {
            "messages": messages,
            "schemas": schemas.components,
            "securitySchemes": _security_schemes(about),
        },
        "x-close-codes": [
            {
                "code": int(code),
                "reason": code.reason,
                "retry": code.retry.value,
                "meaning": CLOSE_MEANINGS[code],
            }
            for code in CloseCode
        ],
        "x-retry": {retry.value: meaning for retry, meaning in RETRY_MEANINGS.items()},
    }


# ---- messages ------------------------------------------------------------------------------


def _client_message(name: str, event: ClientEvent, schemas: Schemas) -> Json:
    data = schemas.of(event.data)
    fields = {"event": {"const": name}, "id": ID, "data": data}
    # Missing data counts as `{}`, so `data` is required if it has required members.
    needed = ["event", "data"] if "$ref" in data else ["event"]
    return _message(name, f"{name}, from the client", event.summary, _object(fields, needed))


def _reply_message(name: str, event: ClientEvent, schemas: Schemas, refusal: Json) -> Json:
    head = {"event": {"const": "reply"}, "id": ID}
    good = {**head, "ok": {"const": True}, "data": schemas.of(event.reply)}
    codes = sorted({"internal", "rate_limited", *(error.code for error in event.errors)})
    narrowed = {"allOf": [refusal, {"properties": {"code": {"enum": codes}}}]}
    bad = {**head, "ok": {"const": False}, "error": narrowed}
    payload = {"oneOf": [_object(good), _object(bad)]}
    return _message("reply", f"reply to {name}", f"The reply to `{name}`.", payload)


def _server_message(name: str, event: ServerEvent, schemas: Schemas, refusal: Json) -> Json:
    if name == "reply":
        head = {"event": {"const": "reply"}, "id": ID}
        good = _object({**head, "ok": {"const": True}, "data": {}})
        payload = {"oneOf": [good, _object({**head, "ok": {"const": False}, "error": refusal})]}
    else:
        payload = _object({"event": {"const": name}, "data": schemas.of(event.data)})
    return _message(name, f"{name}, from the server", event.summary, payload)


def _published_message() -> Json:
    apart = Schemas()  # separate, as only two fields of the call's body belong to the socket
    apart.of(Publication)
    given = apart.components[Publication.__name__]["properties"]
    payload = _object({name: given[name] for name in ("event", "room")} | {"data": {}})
    return _message(PUBLISHED, "what a backend publishes", PUBLISHED_SUMMARY, payload)


def _describe_kept(schemas: Schemas) -> None:
    """Describe the messages of `history`. They are forwarded as bytes, and so have no type."""
    for kind in (History, RoomHistory):
        history = schemas.components.get(kind.__name__)
        if history is not None:
            history["properties"]["messages"]["items"] = schemas.of(Message)


def _message(name: str, title: str, summary: str, payload: Json) -> Json:
    return {"name": name, "title": title, "summary": summary, "payload": payload}


def _object(fields: Json, needed: list[str] | None = None) -> Json:
    return {"type": "object", "properties": fields, "required": needed or list(fields)}


# ---- channel and operations ----------------------------------------------------------------


def _server(about: About) -> Json:
    url = urlsplit(about.public_url)
    return {
        "host": url.netloc,
        **({"pathname": url.path} if url.path else {}),
        "protocol": "wss" if url.scheme == "https" else "ws",
        "description": "RFC 6455, version 13; with permessage-deflate if COMPRESSION is on.",
        "security": [
            {"$ref": f"#/components/securitySchemes/{name}"} for name in _security_schemes(about)
        ],
    }


def _channel(messages: Json) -> Json:
    query = {
        "type": "object",
        "properties": {"ticket": {"type": "string", "description": "from POST /api/ws/ticket"}},
    }
    return {
        "address": SOCKET_PATH,
        "title": "The socket",
        "description": _lines(OPENING),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"ws": {"method": "GET", "query": query}},
    }


def _receive(name: str) -> Json:
    channel = "#/channels/socket"
    return {
        "action": "receive",
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"}],
        "reply": {
            "channel": {"$ref": channel},
            "messages": [{"$ref": f"{channel}/messages/{name}.reply"}],
        },
    }


def _send(name: str, summary: str) -> Json:
    channel = "#/channels/socket"
    return {
        "action": "send",
        "summary": summary,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/server.{name}"}],
    }


def _security_schemes(about: About) -> Json:
    subprotocol = f"`{SUBPROTOCOL}, usher.bearer.<access token>`"
    return {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "subprotocol": _api_key("header", "Sec-WebSocket-Protocol", subprotocol),
        "ticket": _api_key("query", "ticket", "From `POST /api/ws/ticket`; opens one socket."),
        "cookie": _api_key(
            "cookie", about.access_cookie, "Only with the server's own or an allowed Origin."
        ),
    }


def _api_key(where: str, name: str, description: str) -> Json:
    return {"type": "httpApiKey", "in": where, "name": name, "description": description}


def _lines(text: str) -> str:
    """Put each paragraph on one line."""
    return "\n\n".join(part.replace("\n", " ") for part in text.split("\n\n"))
