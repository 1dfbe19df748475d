"""websocket/arrivals.py: both ways to a socket say the same, byte for byte."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from tornado import web
from tornado.netutil import bind_sockets

from handlers.cookies import CookieJar
from handlers.http_server import UsherServer
from handlers.request_router import RequestRouter
from handlers.websocket import arrivals as module
from handlers.websocket.arrivals import Arrival, Arrivals
from handlers.websocket.socket import ClientSocket
from handlers.websocket.upgrade import UpgradeHandler
from services.event_loop.rotation import UnderWay
from services.rooms.membership import Membership
from services.settings.origins import Origins
from services.settings.proxies import Proxies
from services.websocket.direct_connection import WebSocketConnection
from services.websocket.frames import FrameReader
from services.websocket.listener import Listener
from tests.support.databases import on_sqlite
from tests.support.parts import Parts, node, settings_of_tests
from tests.support.raw import (
    CLOSE,
    SECRET,
    Headers,
    RawClient,
    by_cookie,
    by_header,
    by_subprotocol,
    event,
    expired,
    forged,
    frame,
    handshake,
    quiet_usher,
)
from tests.support.redis import until
from tests.support.server import PATIENCE, Client, Usher, log_in, new_token, sign_up

BYE = frame(b"\x03\xe8", CLOSE)


# ---- the same bytes down both ways -----------------------------------------------------------


@pytest.fixture(scope="module")
def instance() -> Iterator[Usher]:
    settings = {"JWT_SECRETS": SECRET, "MESSAGE_RATE": 10_000, "TRUSTED_PROXIES": "127.0.0.1"}
    with quiet_usher("sqlite", **settings) as server:
        yield server


@pytest.fixture(scope="module")
def ada(instance: Usher) -> Client:
    return sign_up(instance, email="ada@example.org")


@pytest.fixture(scope="module")
def ada_in_a_browser(instance: Usher, ada: Client) -> Client:
    return log_in(instance, "ada@example.org", browser=True)


def outcome(server: Usher, head: bytes, then: bytes, in_pieces: bool = False) -> bytes:
    """All that comes back, but for what differs from run to run."""
    with RawClient(server) as client:
        back = b""
        if in_pieces:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for place in range(len(head)):
                client.send(head[place : place + 1])
            back = client.socket.recv(65536)
            if back.startswith(b"HTTP/1.1 101 "):
                client.send(then)
        else:
            client.send(head + then)
        try:
            # To a close frame: the answer to ours, or one of the server's own.
            while not re.search(rb"\x88.[\x03\x11]", back, re.DOTALL):
                if not (data := client.socket.recv(65536)):
                    break
                back += data
        except ConnectionError:
            pass
    for pattern in (rb'"session_id":"[^"]+"', rb'"expires_at":[0-9.]+', rb"Date: [^\r]+"):
        back = re.sub(pattern, b"*", back)
    return re.sub(rb"(\x81[\x00-\x7d]|\x81\x7e..)\{", b"\x81*{", back, flags=re.DOTALL)


Request = Callable[[], tuple[str, Headers]]


@pytest.fixture
def requests(instance: Usher, ada: Client, ada_in_a_browser: Client) -> dict[str, Request]:
    """Handshakes by what is presented. Each is made anew: a token holds one socket."""

    def ticket() -> str:
        return ada.ticket()

    def token() -> str | None:
        return new_token(ada)

    def cookie() -> Headers:
        return by_cookie(ada_in_a_browser)

    made: dict[str, Request] = {
        "nothing": lambda: ("/ws", []),
        "header": lambda: ("/ws", by_header(token())),
        "header, expired": lambda: ("/ws", by_header(expired(ada.token))),
        "header, forged": lambda: ("/ws", by_header(forged(ada.token, secret="x" * 32))),
        "header, of another scheme": lambda: ("/ws", [("Authorization", "Basic abc")]),
        "header, empty": lambda: ("/ws", [("Authorization", "")]),
        "subprotocol": lambda: ("/ws", by_subprotocol(token())),
        "subprotocol, expired": lambda: ("/ws", by_subprotocol(expired(ada.token))),
        "subprotocol, no token": lambda: (
            "/ws",
            [("Sec-WebSocket-Protocol", "chat, usher.v1")],
        ),
        "ticket": lambda: (f"/ws?ticket={ticket()}", []),
        "ticket, unknown": lambda: ("/ws?ticket=t.nothing", []),
        "two tickets": lambda: (f"/ws?ticket={ticket()}&ticket={ticket()}", []),
        "too many fields": lambda: ("/ws?ticket=" + "&a=b" * 40, []),
        "cookie": lambda: ("/ws", cookie()),
        "cookie of a foreign page": lambda: (
            "/ws",
            by_cookie(ada_in_a_browser, "https://evil.example"),
        ),
        "cookie without an Origin": lambda: (
            "/ws",
            [each for each in cookie() if each[0] != "Origin"],
        ),
        "Origin null": lambda: ("/ws", [("Origin", "null")]),
        "Origin empty": lambda: ("/ws", [("Origin", "")]),
        "own Origin": lambda: ("/ws", [("Origin", instance.url)]),
        "two explicit ones": lambda: (
            f"/ws?ticket={ticket()}",
            by_header(token()),
        ),
        "a bad key": lambda: ("/ws", [("Sec-WebSocket-Key", "short")]),
        "a key of 15 bytes": lambda: ("/ws", [("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAA")]),
        "a long target": lambda: ("/ws?" + "a" * 4100, []),
        "a Host with anything in it": lambda: ("/ws", [("Host", "a b/c@d")]),
        "forwarded by a proxy": lambda: ("/ws", [("X-Forwarded-For", "192.0.2.7")]),
    }
    return made


NAMES = (
    "nothing", "header", "header, expired", "header, forged", "header, of another scheme",
    "header, empty", "subprotocol", "subprotocol, expired", "subprotocol, no token", "ticket",
    "ticket, unknown", "two tickets", "too many fields", "cookie", "cookie of a foreign page",
    "cookie without an Origin", "Origin null", "Origin empty", "own Origin", "two explicit ones",
    "a bad key", "a key of 15 bytes", "a long target", "a Host with anything in it",
    "forwarded by a proxy",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_both_paths_have_the_same_result(
    instance: Usher, ada: Client, requests: dict[str, Request], name: str
) -> None:
    assert set(NAMES) == set(requests)

    def head() -> bytes:
        target, headers = requests[name]()
        return handshake(target, headers)

    def then() -> bytes:
        # What waits for user-join gets one; what has joined takes a newer token.
        return event("user-join", 1, {"auth": {"token": new_token(ada)}}) + event("heartbeat") + BYE

    plain = outcome(instance, head(), then())
    assert plain.startswith(b"HTTP/1.1 ")
    # An empty line before the request is allowed (RFC 9112 section 2.2), and not plain.
    assert outcome(instance, b"\r\n" + head(), then()) == plain
    assert outcome(instance, head(), then(), in_pieces=True) == plain


@pytest.mark.parametrize("at_once", [True, False])
def test_a_kept_connection_asks_for_a_socket_later(
    instance: Usher, ada: Client, at_once: bool
) -> None:
    first = b"GET /healthz HTTP/1.1\r\nHost: usher.test\r\n\r\n"
    second = handshake(headers=by_header(new_token(ada)))
    with RawClient(instance) as client:
        client.send(first + second if at_once else first)
        assert client.response().status == 200
        if not at_once:
            client.send(second)
        assert client.response().status == 101
        assert client.event()["event"] == "joined"


def test_behind_a_plain_handshake_nothing_is_a_request(instance: Usher) -> None:
    with RawClient(instance) as client:
        client.send(handshake() + b"GET /healthz HTTP/1.1\r\nHost: usher.test\r\n\r\n")
        assert client.response().status == 101
        assert client.ending().code == 1002  # these bytes are no frame


# ---- who takes a connection: on one database, as none of it reads a row ----------------------


class Door:
    """Arrivals of one node, a listening socket of theirs, and what they left to Tornado."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        origins = Origins("http://usher.test", "127.0.0.1", 80)
        upgrades = UpgradeHandler(parts.context, origins, CookieJar(False), Proxies())
        self.to_tornado: list[Arrival] = []
        self.turned_away: list[socket.socket] = []
        self.arrivals = Arrivals(
            upgrades,
            parts.context.unjoined,
            UnderWay(),
            self._left_to_tornado,
            self.turned_away.append,
        )
        self._listener = Listener(socket.create_server(("127.0.0.1", 0)))
        self._clients: list[socket.socket] = []
        self._accepted: list[socket.socket] = []

    def _left_to_tornado(self, arrival: Arrival, first: bytes) -> None:
        assert not first or arrival.sock.recv(len(first), socket.MSG_PEEK) == first
        self.to_tornado.append(arrival)

    def arrive(self, sent: bytes = b"") -> socket.socket:
        """A client that connects and has sent this when the connection is accepted."""
        client = socket.create_connection(self._listener.getsockname())
        client.setblocking(False)
        self._clients.append(client)
        client.sendall(sent)
        sock, address = self._listener.accept()
        self._accepted.append(sock)
        self.arrivals.accepted(sock, address)
        return client

    async def close(self) -> None:
        await self.arrivals.drain(PATIENCE)
        for sock in (self._listener, *self._clients, *self.turned_away):
            sock.close()
        for arrival in self.to_tornado:
            arrival.sock.close()
        await until(lambda: all(sock.fileno() < 0 for sock in self._accepted))


