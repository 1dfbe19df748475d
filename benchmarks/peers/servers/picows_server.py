"""picows with the leanest form of the same job: what Python can reach.

picows (Cython, on uvloop) reads the handshake and the frames. The token is checked by hand. Redis
is reached through one connection: the commands of a turn of the loop are one write, and replies
call back. The handshake is answered before Redis replies; the answer to the join is not.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import os
import secrets
import sqlite3
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import hiredis
import msgspec
import picows
import uvloop

from benchmarks.peers.servers.job import BEARER, LEASE_SECONDS, PROTOCOL, ROLES, address

BACKLOG = 2048
READ_BUFFER_BYTES = 2048
"""The least that picows allows. With its default of 16 KiB an idle socket has 14 KiB more."""
TEXT, CLOSE = picows.WSMsgType.TEXT, picows.WSMsgType.CLOSE
Row = tuple[str, str, str, int]


class Claims(msgspec.Struct):
    """What the job needs of a token."""

    sub: str
    sid: str
    jti: str
    exp: float


class Asked(msgspec.Struct):
    """A frame of a client."""

    event: str
    id: int
    data: dict[str, Any] | None = None


class Redis(asyncio.Protocol):
    """One connection; replies come in the order of the commands."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[Callable[[object], None] | None] = deque()
        self._commands: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def ask(self, then: Callable[[object], None] | None, *command: Any) -> None:
        """Send a command with this turn's others."""
        if not self._commands:
            self._loop.call_soon(self._flush)
        self._commands.append(hiredis.pack_command(command))
        self._waiting.append(then)

    def _flush(self) -> None:
        self._transport.write(b"".join(self._commands))
        self._commands.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            then = self._waiting.popleft()
            if then is not None:
                then(reply)


class Server:
    """What all sockets share."""

    def __init__(self, store: Redis) -> None:
        self.redis = store
        self.rooms: defaultdict[str, set[Socket]] = defaultdict(set)
        self.room = os.environ["PEER_ROOM"]
        self.claims = msgspec.json.Decoder(Claims)
        self.asked = msgspec.json.Decoder(Asked)
        self._key = os.environ["PEER_SECRET"].encode()
        self._users = sqlite3.connect(os.environ["PEER_DATABASE"])

    def user(self, user_id: str) -> Row | None:
        """The row of a user."""
        found: Row | None = self._users.execute(
            "SELECT id, name, role, disabled FROM users WHERE id = ?", (user_id,)
        ).fetchone()
        return found

    def accept(self, request: Any) -> Any:
        """The signature and the expiry; a socket, or None for a refusal."""
        _, found, token = request.headers.get("Sec-WebSocket-Protocol", "").partition(BEARER)
        signed, _, signature = token.encode().rpartition(b".")
        right = base64.urlsafe_b64encode(hmac.digest(self._key, signed, hashlib.sha256))
        if not found or not hmac.compare_digest(right.rstrip(b"="), signature):
            return None
        claims = self.claims.decode(base64.urlsafe_b64decode(signed.partition(b".")[2] + b"=="))
        if claims.exp < time.time():
            return None
        answer = picows.WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": PROTOCOL})
        return picows.WSUpgradeResponseWithListener(answer, Socket(self, claims))


class Socket(picows.WSListener):
    """One socket."""

    __slots__ = ("_claims", "_rooms", "_server", "_session", "_user", "transport")

    def __init__(self, server: Server, claims: Claims) -> None:
        self._server, self._claims = server, claims
        self._rooms: tuple[str, ...] = ()

    def on_ws_connected(self, transport: Any) -> None:
        self.transport = transport
        self._server.redis.ask(self._join, "GET", "revoked:" + self._claims.jti)

    def _join(self, revoked: object) -> None:
        claims, server = self._claims, self._server
        user = server.user(claims.sub)
        if revoked is not None or user is None or user[3] or user[2] not in ROLES:
            self.transport.send_close(4401)
            self.transport.disconnect()
            return
        self._user, self._session = user, secrets.token_urlsafe(16)
        self._rooms = f"user:{user[0]}", server.room
        for room in self._rooms:
            server.rooms[room].add(self)
        session = msgspec.json.encode(
            {"user": user[0], "login": claims.sid, "since": time.time()},
        )
        server.redis.ask(None, "SET", "session:" + self._session, session, "EX", LEASE_SECONDS)
        data = {
            "session_id": self._session,
            "user": {"id": user[0], "name": user[1]},
            "rooms": self._rooms,
            "expires_at": claims.exp,
        }
        self.transport.send(TEXT, msgspec.json.encode({"event": "joined", "data": data}))

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type == TEXT:
            asked = self._server.asked.decode(frame.get_payload_as_memoryview())
            if self._claims.exp < time.time():
                transport.send_close(4401)
                return
            if asked.event == "message" and asked.data is not None:
                self._tell(asked.data)
            transport.send(TEXT, b'{"event":"reply","id":%d,"data":{"ok":true}}' % asked.id)
        elif frame.msg_type == CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _tell(self, data: dict[str, Any]) -> None:
        if data["room"] in self._rooms:
            now, user = time.time(), self._user
            message = {
                "id": f"{now * 1000:.0f}-0",
                "room": data["room"],
                "from": {"id": user[0], "name": user[1]},
                "data": data["data"],
                "sent_at": now,
            }
            told = msgspec.json.encode({"event": "message", "data": message})
            for member in self._server.rooms[data["room"]]:
                member.transport.send(TEXT, told)

    def on_ws_disconnected(self, transport: Any) -> None:
        for room in self._rooms:
            self._server.rooms[room].discard(self)
        if self._rooms:
            self._server.redis.ask(None, "DEL", "session:" + self._session)


async def main() -> None:
    """Listen until killed."""
    port = int(os.environ["PEER_PORT"])
    loop = asyncio.get_running_loop()
    _, store = await loop.create_unix_connection(Redis, os.environ["PEER_REDIS"])
    server = Server(store)
    await picows.ws_create_server(
        server.accept,
        "127.0.0.1",
        port,
        backlog=BACKLOG,
        read_buffer_init_size=int(os.environ.get("PEER_READ_BUFFER", READ_BUFFER_BYTES)),
    )
    print(address(port), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    gc.set_threshold(10_000)
    uvloop.new_event_loop().run_until_complete(main())
