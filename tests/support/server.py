"""A real Usher in a process of its own, and what a client of it needs: HTTP and WebSockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import queue
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from services.settings.settings import DATABASE_FILE
from tests.support.databases import postgres_template
from tests.support.postgres import postgres_server
from tests.support.preloaded import start_server

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a quiet heron at dusk 7"
ROOMY = {
    f"LIMIT_{name}": 0
    for name in ("SIGNUPS", "WRONG_SIGNINS", "SIGNINS", "REFRESHES", "TICKETS", "MAILS")
}
"""All tests of a process come from one address; those of the limits set their own."""
TORNADO = "sqlite-through-tornado"
LOWEST_PORT = 10_000
"""Of those that tests choose."""
SHARES = 16
"""Of these ports: one for each worker, of which there are fewer (tests/conftest.py)."""
_TURNS = itertools.count(secrets.randbelow(2**20))
PATIENCE = 20.0
"""Seconds that anything may take on a busy machine before a test gives up."""
ANSWER_PATIENCE = 3 * PATIENCE
"""The same for an HTTP answer: the last of a hundred that hash a password waits for all of them."""


class Usher:
    """`server.py` as a user starts it, on a free port and in a folder of its own.

    Args:
        database: "sqlite" for the one it makes itself in DATA_DIR, TORNADO for the same with
            sockets through Tornado's handler, "postgresql" for one of its own without a row; or
            the DATABASE_URL of one that stays when it is closed.
        settings: `USHER_` variables without the prefix.
    """

    from_scratch = False
    """Whether it has a Python of its own; otherwise it is forked by one that has imported it
    (preloaded.py)."""

    program: Sequence[str] = ()
    """The command that starts it, if it is not server.py of this repository."""

    def __init__(self, database: str, **settings: object) -> None:
        self._stack = ExitStack()
        if database == TORNADO:
            database = "sqlite"
            settings.setdefault("WEBSOCKET", "tornado")
        self.data_dir = Path(tempfile.mkdtemp(prefix="usher-t-"))
        self._stack.callback(shutil.rmtree, self.data_dir, ignore_errors=True)
        self.database_url = f"sqlite:///{self.data_dir / DATABASE_FILE}"
        assert "DATABASE_URL" not in settings, "say it as `database`"
        if database != "sqlite":
            if database == "postgresql":
                copy = postgres_server().copy(postgres_template())
                database = self._stack.enter_context(copy)
            settings["DATABASE_URL"] = self.database_url = database
        chosen: dict[str, object] = {"PORT": 0, "DATA_DIR": self.data_dir, **ROOMY, **settings}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("USHER_")}
        self.environment |= {f"USHER_{name}": str(value) for name, value in chosen.items()}
        self.url = ""
        """Where it listens."""
        self.origin = ""
        """The origin of PUBLIC_URL, or the same."""
        self.pages = ""
        """The URL on the start screen, and the base of links in mails."""
        self.output: list[str] = []
        """What it wrote so far, stdout and stderr."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self.process = start_server(
            self.environment, from_scratch=self.from_scratch, program=self.program
        )
        ready: queue.Queue[dict[str, str]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(ready,), daemon=True)
        self._reader.start()
        try:
            # Each of several processes imports the server anew: forks are not its way.
            reported = ready.get(
                timeout=PATIENCE * int(self.environment.get("USHER_PROCESSES", "1"))
            )
        except queue.Empty:
            self.process.kill()
            reported = {}
        assert reported, "it did not start:\n" + "".join(self.output)
        # Behind another name the start screen says where the node itself listens.
        self.url = reported.get("Listens", reported["Open"])
        self.pages = reported["Open"]
        by_default = "USHER_PUBLIC_URL" not in self.environment
        self.origin = self.url if by_default else "/".join(reported["Open"].split("/")[:3])

    def _read(self, ready: queue.Queue[dict[str, str]]) -> None:
        assert self.process.stdout is not None
        reported: dict[str, str] = {}
        for line in self.process.stdout:
            self.output.append(line)
            if match := re.match(r"\s+(Open|Listens)\s+(http\S+)", line):
                reported[match[1]] = match[2]
            if "Stop with" in line:
                ready.put(reported)
        ready.put({})

    @property
    def through_tornado(self) -> bool:
        """Whether its sockets are served by Tornado's handler."""
        return self.environment.get("USHER_WEBSOCKET") == "tornado"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def ws(self) -> str:
        """The URL of the socket."""
        return f"ws{self.url[4:]}/ws"

    @property
    def log(self) -> str:
        return "".join(self.output)

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and start it again on the same folder and port."""
        self.environment["USHER_PORT"] = str(self.port)
        self.end(how)
        self.url = self.origin = ""
        self._start()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            status = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._reader.join(timeout=PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def close(self) -> None:
        with self._stack:
            self.end()


def free_port() -> int:
    """A port that nobody listens on just now. The system gives it to no connection, which could be
    in the way before it is used, or while whoever listens on it is started again. No other worker
    of pytest-xdist chooses it, and this one gives it again only after hundreds of others."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    each = (_first_given() - LOWEST_PORT) // SHARES
    lowest = LOWEST_PORT + each * (worker % SHARES)
    while True:
        port = lowest + next(_TURNS) % each
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _first_given() -> int:
    """The lowest port that the system gives to connections."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    except OSError:  # not Linux: as IANA has it
        return 49_152
    return max(LOWEST_PORT + 1000, int(text.split()[0]))


@contextmanager
def usher(database: str, **settings: object) -> Iterator[Usher]:
    """A server for one test, with a database and settings of its own."""
    server = Usher(database, **settings)
    try:
        yield server
    finally:
        server.close()


class UsherFromScratch(Usher):
    """The same where the start of the process belongs to what is tested."""

    from_scratch = True


@contextmanager
def usher_from_scratch(database: str, **settings: object) -> Iterator[Usher]:
    """A server that `python server.py` started."""
    server = UsherFromScratch(database, **settings)
    try:
        yield server
    finally:
        server.close()


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: Message
    text: bytes
    body: Any = None

    def __post_init__(self) -> None:
        if self.text and "json" in self.headers.get("Content-Type", ""):
            self.body = json.loads(self.text)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like others: the test says where to go."""

    def redirect_request(self, *_: Any) -> None:
        return None


