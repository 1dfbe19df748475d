"""How the OpenAPI document describes credentials."""

from __future__ import annotations

from handlers.operations import KEY_SCOPES, USERS_MAY, Operation
from handlers.reference.schemas import About, Json


def security(described: Operation) -> list[Json]:
    """The security requirements of an operation: any one of them is enough."""
    if described.shows == "refresh":
        return [{"refresh_cookie": []}, {}]  # or in the body
    if described.shows != "access":
        return []
    if described.access in ("anyone", "user"):
        return [{"bearer": []}, {"cookie": []}]
    # OpenAPI 3.1 section 4.8.30: the roles that are needed. A key's scope is one.
    roles = [] if described.access in USERS_MAY else ["admin"]
    choices: list[Json] = [{"bearer": roles}, {"cookie": roles}]
    return choices + [{"api_key": [scope]} for scope in KEY_SCOPES.get(described.access, ())]


def security_schemes(about: About) -> Json:
    """The security schemes of all operations."""
    return {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "api_key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "usher_key_…",
            "description": "From `POST /api/admin/api-keys`; good for the calls of its scopes.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": about.access_cookie,
            "description": "The access token, set by a sign-in from a browser. HttpOnly.",
        },
        "refresh_cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": about.refresh_cookie,
            "description": "The refresh token, set by a sign-in from a browser. HttpOnly.",
        },
        "ticket": {
            "type": "apiKey",
            "in": "query",
            "name": "ticket",
            "description": "From `POST /api/ws/ticket`; opens one socket.",
        },
        "subprotocol": {
            "type": "apiKey",
            "in": "header",
            "name": "Sec-WebSocket-Protocol",
            "description": "`usher.v1, usher.bearer.<access token>`",
        },
    }
