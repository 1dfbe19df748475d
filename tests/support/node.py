"""Clients of static/usher.js in Node, and a WebSocket server that does what a test says."""

from __future__ import annotations

import itertools
import json
import os
import queue
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.support.driver_process import DriverProcess
from tests.support.server import PATIENCE, free_port
from tests.support.tools import need

DRIVER = Path(__file__).parent / "usher_driver.mjs"
STATIC = Path(__file__).parents[2] / "static"
FIRST_WITH_WEBSOCKET = 22

Message = dict[str, Any]


class Node(DriverProcess):
    """One Node process with any number of clients in it."""

    def __init__(self) -> None:
        self._clients: dict[str, JsClient] = {}
        super().__init__([*node_command(), DRIVER], os.environ | {"NODE_NO_WARNINGS": "1"})

    def hear(self, line: str) -> bool:
        """Hand a message to its client."""
        if not line.startswith('{"client"'):
            return False
        message = json.loads(line)
        self._clients[message["client"]].messages.put(message)
        return True

    def client(self, url: str, *tokens: str | int | Message | None, **options: Any) -> JsClient:
        """A client whose `getToken` gives these tokens. A number is refused with that status,
        `{"throws": text}` is thrown as an error of the page's own."""
        client = JsClient(self, f"c{len(self._clients)}")
        self._clients[client.name] = client
        given = {"baseUrl": url, "backoffMs": 20, **options}
        client.tell("new", tokens=tokens or ("a-token",), options=given)
        return client


def node_command() -> list[str | Path]:
    """Node, with what it needs to have a WebSocket."""
    program = need("the tests of usher.js need it (apt-get install nodejs)", "node")
    return [program, *_flags(program)]


def _flags(program: Path) -> list[str]:
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    match = re.match(r"v(\d+)", version.stdout)
    old = match is not None and int(match[1]) < FIRST_WITH_WEBSOCKET
    return ["--experimental-websocket"] if old else []


class JsClient:
    """One `UsherClient`. What it says is read in order; what a test does not ask for is skipped."""

    def __init__(self, node: Node, name: str) -> None:
        self.name = name
        self.messages: queue.Queue[Message] = queue.Queue()
        self.states: list[str] = []
        """The states it went through, as far as they were read."""
        self.first: dict[str, Message] = {}
        """The first message of each state, among those that were read."""
        self._node = node
        self._calls = itertools.count()

    def tell(self, do: str, **fields: Any) -> None:
        self._node.write({"client": self.name, "do": do, **fields})

    def call(self, do: str, **fields: Any) -> int:
        """Begin a call; its result comes as a message."""
        number = next(self._calls)
        self.tell(do, call=number, **fields)
        return number

    def result(self, do: str, **fields: Any) -> Any:
        """Call and wait: gives the value, or the error's fields."""
        return self.outcome(self.call(do, **fields))

    def outcome(self, call: int) -> Any:
        """What became of a call: its value, or the error's fields."""
        detail = self.next("result", lambda detail: detail["call"] == call)["detail"]
        return detail.get("value") if detail["ok"] else detail

    def next(self, kind: str, wanted: Callable[[Any], object] = lambda _: True) -> Message:
        """The next message of this kind that fits."""
        passed: list[Message] = []
        end = time.monotonic() + PATIENCE
        while True:
            try:
                message = self.messages.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind}; instead: {passed}") from None
            if message["kind"] == "state":
                self.states.append(message["detail"]["name"])
                self.first.setdefault(message["detail"]["name"], message)
            if message["kind"] == kind and wanted(message["detail"]):
                return message
            passed.append(message)

    def state(self, name: str) -> Any:
        """Wait for this state; returns its detail, and for `waiting` the `pause` in ms."""
        return _detail(self.next("state", lambda detail: detail["name"] == name))

    def first_state(self, name: str) -> Any:
        """As `state`, for the first time; it may have come among the messages that were skipped."""
        skipped = self.first.get(name)
        return self.state(name) if skipped is None else _detail(skipped)