@asynccontextmanager
async def door_of(database_url: str, **settings: int) -> AsyncIterator[Door]:
    chosen = msgspec.structs.replace(settings_of_tests(), **settings)
    async with node(database_url, settings=chosen) as parts:
        instance = Door(parts)
        try:
            yield instance
        finally:
            await instance.close()


async def read(client: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    return await asyncio.wait_for(loop.sock_recv(client, 65536), PATIENCE)


@on_sqlite
@pytest.mark.gen_test
async def test_a_plain_handshake_becomes_a_socket_and_never_a_request(database_url: str) -> None:
    async with door_of(database_url) as instance:
        token = (await instance.parts.signed_in()).access_token.reveal()
        for headers in (by_subprotocol(token), []):
            client = instance.arrive(handshake(headers=headers))
            assert (await read(client)).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert len(instance.parts.hub) == 1
        assert len(instance.parts.context.unauthenticated) == 1
        assert instance.to_tornado == []


@on_sqlite
@pytest.mark.gen_test
async def test_a_closed_socket_is_freed_without_the_garbage_collector(database_url: str) -> None:
    """What waits for the collector keeps its memory, and new sockets take cold memory till then."""

    def left() -> int:
        parts = (ClientSocket, WebSocketConnection, Membership, FrameReader)
        return sum(isinstance(each, parts) for each in gc.get_objects())

    async with door_of(database_url) as instance:
        token = (await instance.parts.signed_in()).access_token.reveal()
        gc.collect()
        before = left()  # of other tests, which are still referred to
        gc.disable()
        try:
            client = instance.arrive(handshake(headers=by_subprotocol(token)))
            await until(lambda: len(instance.parts.hub) == 1)
            assert left() >= 4
            client.sendall(BYE)
            while await read(client):
                pass
            await until(lambda: left() <= before)
        finally:
            gc.enable()


@on_sqlite
@pytest.mark.gen_test
@pytest.mark.parametrize(
    "sent", [b"G", handshake()[:-1], handshake("/"), b"GET /healthz HTTP/1.1\r\n\r\n", b"\x16\x03"]
)
async def test_everything_else_is_left_to_tornado_unread(database_url: str, sent: bytes) -> None:
    async with door_of(database_url) as instance:
        instance.arrive(sent)
        (arrival,) = instance.to_tornado
        assert arrival.sock.recv(65536) == sent
        assert arrival.sock.gettimeout() == 0
        assert arrival.group == arrival.peer == "127.0.0.1"


@on_sqlite
@pytest.mark.gen_test
async def test_a_slow_first_request_is_dispatched_by_its_first_bytes(database_url: str) -> None:
    async with door_of(database_url) as instance:
        late, other, gone = instance.arrive(), instance.arrive(), instance.arrive()
        assert instance.to_tornado == []
        late.sendall(handshake())
        assert (await read(late)).startswith(b"HTTP/1.1 101 ")
        other.sendall(b"GET / HTTP/1.1\r\n")
        await until(lambda: len(instance.to_tornado) == 1)
        gone.close()
        await until(lambda: len(instance.to_tornado) == 2)
        assert [arrival.sock.recv(100) for arrival in instance.to_tornado] == [
            b"GET / HTTP/1.1\r\n",
            b"",
        ]
        await instance.arrivals.drain(1)


@on_sqlite
@pytest.mark.gen_test
async def test_a_silent_connection_is_passed_to_tornado_and_its_timeout(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.05)
    async with door_of(database_url) as instance:
        clients = [instance.arrive() for _ in range(3)]
        await until(lambda: len(instance.to_tornado) == 3)
        clients[0].sendall(handshake())  # it is nobody's here any more
        await asyncio.sleep(0.1)
        assert instance.to_tornado[0].sock.recv(65536) == handshake()


@on_sqlite
@pytest.mark.gen_test
async def test_a_connection_counts_for_its_address_until_it_has_joined(database_url: str) -> None:
    async with door_of(database_url, max_unjoined_per_address=2) as instance:
        token = (await instance.parts.signed_in()).access_token.reveal()
        for _ in range(5):  # who has joined, or was refused, counts no more
            await read(instance.arrive(handshake(headers=by_subprotocol(token))))
            await read(instance.arrive(handshake(headers=by_header("none"))))
        assert instance.turned_away == []
        instance.arrive()
        await read(instance.arrive(handshake()))
        instance.arrive()
        assert len(instance.turned_away) == 1
        await instance.arrivals.drain(1)
        instance.arrive()
        assert len(instance.turned_away) == 1


@on_sqlite
@pytest.mark.gen_test
async def test_a_stop_closes_silent_connections_and_answers_pending_checks(
    database_url: str,
) -> None:
    async with door_of(database_url) as instance:
        token = (await instance.parts.signed_in()).access_token.reveal()
        silent = instance.arrive()
        joining = instance.arrive(handshake(headers=by_subprotocol(token)))
        await instance.arrivals.drain(PATIENCE)
        assert await read(silent) == b""
        assert (await read(joining)).startswith(b"HTTP/1.1 101 ")


@on_sqlite
@pytest.mark.gen_test
async def test_a_connection_closed_during_the_credential_check_does_not_join(
    database_url: str,
) -> None:
    async with door_of(database_url) as instance:
        token = (await instance.parts.signed_in()).access_token.reveal()
        before = instance.parts.rooms.names()
        for leave in (socket.socket.close, lambda sock: sock.shutdown(socket.SHUT_WR)):
            client = instance.arrive(handshake(headers=by_subprotocol(token)))
            leave(client)
            await instance.arrivals.drain(PATIENCE)
        assert instance.parts.count("usher_joins_total", outcome="joined") == 0
        assert instance.parts.rooms.names() == before
        # With a frame behind its handshake it had something to say.
        instance.arrive(handshake(headers=by_subprotocol(token)) + BYE).shutdown(socket.SHUT_WR)
        await instance.arrivals.drain(PATIENCE)
        assert instance.parts.count("usher_joins_total", outcome="joined") == 1


@on_sqlite
@pytest.mark.gen_test
async def test_what_waited_too_long_for_its_turn_is_refused_unread_and_told_when_to_come_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OVERDUE_SECONDS", 0.0)
    async with door_of(database_url) as instance:
        token = (await instance.parts.signed_in()).access_token.reveal()
        context, shared = instance.parts.context, UnderWay()
        router = RequestRouter(web.Application([]), None, context.unjoined, shared)
        server = UsherServer(router)
        (listening,) = bind_sockets(0, "127.0.0.1")
        with socket.create_connection(listening.getsockname()) as client:
            client.setblocking(False)
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            server.add_sockets([listening])
            try:
                plain = await read(client)
            finally:
                server.stop()
        upgrade = await read(instance.arrive(handshake(headers=by_subprotocol(token))))
        for answer in (plain, upgrade):
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert int(re.findall(rb"Retry-After: ([0-9]+)\r\n", answer)[0]) == 1
        assert not len(instance.parts.hub)
        assert not shared.has_others("")
        assert instance.parts.context.unjoined.connected("127.0.0.1") is not None
