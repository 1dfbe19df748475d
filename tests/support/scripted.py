"""An Usher that does what a test says: HTTP and WebSockets on one port, for clients/contract.

Every word on a socket but the answers to heartbeats and `history` is the test's. HTTP answers as
Usher does, unless the test says otherwise. See clients/contract/README.md.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tornado import httpserver, netutil, web, websocket

from services.event_loop.tasks import end_tasks
from tests.support.server import PATIENCE

Json = dict[str, Any]
USER = {"id": "u1", "name": "Ada", "role": "user", "email": "ada@example.org"}
ROOMS = ["user:u1", "channel:tea"]
FAR_AWAY = 4_000_000_000
"""Epoch seconds: no message is older than the join."""
REFRESH, TICKET = "/api/auth/refresh", "/api/ws/ticket"


def message_id(number: int) -> str:
    return f"{FAR_AWAY}000-{number}"


def message(number: int, room: str = "channel:tea") -> Json:
    """Message `number` of a room: its data is the number."""
    someone = {"id": "u2", "name": "Bob"}
    return {
        "id": message_id(number),
        "room": room,
        "from": someone,
        "data": number,
        "sent_at": FAR_AWAY,
    }


@dataclass
class Asked:
    """An HTTP request."""

    method: str
    path: str
    host: str
    token: str
    body: Any


@dataclass
class Log:
    """What `history` finds of a room."""

    messages: list[int]
    complete: bool = True
    page: int = 100
    delay: float = 0.0
    refuse: str = ""

    def answer(self, room: str, after: str | None) -> Json:
        """The part of an answer that is this room's."""
        if self.refuse:
            return {"room": room, "error": {"code": self.refuse, "message": self.refuse}}
        known = int(after.rpartition("-")[2]) if after else 0
        left = [number for number in self.messages if number > known]
        complete = self.complete or known >= self.messages[0]
        shown = [message(number, room) for number in left[: self.page]]
        return {
            "room": room,
            "messages": shown,
            "complete": complete,
            "more": len(left) > self.page,
        }


@dataclass
class Tokens:
    """The n-th tokens are `access-n` and `refresh-n`."""

    count: int = 0
    expired: set[str] = field(default_factory=set)
    tickets: dict[str, str] = field(default_factory=dict)
    device: str = ""
    """What a sign-in makes the device known by."""
    previous: str = ""
    """The refresh token that the last refresh was asked with: good until the next is used."""

    def issue(self) -> Json:
        self.count += 1
        return {
            "user": USER,
            "access_token": f"access-{self.count}",
            "refresh_token": f"refresh-{self.count}",
            "token_type": "Bearer",
            "expires_in": 900,
            **({"device": self.device} if self.device else {}),
        }

    def expire(self) -> None:
        """Let every access token given so far be too old."""
        self.expired |= {f"access-{number + 1}" for number in range(self.count)}

    def refreshed(self, token: str) -> Json | None:
        if not token or token not in (f"refresh-{self.count}", self.previous):
            return None
        self.previous = token
        return self.issue()

    def ticket(self, access: str) -> Json:
        ticket = f"ticket-{len(self.tickets) + 1}"
        self.tickets[ticket] = access
        return {"ticket": ticket, "expires_in": 30}

    def fault(self, access: str) -> str:
        """Why an access token is refused; "" if it is not."""
        if access not in {f"access-{n + 1}" for n in range(self.count)}:
            return "unauthenticated"
        return "token_expired" if access in self.expired else ""