def _detail(message: Message) -> Any:
    detail = message["detail"]
    if detail["name"] == "waiting":
        detail["pause"] = detail["retryAt"] - message["at"]
    return detail


class Link:
    """The server's side of one socket. Heartbeats are answered unless `mute` is set."""

    def __init__(self, connection: ServerConnection, *, mute: bool = False) -> None:
        assert connection.request is not None
        self.path = connection.request.path
        self.protocols = connection.request.headers.get("Sec-WebSocket-Protocol", "")
        self.frames: queue.Queue[Message] = queue.Queue()
        self.mute = mute
        self.deaf = threading.Event()
        """Set: nothing more is read, and the client's send buffer fills up."""
        self.gone = threading.Event()
        self._connection = connection

    def serve(self) -> None:
        """Read to the end."""
        try:
            for text in self._connection:
                if self.deaf.is_set():
                    self.gone.wait(timeout=PATIENCE)
                frame = json.loads(text)
                if frame["event"] != "heartbeat":
                    self.frames.put(frame)
                elif not self.mute:
                    self.reply(frame, {"server_time": time.time()})
        except ConnectionClosed:
            pass  # as the test wanted it

    def say(self, event: str, data: Any = None) -> None:
        self.write(json.dumps({"event": event, "data": data}))

    def write(self, text: str) -> None:
        self._connection.send(text)

    def reply(self, frame: Message, data: Any) -> None:
        answer = {"event": "reply", "id": frame["id"], "ok": True, "data": data}
        self.write(json.dumps(answer))

    def refuse(self, frame: Message, code: str) -> None:
        error = {"code": code, "message": code}
        answer = {"event": "reply", "id": frame["id"], "ok": False, "error": error}
        self.write(json.dumps(answer))

    def join(self) -> Link:
        user = {"id": "u1", "name": "Ada", "role": "user"}
        session = {"session_id": "s1", "user": user, "rooms": [], "expires_at": time.time() + 900}
        self.say("joined", session)
        return self

    def next(self, event: str) -> Message:
        """The next frame of the client, which has to be this event."""
        frame = self.frames.get(timeout=PATIENCE)
        assert frame["event"] == event
        return frame

    def close(self, code: int, reason: str = "") -> None:
        self._connection.close(code, reason)

    def drop(self) -> None:
        """Cut the line: no close frame."""
        self.gone.set()
        self._connection.socket.shutdown(socket.SHUT_RDWR)


class Scripted:
    """A WebSocket server whose every word is the test's."""

    def __init__(self) -> None:
        self.mute = False
        """Whether new links leave heartbeats unanswered."""
        self._links: queue.Queue[Link] = queue.Queue()
        self.server: Server = serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=["usher.v1"],  # type: ignore[list-item]
            compression=None,
            ping_interval=None,
        )
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}"

    def _serve(self, connection: ServerConnection) -> None:
        link = Link(connection, mute=self.mute)
        self._links.put(link)
        link.serve()

    def accept(self) -> Link:
        """The next socket that a client opens."""
        return self._links.get(timeout=PATIENCE)

    @property
    def waiting(self) -> int:
        """Sockets that were opened and not yet accepted."""
        return self._links.qsize()


@contextmanager
def scripted_server() -> Iterator[Scripted]:
    scripted = Scripted()
    thread = threading.Thread(target=scripted.server.serve_forever)
    thread.start()
    try:
        yield scripted
    finally:
        scripted.server.shutdown()
        thread.join()


def run_script(script: str, *, websocket: bool = True, **variables: str) -> tuple[int, str, str]:
    """Run a module in a Node of its own, with `USHER_JS` naming the folder of usher.js.

    Returns:
        The exit status, stdout and stderr.
    """
    program = need("the tests of usher.js need it (apt-get install nodejs)", "node")
    done = subprocess.run(
        [program, *(_flags(program) if websocket else []), "--input-type=module", "--eval", script],
        env={"PATH": os.environ["PATH"], "NODE_NO_WARNINGS": "1", "USHER_JS": STATIC.as_uri()}
        | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def closed_port() -> int:
    """A port on which nobody listens."""
    return free_port()
