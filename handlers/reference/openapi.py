"""Generates OpenAPI 3.1 from the operations of the routes, which also check the requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tornado.web import RequestHandler

from handlers.operations import KEY_SCOPES, Accepted, Operation, segment
from handlers.problems import PROBLEM_TYPE, Problem
from handlers.reference.openapi_security import security, security_schemes
from handlers.reference.openapi_webhooks import webhook
from handlers.reference.schemas import REF, About, Json, Schemas
from handlers.websocket.handshake import UpgradeRequired
from handlers.websocket.plain_head import SOCKET_PATH
from services.errors import (
    BadRequest,
    Forbidden,
    OriginRefused,
    RateLimited,
    TokenExpired,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UsherError,
)
from services.outbox import EVENT_DATA

Routes = Sequence[tuple[str, type[RequestHandler]]]
METHODS = ("get", "post", "put", "patch", "delete")

TAGS: tuple[tuple[str, str, str], ...] = (
    (
        "/api/auth/verify",
        "Your backends",
        "Authenticate the callers of your backend: by introspection, through a proxy, or offline.",
    ),
    ("/api/auth/app-token", "Your backends", ""),
    ("/api/introspect", "Your backends", ""),
    ("/.well-known/jwks.json", "Your backends", ""),
    ("/api/auth", "Account", "Signing up, in and out, and the user's own account."),
    ("/api/sessions", "Login sessions", "Where the user is signed in."),
    ("/api/ws", "Socket", "Opening a socket. Its events are described in /asyncapi.json."),
    (SOCKET_PATH, "Socket", ""),
    ("/oauth", "Providers", "Signing in with Google, GitHub, Microsoft or OpenID Connect."),
    ("/api/oauth", "Providers", ""),
    ("/api/channels", "Channels", "Rooms, and who may enter them."),
    (
        "/api/publish",
        "Backends",
        "Publishing events to rooms, API keys, and the model registry.",
    ),
    ("/api/models", "Backends", ""),
    ("/api/admin/api-keys", "Backends", ""),
    ("/api/admin/webhooks", "Webhooks", "Events for your systems; see docs/webhooks.md."),
    ("/api/admin", "Administration", "For administrators, and partly for API keys."),
    ("/", "Operation", "For monitoring, and this reference."),
)
"""Tags: prefix of the path, name, description. The first match applies."""

PATH_PARAMETERS: dict[str, str] = {
    "passkey_id": "`id` of a passkey, as `GET /api/auth/passkeys` gives it",
    "session_id": "`id` of a login session, as `GET /api/sessions` gives it",
    "channel_id": "`id` of a channel, as `GET /api/channels` gives it",
    "key_id": "`id` of an API key, as `GET /api/admin/api-keys` gives it",
    "model_id": "the name of a model, percent-encoded",
    "provider": "the name of a provider, as `GET /api/oauth/providers` gives it",
    "webhook_id": "`id` of a webhook, as `GET /api/admin/webhooks` gives it",
    "delivery_id": "`id` of a delivery, as `GET …/deliveries` gives it",
    "invitation_id": "`id` of an invitation, as `GET /api/admin/invitations` gives it",
    "user_id": "`id` of an account, as `GET /api/admin/users` gives it",
}

DESCRIPTION = """\
Bodies are JSON, and times are epoch seconds. A request is authenticated by an access token in
`Authorization`, or by the cookie that a browser received. An unsafe request with the cookie needs
the server's own or an allowed `Origin`, or `Sec-Fetch-Site: same-origin`. Some calls also accept an
API key in `Authorization`, if it has the required scope. Errors are problem documents (RFC 9457)
with a machine-readable `code`."""


def openapi_document(routes: Routes, about: About) -> Json:
    """Generate the OpenAPI 3.1 document of these routes and of the socket's handshake."""
    schemas = Schemas()
    problem = schemas.of(Problem)
    paths: Json = {path: _path_item(path, handler, schemas) for path, handler in routes}
    paths[SOCKET_PATH] = {"get": _socket()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Usher",
            "version": about.version,
            "description": _as_one_line(DESCRIPTION),
        },
        "servers": [{"url": about.public_url}],
        "tags": [{"name": name, "description": text} for _, name, text in TAGS if text],
        "paths": paths,
        "webhooks": {type_: {"post": webhook(type_, schemas)} for type_ in EVENT_DATA},
        "components": {
            "schemas": schemas.components,
            "securitySchemes": security_schemes(about),
            "responses": {
                "Problem": {
                    "description": "Any other error.",
                    "content": {PROBLEM_TYPE: {"schema": problem}},
                }
            },
        },
    }


def operations(handler: type[RequestHandler]) -> dict[str, Operation]:
    """The operations of a handler by method, in lower case."""
    found = {method: getattr(handler, method) for method in METHODS}
    return {m: f.operation for m, f in found.items() if hasattr(f, "operation")}


# ---- one operation -------------------------------------------------------------------------


def _path_item(path: str, handler: type[RequestHandler], schemas: Schemas) -> Json:
    item: Json = {}
    names = re.findall(r"{(\w+)}", path)
    if names:
        item["parameters"] = [_path_parameter(name) for name in names]
    for method, described in operations(handler).items():
        item[method] = _operation(path, method, described, schemas)
    return item


