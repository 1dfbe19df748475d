"""The servers: how each is started, and what a client says to it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure_fanout import DATA
from benchmarks.servers import ROOT
from benchmarks.ws_load import HANDSHAKE_KEY, TEXT, Address, handshake, masked_frame

USHER, PICOWS = "usher", "picows"
PYTHON = Path(os.environ.get("PEERS_VENV", ROOT / ".venv-peers")) / "bin" / "python"
NODE_FOLDER = ROOT / "benchmarks" / "peers" / "node"
ASKED = {"event": "heartbeat", "id": 12345}


@dataclass(frozen=True)
class Opening:
    """What opens one socket.

    Attributes:
        upgrade: the opening handshake.
        greeting: what the frame that ends the join holds.
        hello: the frame that the server's first frame is answered with; empty for none.
    """

    upgrade: bytes
    greeting: bytes
    hello: bytes = b""


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class Plain:
    """JSON in text frames, and the token in the subprotocol: Usher's events, and the others'."""

    answered = b'"ok":true'

    def opening(self, address: Address, token: str, origin: str) -> Opening:
        return Opening(handshake(address, token, origin=origin), b'"joined"')

    def request(self) -> bytes:
        """The frame of a request."""
        return masked_frame(TEXT, compact(ASKED).encode())

    def message(self, room: str) -> bytes:
        """The frame of a message to a room."""
        event = {"event": "message", "id": 7, "data": {"room": room, "data": DATA}}
        return masked_frame(TEXT, compact(event).encode())


class SocketIo(Plain):
    """Engine.IO 4 over WebSocket: `0` opens, `40` connects with the token, `42` is an event."""

    def opening(self, address: Address, token: str, origin: str) -> Opening:
        host = f"{address[0]}:{address[1]}"
        lines = (
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Origin: http://{host}",
            f"Sec-WebSocket-Key: {HANDSHAKE_KEY}",
            "Sec-WebSocket-Version: 13",
        )
        upgrade = ("\r\n".join(lines) + "\r\n\r\n").encode()
        return Opening(
            upgrade, b"40{", masked_frame(TEXT, f"40{compact({'token': token})}".encode())
        )

    def request(self) -> bytes:
        return masked_frame(TEXT, f"4212345{compact(['heartbeat', ASKED])}".encode())

    def message(self, room: str) -> bytes:
        event = ["message", {"room": room, "data": DATA}]
        return masked_frame(TEXT, f"42{compact(event)}".encode())


@dataclass(frozen=True)
class Subject:
    """A server.

    Attributes:
        name: in results and options.
        title: in tables.
        command: what starts it; empty for Usher.
        dialect: what a client says to it.
        packages: whose versions are shown.
    """

    name: str
    title: str
    command: tuple[str, ...]
    dialect: Plain
    packages: tuple[str, ...]

    @property
    def tells_memory(self) -> bool:
        """Whether it is asked for its memory (SIGUSR2), instead of reading what is resident."""
        return self.command[:1] == ("node",)


def _python(module: str) -> tuple[str, ...]:
    return (str(PYTHON), "-m", f"benchmarks.peers.servers.{module}")


def _node(file: str) -> tuple[str, ...]:
    return ("node", "--expose-gc", str(NODE_FOLDER / file))


SUBJECTS = (
    Subject(USHER, "Usher", (), Plain(), ("tornado", "uvloop")),
    Subject(
        PICOWS,
        "picows, leanest job",
        _python("picows_server"),
        Plain(),
        ("picows", "uvloop"),
    ),
    Subject("ws", "Node ws", _node("ws.js"), Plain(), ("ws",)),
    Subject("socket.io", "Node socket.io", _node("socketio.js"), SocketIo(), ("socket.io",)),
    Subject(
        "fastapi",
        "FastAPI",
        _python("fastapi_server"),
        Plain(),
        ("fastapi", "uvicorn", "websockets", "uvloop"),
    ),
    Subject(
        "tornado",
        "plain Tornado",
        _python("tornado_server"),
        Plain(),
        ("tornado", "uvloop"),
    ),
    Subject(
        "python-socketio",
        "python-socketio",
        _python("socketio_server"),
        SocketIo(),
        ("python-socketio", "uvicorn", "websockets"),
    ),
    Subject(
        "channels",
        "Django Channels",
        _python("channels_server"),
        Plain(),
        ("channels", "Django", "uvicorn", "websockets"),
    ),
)
