"""A server between a client and Usher, which plants a defect in what passes through it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
import websockets
from tornado import httpserver, netutil, web, websocket
from websockets.asyncio.client import ClientConnection
from websockets.typing import Origin, Subprotocol

from services.event_loop.tasks import end_tasks
from tests.support.server import PATIENCE

Json = dict[str, Any]
HOP_BY_HOP = frozenset(
    {"connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding"}
)
WANTED = ("Authorization", "Cookie")
BIG = 16 * 1024 * 1024


@dataclass
class Passing:
    """An HTTP response on its way to the client; a defect changes it."""

    method: str
    path: str
    sent: bytes
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Json:
        found = json.loads(self.body or b"{}")
        assert isinstance(found, dict)
        return found

    def becomes(self, status: int, body: Json) -> None:
        self.status, self.body = status, json.dumps(body).encode()


class Defect:
    """None: everything passes as it is."""

    open_house = False
    """Whether a refusal or a close of the server's becomes a socket that agrees to everything."""

    def handshake(self, headers: MutableMapping[str, str]) -> None:
        """Change the headers of an opening handshake."""

    def to_client(self, frame: Json) -> list[Json]:
        """The frames that are sent in place of one of the server's."""
        return [frame]

    def from_client(self, frame: Json) -> list[Json] | None:
        """Responses to one of the client's frames, which the server then does not get; or None."""
        return None

    def answered(self, passing: Passing, middle: Middle) -> None:
        """Change an HTTP response."""


class Middle:
    """The running server between."""

    def __init__(self, upstream: str, defect: Defect) -> None:
        self.upstream, self.defect = upstream, defect
        self.sockets: set[_Socket] = set()
        # Cookies belong to the clients: this one keeps none.
        none = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self.client = httpx.AsyncClient(
            base_url=upstream, timeout=PATIENCE, trust_env=False, cookies=none, verify=False
        )
        self.url = ""


@asynccontextmanager
async def between(upstream: str, defect: Defect) -> AsyncIterator[Middle]:
    """A server in front of the one at this URL, in this event loop."""
    middle = Middle(upstream, defect)
    routes = [("/ws", _Socket, {"middle": middle}), (".*", _Http, {"middle": middle})]
    app = web.Application(routes, websocket_max_message_size=BIG, log_function=lambda _: None)
    listening = netutil.bind_sockets(0, "127.0.0.1")
    server = httpserver.HTTPServer(app)
    server.add_sockets(listening)
    middle.url = f"http://127.0.0.1:{listening[0].getsockname()[1]}"
    try:
        yield middle
    finally:
        server.stop()
        for socket in tuple(middle.sockets):
            await socket.let_go()
        await server.close_all_connections()
        await middle.client.aclose()


class _Http(web.RequestHandler):
    def initialize(self, middle: Middle) -> None:
        self._middle = middle

    async def _forward(self) -> None:
        request = self.request
        assert request.method is not None
        headers = [(k, v) for k, v in request.headers.get_all() if k.lower() not in HOP_BY_HOP]
        answer = await self._middle.client.request(
            request.method, request.uri or "/", headers=headers, content=request.body
        )
        kept = [(k, v) for k, v in answer.headers.multi_items() if k.lower() not in HOP_BY_HOP]
        passing = Passing(
            request.method, request.path, request.body, answer.status_code, kept, answer.content
        )
        self._middle.defect.answered(passing, self._middle)
        self.set_status(passing.status)
        self.clear_header("Content-Type")
        for name, value in passing.headers:
            self.add_header(name, value)
        if passing.status not in {204, 304}:
            self.write(passing.body)

    get = post = put = patch = delete = _forward


class _Socket(websocket.WebSocketHandler):
    def initialize(self, middle: Middle) -> None:
        self._middle = middle
        self._server: ClientConnection | None = None
        self._pump: asyncio.Task[None] | None = None

    def check_origin(self, origin: str) -> bool:
        return True

    async def get(self, *args: Any, **kwargs: Any) -> None:
        sent = self.request.headers
        headers = {name: sent[name] for name in (*WANTED, "Origin") if name in sent}
        self._middle.defect.handshake(headers)
        origin = headers.pop("Origin", None)
        offered = [one.strip() for one in sent.get("Sec-WebSocket-Protocol", "").split(",")]
        try:
            self._server = await websockets.connect(
                f"ws{self._middle.upstream[4:]}{self.request.uri}",
                additional_headers=headers,
                origin=None if origin is None else Origin(origin),
                subprotocols=[Subprotocol(one) for one in offered if one] or None,
                compression=None,
                max_size=BIG,
                open_timeout=PATIENCE,
                close_timeout=1,
                ping_interval=None,
                proxy=None,
            )
        except websockets.InvalidStatus as refused:
            if not self._middle.defect.open_house:
                self._refuse(refused)
                return
        await super().get(*args, **kwargs)

    def _refuse(self, refused: websockets.InvalidStatus) -> None:
        response = refused.response
        self.set_status(response.status_code)
        for name, value in response.headers.raw_items():
            if name.lower() not in HOP_BY_HOP:
                self.set_header(name, value)
        self.write(bytes(response.body or b""))

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "usher.v1" if "usher.v1" in subprotocols else None

    def open(self, *args: str, **kwargs: str) -> None:
        self._middle.sockets.add(self)
        self._pump = asyncio.create_task(self._pass_on())

    async def on_message(self, message: str | bytes) -> None:
        if self._server is not None:
            try:
                if (said := self._instead(message)) is None:
                    await self._server.send(message)
                for frame in said or ():
                    await self._say(frame)
                return
            except websockets.ConnectionClosed:
                pass
        if self._middle.defect.open_house:
            await self._agree(message)

    def _instead(self, message: str | bytes) -> list[Json] | None:
        try:
            frame = json.loads(message)
        except ValueError:
            return None
        return self._middle.defect.from_client(frame) if isinstance(frame, dict) else None

    async def _agree(self, message: str | bytes) -> None:
        try:
            frame = json.loads(message)
        except ValueError:
            return
        if isinstance(frame, dict) and "id" in frame:
            await self._say({"event": "reply", "id": frame["id"], "ok": True, "data": {}})

    async def _pass_on(self) -> None:
        open_house, server = self._middle.defect.open_house, self._server
        if server is not None:
            try:
                async for text in server:
                    frame = json.loads(text)
                    if not (open_house and frame["event"] == "closing"):
                        for one in self._middle.defect.to_client(frame):
                            await self._say(one)
            except websockets.ConnectionClosed:
                pass
            if not open_house:
                self.close(server.close_code, server.close_reason)
                return
        await self._say({"event": "joined", "data": {}})

    async def _say(self, frame: Json) -> None:
        with suppress(websocket.WebSocketClosedError):
            await self.write_message(json.dumps(frame))

    def on_close(self) -> None:
        self._middle.sockets.discard(self)
        if self._server is not None:
            asyncio.get_running_loop().create_task(self._server.close())

    async def let_go(self) -> None:
        """End both connections."""
        await end_tasks(self._pump)
        if self._server is not None:
            await self._server.close()
        self.close()
