"""Sign in, open a socket, join a room, say hello, and listen until the socket is closed.

pip install websockets
USHER_PASSWORD=… python join.py http://127.0.0.1:8888 ada@example.org channel:ID
"""

import asyncio
import json
import os
import sys
import urllib.request

import websockets


def sign_in(server: str, email: str) -> str:
    """Returns the access token. A real app keeps the refresh token too, and renews with it."""
    body = {"email": email, "password": os.environ["USHER_PASSWORD"], "client": "native"}
    request = urllib.request.Request(
        f"{server}/api/auth/login", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        signed_in = json.load(answer)
    print("signed in as", signed_in["user"]["name"], flush=True)
    return str(signed_in["access_token"])


async def talk(server: str, token: str, room: str) -> None:
    url = "ws" + server.removeprefix("http") + "/ws"
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(url, additional_headers=headers) as socket:
        try:
            async for text in socket:
                frame = json.loads(text)
                for answer in answers(frame, room):
                    await socket.send(json.dumps(answer))
        except websockets.ConnectionClosedError:
            pass  # any code but 1000 and 1001
        print("closed", socket.close_code, socket.close_reason)


def answers(frame: dict[str, object], room: str) -> list[dict[str, object]]:
    """What to send on a frame of the server."""
    match frame:
        case {"event": "joined"}:
            return [{"event": "join", "id": 1, "data": {"room": room}}]
        case {"event": "reply", "ok": False, "error": {"code": code}}:
            print("refused", code, flush=True)
        case {"event": "reply", "id": 1}:
            print("joined", room, flush=True)
            return [{"event": "message", "id": 2, "data": {"room": room, "data": "hello"}}]
        case {"event": "message", "data": {"data": said}}:
            print("received", said, flush=True)
        case {"event": "closing", "data": {"code": code, "reason": reason, "retry": retry}}:
            print(f"closing {code} {reason}, retry: {retry}", flush=True)
    return []


if __name__ == "__main__":
    server, email, room = sys.argv[1:]
    asyncio.run(talk(server.rstrip("/"), sign_in(server, email), room))