def _operation(path: str, method: str, described: Operation, schemas: Schemas) -> Json:
    result: Json = {
        "operationId": f"{method}{re.sub('[^a-z]+', '_', path).rstrip('_')}",
        "tags": [_tag(path)],
        "summary": described.summary,
        "security": security(described),
    }
    parameters = [
        {"name": name, "in": place, "description": text, "schema": {"type": "string"}}
        for place, named in (("query", described.query), ("header", described.headers))
        for name, text in named.items()
    ]
    if parameters:
        result["parameters"] = parameters
    if described.body is not None:
        content = {"application/json": {"schema": schemas.of(described.body)}}
        result["requestBody"] = {"required": True, "content": content}
    if described.form:
        fields = {
            name: {"type": "string", "description": text} for name, text in described.form.items()
        }
        schema = {"type": "object", "required": list(fields), "properties": fields}
        content = {"application/x-www-form-urlencoded": {"schema": schema}}
        result["requestBody"] = {"required": True, "content": content}
    result["responses"] = _responses(method, described, schemas)
    return result


def _responses(method: str, described: Operation, schemas: Schemas) -> Json:
    good: Json = {"description": "Done."}
    if described.answer is not None:
        content = {described.media_type: {"schema": schemas.of(described.answer)}}
        good = {"description": "The answer.", "content": content}
    if 300 <= described.status < 400:
        good = {
            "description": "A redirect of the browser.",
            "headers": {"Location": {"required": True, "schema": {"type": "string"}}},
        }
    refused = _refused(_refusals(method, described))
    if described.media_type == "text/html" and described.answer is None:
        for response in refused.values():  # somebody navigated here, and reads it
            response["content"] = {"text/html": {"schema": {"type": "string"}}}
    responses = {str(described.status): good, **refused}
    if described.ok_answer is not None:
        content = {described.media_type: {"schema": schemas.of(described.ok_answer)}}
        responses["200"] = {"description": "The answer that was asked for.", "content": content}
    if described.accepts:
        content = {described.media_type: {"schema": schemas.of(Accepted)}}
        responses["202"] = {"description": "Done in the background.", "content": content}
    if described.unready is not None:
        content = {described.media_type: {"schema": schemas.of(described.unready)}}
        responses["503"] = {"description": "Not ready; the body says why.", "content": content}
    return responses | {"default": {"$ref": "#/components/responses/Problem"}}


def _refusals(method: str, described: Operation) -> set[type[UsherError]]:
    """The errors of a call: its own, and those of its parameters."""
    errors = set(described.errors)
    if described.body is not None or described.form:
        errors |= {BadRequest, TooLarge, Unavailable}
    if described.query:
        errors.add(BadRequest)
    if described.access != "anyone":
        errors |= {Unauthenticated, TokenExpired}
    if described.access not in ("anyone", "user"):
        errors.add(Forbidden)
    if described.access in KEY_SCOPES:
        errors.add(RateLimited)  # API keys that are none, of one address
    if described.shows is not None:
        errors.add(Unavailable)
    if method != "get":
        errors.add(OriginRefused)
    return errors


def _refused(errors: Iterable[type[UsherError]]) -> Json:
    by_status: dict[int, dict[str, str]] = {}
    for error in errors:
        by_status.setdefault(error.status, {})[error.code] = error.title
    return {str(status): _refusal(status, by_status[status]) for status in sorted(by_status)}


def _refusal(status: int, titles: dict[str, str]) -> Json:
    codes = sorted(titles)
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    return {
        "description": " ".join(f"`{code}`: {titles[code]}" for code in codes),
        "content": {PROBLEM_TYPE: {"schema": {"allOf": [{"$ref": REF + "Problem"}, narrowed]}}},
    }


# ---- parts ---------------------------------------------------------------------------------


def _socket() -> Json:
    errors: set[type[UsherError]] = {
        BadRequest,
        Unauthenticated,
        TokenExpired,
        OriginRefused,
        RateLimited,
    }
    return {
        "operationId": "get_ws",
        "tags": [_tag(SOCKET_PATH)],
        "summary": "Open a WebSocket (RFC 6455, version 13).",
        "description": (
            "A foreign `Origin` is refused before any credential is looked at. Only a bad "
            "`Authorization` header is refused by HTTP; a bad credential of another kind is an "
            "accepted socket that is closed at once with a code, as a browser cannot see an HTTP "
            "status. Without a credential the socket waits for `user-join`."
        ),
        "security": [{name: []} for name in ("bearer", "subprotocol", "ticket", "cookie")] + [{}],
        "parameters": [
            {
                "name": "Sec-WebSocket-Protocol",
                "in": "header",
                "description": "`usher.v1`, the only one that is ever echoed",
                "schema": {"type": "string"},
            }
        ],
        "responses": {
            "101": {"description": "The socket is open."},
            **_refused(errors | {UpgradeRequired, Unavailable}),
        },
    }


def _path_parameter(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": PATH_PARAMETERS[name],
        "schema": {"type": "string", "pattern": f"^{segment(name)}$"},
    }


def _tag(path: str) -> str:
    return next(name for beginning, name, _ in TAGS if path.startswith(beginning))


def _as_one_line(text: str) -> str:
    return text.replace("\n", " ")