class _Http(web.RequestHandler):
    def initialize(self, server: ScriptedUsher) -> None:
        self.scripted = server

    async def answer(self) -> None:
        server = self.scripted
        token = self.request.headers.get("Authorization", "").removeprefix("Bearer ")
        body = json.loads(self.request.body or b"null")
        path, host = self.request.path, self.request.headers.get("Host", "")
        asked = Asked(self.request.method or "", path, host, token, body)
        server.note(lambda: server.asked.append(asked))
        said = server.answers[path].popleft() if server.answers[path] else {}
        await asyncio.sleep(said.get("delay", 0))
        if "status" in said:
            self.finish_with(said)
            return
        status, answer = server.usual(asked)
        if said.get("lose"):
            self.detach().close()
        elif isinstance(answer, str):
            self.problem(status, answer)
        else:
            self.set_status(status)
            if answer is not None:
                self.write(answer)

    get = post = put = patch = delete = answer

    def finish_with(self, said: Json) -> None:
        if "problem" in said:
            self.problem(said["status"], said["problem"])
        else:
            self.set_status(said["status"])
            self.set_header("Content-Type", said.get("type", "application/json"))
            self.write(said.get("body", {}))
        for name, value in said.get("headers", {}).items():
            self.set_header(name, value)

    def problem(self, status: int, code: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/problem+json")
        self.write(json.dumps({"status": status, "title": code, "code": code}))


class _Socket(websocket.WebSocketHandler):
    def initialize(self, server: ScriptedUsher) -> None:
        self.scripted = server
        self.token = ""
        self.join_id: Any = None
        self.frames: list[Json] = []
        self.heartbeats = 0
        self.unanswered: list[Json] = []
        """Heartbeats."""

    def check_origin(self, origin: str) -> bool:
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "usher.v1" if "usher.v1" in subprotocols else None

    async def get(self, *args: Any, **kwargs: Any) -> None:
        if self.scripted.refusals:
            self.set_status(self.scripted.refusals.popleft())
            await self.finish("<h1>This is a proxy</h1>")
            return
        await super().get(*args, **kwargs)

    def open(self, *args: str, **kwargs: str) -> None:
        headers, tickets = self.request.headers, self.scripted.tokens.tickets
        offered = headers.get("Sec-WebSocket-Protocol", "")
        bearer = [p.strip() for p in offered.split(",") if p.strip().startswith("usher.bearer.")]
        token = bearer[0].removeprefix("usher.bearer.") if bearer else ""
        token = token or headers.get("Authorization", "").removeprefix("Bearer ")
        self.token = token or tickets.get(self.get_query_argument("ticket", ""), "")
        self.scripted.note(lambda: self.scripted.sockets.append(self))
        if self.scripted.on_open is not None:
            self.join()
            for frame in self.scripted.on_open:
                self.say(frame)

    def on_message(self, text: str | bytes) -> None:
        frame = json.loads(text)
        event, data = frame["event"], frame.get("data")
        if event == "heartbeat":
            if self.scripted.mute:
                self.scripted.note(lambda: self.unanswered.append(frame))
            else:
                self._answer_heartbeat(frame)
        elif event == "history":
            asyncio.get_running_loop().create_task(self._history(frame))
        elif event == "user-join":
            token = data["auth"]["token"]
            self.join_id = frame.get("id")
            found = self.scripted.tokens.tickets.get(token, token)
            self.scripted.note(lambda: setattr(self, "token", found))
        else:
            self.scripted.note(lambda: self.frames.append(frame))

    def _answer_heartbeat(self, frame: Json) -> None:
        self.reply(frame, {"server_time": time.time()})
        self.scripted.note(self._beaten)

    def answer_heartbeats(self) -> None:
        """Those that were left unanswered."""
        while self.unanswered:
            self._answer_heartbeat(self.unanswered.pop(0))

    def _beaten(self) -> None:
        self.heartbeats += 1

    async def _history(self, frame: Json) -> None:
        data, logs = frame["data"], self.scripted.logs
        asked = data.get("rooms", [data])
        self.scripted.note(lambda: self.scripted.questions.extend(asked))
        found = [logs.get(one["room"], Log([])) for one in asked]
        await asyncio.sleep(max((log.delay for log in found), default=0))
        parts = [
            log.answer(one["room"], one.get("after")) for log, one in zip(found, asked, strict=True)
        ]
        if "rooms" in data:
            self.reply(frame, {"rooms": parts})
        elif "error" in parts[0]:
            self.refuse(frame, parts[0]["error"])
        else:
            self.reply(frame, parts[0])

    def say(self, frame: Json) -> None:
        self.say_text(json.dumps(frame))

    def say_text(self, text: str) -> None:
        if self.ws_connection is not None and not self.ws_connection.is_closing():
            self.write_message(text)

    def drop(self) -> None:
        """Cut the line: no close frame."""
        stream = getattr(self.ws_connection, "stream", None)
        assert stream is not None
        stream.close()

    def reply(self, frame: Json, data: Any) -> None:
        self.say({"event": "reply", "id": frame.get("id"), "ok": True, "data": data})

    def refuse(self, frame: Json, error: Json) -> None:
        self.say({"event": "reply", "id": frame.get("id"), "ok": False, "error": error})

    def join(self) -> None:
        user = {name: USER[name] for name in ("id", "name", "role")}
        data = {
            "session_id": "s1",
            "user": user,
            "rooms": ROOMS,
            "expires_at": time.time() + 900,
        }
        if self.join_id is None:
            self.say({"event": "joined", "data": data})
        else:
            self.reply({"id": self.join_id}, data)


class ScriptedUsher:
    """Begun by `scripted_usher`. Its methods are called from the test's thread."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.questions: list[Json] = []
        self.sockets: list[_Socket] = []
        self.answers: defaultdict[str, deque[Json]] = defaultdict(deque)
        self.logs: dict[str, Log] = {}
        self.refusals: deque[int] = deque()
        self.tokens = Tokens()
        self.mute = False
        self.on_open: list[Json] | None = None
        """Let every new socket join, with this data."""
        self.url = self.other = ""
        self.taken: Counter[str] = Counter()
        """How many requests of each path, and how many sockets, the test has seen."""
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()

    # ---- in its own thread -----------------------------------------------------------------

    def run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        handed = {"server": self}
        application = web.Application(
            [(r"/ws", _Socket, handed), (r"/.*", _Http, handed)], log_function=lambda _: None
        )
        listening = netutil.bind_sockets(0, "127.0.0.1")
        server = httpserver.HTTPServer(application)
        server.add_sockets(listening)
        port = listening[0].getsockname()[1]
        self.url, self.other = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        ready.set()
        self._loop.run_forever()
        server.stop()
        self._loop.run_until_complete(self._end(server))
        self._loop.close()

    async def _end(self, server: httpserver.HTTPServer) -> None:
        await server.close_all_connections()
        await end_tasks(*(asyncio.all_tasks() - {asyncio.current_task()}))

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def note(self, change: Callable[[], Any]) -> None:
        """Change what tests wait for."""
        with self._changed:
            change()
            self._changed.notify_all()

    def usual(self, asked: Asked) -> tuple[int, Any]:
        """What Usher answers: a status, and the body, the code of a problem, or None."""
        path, tokens = asked.path, self.tokens
        if path in ("/api/auth/login", "/api/auth/signup"):
            return (200 if path.endswith("login") else 201), tokens.issue()
        if path == REFRESH:
            answer = tokens.refreshed((asked.body or {}).get("refresh_token", ""))
            return (200, answer) if answer else (401, "unauthenticated")
        if path == "/expire":  # for programs that have no test beside them to do it
            tokens.expire()
            return 204, None
        if fault := tokens.fault(asked.token):
            return 401, fault
        good: dict[tuple[str, str], tuple[int, Any]] = {
            ("GET", "/api/auth/me"): (200, USER),
            ("POST", "/api/auth/logout"): (204, None),
            ("GET", "/api/channels"): (200, {"items": []}),
            ("POST", "/api/channels"): (201, {"id": "tea"}),
        }
        if (asked.method, path) == ("POST", TICKET):
            return 201, tokens.ticket(asked.token)
        return good.get((asked.method, path), (404, "not_found"))

    # ---- what a test waits for -------------------------------------------------------------

    def wait(self, found: Callable[[], Any], what: str) -> Any:
        """The first true value of `found`."""
        with self._changed:
            value = self._changed.wait_for(found, timeout=PATIENCE)
        assert value, f"the server never saw {what}"
        return value

    def do(self, work: Callable[[], Any]) -> None:
        """Do something on its loop, and wait until it is done."""

        async def done() -> None:
            work()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(PATIENCE)

    @property
    def newest(self) -> _Socket:
        return self.sockets[self.taken["socket"] - 1]

    def next_socket(self) -> _Socket:
        self.taken["socket"] += 1
        count = self.taken["socket"]
        self.wait(lambda: len(self.sockets) >= count and self.sockets[count - 1].token, "a socket")
        return self.sockets[count - 1]

    def of_path(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    def next_asked(self, path: str) -> Asked:
        self.taken[path] += 1
        count = self.taken[path]
        self.wait(lambda: len(self.of_path(path)) >= count, f"a request of {path}")
        return self.of_path(path)[count - 1]

    def next_frame(self, event: str) -> Json:
        frames = self.newest.frames

        def found() -> Json | None:
            return next((frame for frame in frames if frame["event"] == event), None)

        frame: Json = self.wait(found, f"a frame {event}; there are {frames}")
        frames.remove(frame)
        return frame

    def next_question(self, room: str) -> Json:
        def found() -> Json | None:
            return next((asked for asked in self.questions if asked["room"] == room), None)

        question: Json = self.wait(found, f"a question for the history of {room}")
        self.questions.remove(question)
        return question

    def unseen(self) -> list[str]:
        """Sockets and refreshes that the test has not seen."""
        sockets = ["a socket"] * (len(self.sockets) - self.taken["socket"])
        return sockets + [REFRESH] * (len(self.of_path(REFRESH)) - self.taken[REFRESH])


@contextmanager
def scripted_usher() -> Iterator[ScriptedUsher]:
    server = ScriptedUsher()
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(ready,))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield server
    finally:
        server.stop()
        thread.join()
