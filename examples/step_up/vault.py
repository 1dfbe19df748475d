"""A room that asks for a fresh proof: one socket goes in, falls out by itself, and goes in again.

    pip install websockets
    USHER_STEP_UP_SECONDS=10 make run
    python examples/step_up/vault.py http://127.0.0.1:8888

It signs somebody new up, opens a channel with `step_up`, and stays on one socket all the time. The
proof of a sign-in counts for STEP_UP_SECONDS. Once it is over the server takes the socket out of
the room, and the program proves again who it is: by its password here, by a code or a passkey where
the account has a second factor.
"""

import asyncio
import json
import secrets
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import websockets

PASSWORD = "a quiet heron at dusk 7"


class Account:
    """Somebody's login session: what it asks by HTTP, and its newest access token."""

    def __init__(self, server: str) -> None:
        self.server, self.token = server, ""

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON that a call answers with."""
        request = urllib.request.Request(self.server + path, json.dumps(body).encode())
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def sign_up(self) -> None:
        """Somebody new, signed in."""
        email = f"{secrets.token_hex(8)}@example.org"
        body = {"email": email, "password": PASSWORD, "name": "Ada", "client": "native"}
        self.token = self.post("/api/auth/signup", body)["access_token"]

    def step_up(self) -> None:
        """Prove again who it is. The session stays, the new token has a new `auth_time`."""
        self.token = self.post("/api/auth/step-up", {"password": PASSWORD})["access_token"]


class Line:
    """One socket."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket

    async def ask(self, event: str, data: dict[str, Any]) -> Any:
        """Send an event, and return its reply."""
        await self.socket.send(json.dumps({"event": event, "id": 1, "data": data}))
        return await self.next("reply")

    async def next(self, event: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next frame of a kind; the others are passed over."""
        while True:
            frame = json.loads(await self.socket.recv())
            if frame["event"] == event and fits(frame.get("data")):
                return frame


async def main(server: str) -> None:
    """Go in, fall out, and go in again."""
    account = Account(server)
    account.sign_up()
    room = "channel:" + account.post("/api/channels", {"name": "vault", "step_up": True})["id"]
    url = server.replace("http", "ws", 1) + "/ws"
    protocols = [websockets.Subprotocol(p) for p in ("usher.v1", f"usher.bearer.{account.token}")]
    async with websockets.connect(url, subprotocols=protocols) as socket:
        line = Line(socket)
        joined = await line.next("joined")
        print("in, by the sign-in just made:", room in joined["data"]["rooms"])
        await line.next("access-changed", lambda data: room not in data["rooms"])
        print("out: the proof has ended")
        refused = await line.ask("message", {"room": room, "data": "still there?"})
        print("refused:", refused["error"]["code"])
        await asyncio.to_thread(account.step_up)
        await line.ask("token-refresh", {"token": account.token})
        await line.next("access-changed", lambda data: room in data["rooms"])
        print("in again, on the same socket")
        said = await line.ask("message", {"room": room, "data": "here I am"})
        print("said:", said["ok"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://127.0.0.1:8888"))