def any_certificate() -> ssl.SSLContext:
    """TLS of a client that looks at no certificate; tests/flows/test_tls.py does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_OPENER = urllib.request.build_opener(
    _NoRedirects, urllib.request.HTTPSHandler(context=any_certificate())
)


@dataclass
class Client:
    """One HTTP client, native (a bearer token) or a browser (cookies and an Origin)."""

    server: Usher
    token: str | None = None
    refresh_token: str | None = None
    user: dict[str, Any] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    browser: bool = False

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request. `body`: bytes as they are, anything else as JSON."""
        sent: dict[str, str] = {}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        if self.browser:
            sent["Origin"] = self.server.origin
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if body is not None:
            sent["Content-Type"] = "application/json"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent |= headers or {}
        request = urllib.request.Request(
            self.server.url + path, data=data, method=method, headers=sent
        )
        try:
            with _OPENER.open(request, timeout=ANSWER_PATIENCE) as response:
                answer = Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                answer = Answer(error.code, error.headers, error.read())
        self._keep_cookies(answer)
        return answer

    def _keep_cookies(self, answer: Answer) -> None:
        for header in answer.headers.get_all("Set-Cookie") or ():
            for name, morsel in SimpleCookie(header).items():
                if not morsel.value:  # a cookie of ours is never empty but to be taken away
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, body, headers)

    def ticket(self) -> str:
        answer = self.post("/api/ws/ticket")
        assert answer.status == 201, answer
        return str(answer.body["ticket"])


def address() -> str:
    """An e-mail address that nobody has."""
    return f"{secrets.token_hex(8)}@example.org"


def sign_up(server: Usher, *, browser: bool = False, email: str | None = None) -> Client:
    """Somebody new, signed in."""
    client = Client(server, browser=browser)
    body = {"email": email or address(), "password": PASSWORD, "name": "Ada"}
    _take(client, client.post("/api/auth/signup", body | {"client": _kind(browser)}), 201)
    return client


def log_in(server: Usher, email: str, *, browser: bool = False, password: str = PASSWORD) -> Client:
    """Another login session of somebody."""
    client = Client(server, browser=browser)
    body = {"email": email, "password": password, "client": _kind(browser)}
    _take(client, client.post("/api/auth/login", body), 200)
    return client


def _kind(browser: bool) -> str:
    return "browser" if browser else "native"


def _take(client: Client, answer: Answer, status: int) -> None:
    assert answer.status == status, (answer.status, answer.text)
    client.user = answer.body["user"]
    client.token = answer.body.get("access_token")
    client.refresh_token = answer.body.get("refresh_token")


def new_token(client: Client) -> str:
    """A fresh access token of the same login session."""
    answer = Client(client.server).post(
        "/api/auth/refresh", {"refresh_token": client.refresh_token}
    )
    assert answer.status == 200, answer
    client.token, client.refresh_token = answer.body["access_token"], answer.body["refresh_token"]
    return str(client.token)


# ---- sockets, with the `websockets` library as a client of its own kind ---------------------


def connect(server: Usher, query: str = "", **options: Any) -> Any:
    """`async with connect(server) as socket`: a socket as a foreign client opens it."""
    return websockets.connect(
        server.ws + query, proxy=None, open_timeout=PATIENCE, compression=None, **options
    )


def bearer(token: str | None) -> list[Any]:
    """The subprotocols of way 2."""
    return ["usher.v1", f"usher.bearer.{token}"]


async def receive(socket: ClientConnection) -> dict[str, Any]:
    """The next frame."""
    message = await _within(socket.recv())
    frame = json.loads(message)
    assert isinstance(frame, dict)
    return frame


async def event(socket: ClientConnection, name: str) -> Any:
    """The data of the next event of this name; others are passed over."""
    while (frame := await receive(socket))["event"] != name:
        pass
    return frame["data"]


async def ask(socket: ClientConnection, name: str, data: Any = None) -> dict[str, Any]:
    """Send an event with an id and give its reply."""
    frame_id = secrets.token_hex(4)
    await socket.send(json.dumps({"event": name, "id": frame_id, "data": data or {}}))
    while True:
        frame = await receive(socket)
        if frame["event"] == "reply" and frame["id"] == frame_id:
            return frame


async def close_code(socket: ClientConnection) -> int:
    """Read to the end; returns the code that the server closed with."""
    try:
        while True:
            await _within(socket.recv())
    except websockets.ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else 1006


async def _within(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE)


def wait_until(condition: Any, seconds: float = PATIENCE) -> None:
    """Wait for something outside this process to come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)
