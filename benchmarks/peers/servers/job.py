"""What every Python server does for a socket: one module, so that a difference is the server's.

The checks of a join: signature and expiry (HS256), revocation (a `GET` in Redis), the user among
10,000 (SQLite), the role. Then the session is written to Redis. The look-up in SQLite is done in
the event loop, without a thread: it takes 3 µs, less than a thread would.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import Any

import jwt
import redis.asyncio

PROTOCOL, BEARER = "usher.v1", "usher.bearer."
LEASE_SECONDS = 60
ROLES = ("user", "admin")
CHECKS: Any = {"require": ["exp", "sub", "sid", "jti"], "verify_aud": False, "verify_iss": False}


class Refused(Exception):
    """The socket may not join."""


@dataclass
class Person:
    """Who joined, until when, and the rooms of the socket."""

    id: str
    name: str
    expires_at: float
    session: str
    rooms: tuple[str, str]


def bearer(offered: str | None) -> str:
    """The access token among the subprotocols that the client offers."""
    for name in (offered or "").split(","):
        if name.strip().startswith(BEARER):
            return name.strip().removeprefix(BEARER)
    raise Refused


def encode(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def joined(person: Person) -> str:
    """The answer to a join."""
    data = {
        "session_id": person.session,
        "user": {"id": person.id, "name": person.name},
        "rooms": person.rooms,
        "expires_at": person.expires_at,
    }
    return encode({"event": "joined", "data": data})


def message(person: Person, room: str, data: object) -> dict[str, Any]:
    """What the members of a room are told."""
    now = time.time()
    return {
        "id": f"{now * 1000:.0f}-0",
        "room": room,
        "from": {"id": person.id, "name": person.name},
        "data": data,
        "sent_at": now,
    }


class Job:
    """The checks, and the session in Redis. Settings come from the environment, as PEER_*."""

    def __init__(self) -> None:
        self._secret = os.environ["PEER_SECRET"]
        self._room = os.environ["PEER_ROOM"]
        self._users = sqlite3.connect(os.environ["PEER_DATABASE"], check_same_thread=False)
        # The default pool raises when all of its connections are in use: when many leave at once.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            "unix://" + os.environ["PEER_REDIS"], decode_responses=True, max_connections=100
        )
        self._redis = redis.asyncio.Redis(connection_pool=pool)

    async def join(self, token: str) -> Person:
        """Check a token and write the session. Raises Refused."""
        try:
            claims = jwt.decode(token, self._secret, ["HS256"], CHECKS)
        except jwt.InvalidTokenError as error:
            raise Refused from error
        if await self._redis.get(f"revoked:{claims['jti']}") is not None:
            raise Refused
        found = self._users.execute(
            "SELECT id, name, role, disabled FROM users WHERE id = ?", (claims["sub"],)
        ).fetchone()
        if found is None or found[3] or found[2] not in ROLES:
            raise Refused
        rooms = f"user:{found[0]}", self._room
        person = Person(found[0], found[1], claims["exp"], secrets.token_urlsafe(16), rooms)
        session = encode({"user": person.id, "login": claims["sid"], "since": time.time()})
        await self._redis.set(f"session:{person.session}", session, ex=LEASE_SECONDS)
        return person

    async def leave(self, person: Person) -> None:
        """Take the session out of Redis."""
        await self._redis.delete(f"session:{person.session}")


def reply(person: Person, asked: dict[str, Any]) -> str:
    """The reply to a request; an expired token gets none."""
    if person.expires_at < time.time():
        raise Refused
    return encode({"event": "reply", "id": asked["id"], "data": {"ok": True}})


def address(port: int) -> str:
    """What the benchmark waits for on stdout."""
    return f"http://127.0.0.1:{port}"
