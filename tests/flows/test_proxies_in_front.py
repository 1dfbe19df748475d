"""docs/proxies: nginx and HAProxy with TLS, in front of two nodes."""

from __future__ import annotations

import asyncio
import http.client
import re
import secrets
import signal
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from websockets import ConnectionClosed, InvalidStatus
from websockets.asyncio.client import ClientConnection
from websockets.sync.server import ServerConnection, serve

from services.metrics import Metrics
from services.settings.table import SETTINGS
from services.sockets.keepalive import PING_SECONDS, SILENCE_SECONDS
from tests.support.databases import kinds, on_postgresql
from tests.support.postgres import postgres_server
from tests.support.proxies import (
    OTHER_CLIENT,
    OUTER_PROXY,
    Front,
    Installation,
    configuration,
    find,
    installation,
    joins_on,
    post_from,
    trusting,
)
from tests.support.redis_forms import certificate
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    ROOT,
    Client,
    Usher,
    address,
    ask,
    bearer,
    close_code,
    connect,
    event,
    free_port,
    log_in,
    sign_up,
    wait_until,
)
from tests.support.tools import first_of

database_kind = kinds("postgresql")  # a proxy sees no SQL

KINDS = ("nginx", "haproxy")
COOKIES = {"__Host-access_token", "__Secure-refresh_token", "__Secure-device"}
MADE_UP = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=203.0.113.9",
    "X-Real-IP": "203.0.113.9",
}
IDLE = {
    "nginx": {"proxy_read_timeout 90s": "proxy_read_timeout 1s"},
    "haproxy": {"timeout tunnel 90s": "timeout tunnel 1s"},
}
CHAINED = {
    "nginx": {"X-Forwarded-For $remote_addr": "X-Forwarded-For $proxy_add_x_forwarded_for"},
    "haproxy": {"set-header X-Forwarded-For": "add-header X-Forwarded-For"},
}
"""What the files tell to write where another proxy stands before this one."""


@pytest.fixture(scope="module", params=KINDS)
def place(
    request: pytest.FixtureRequest, database_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp(request.param)
    with installation(request.param, database_kind, folder) as running:
        yield running


@asynccontextmanager
async def on_each_node(
    place: Installation, client: Client
) -> AsyncIterator[dict[Usher, ClientConnection]]:
    """A socket on every node, each opened through the proxy with a ticket."""
    found: dict[Usher, ClientConnection] = {}
    async with AsyncExitStack() as stack:
        while len(found) < len(place.nodes):
            before = {node: joins_on(node) for node in place.nodes}
            socket = await connect(place.server, f"?ticket={client.ticket()}")
            await event(socket, "joined")
            stack.push_async_callback(socket.close)
            node = next(node for node in place.nodes if joins_on(node) > before[node])
            if node in found:  # the other one has just come back, and is not asked yet
                await socket.close()
                await asyncio.sleep(0.2)
            found.setdefault(node, socket)
        yield found


# ---- HTTP --------------------------------------------------------------------------------------


def test_a_user_signs_up_and_gets_cookies_that_only_https_carries(place: Installation) -> None:
    ada = sign_up(place.server, browser=True)
    assert set(ada.cookies) == COOKIES
    answer = ada.get("/api/auth/me")
    assert (answer.status, answer.body) == (200, ada.user)
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert ada.post("/api/auth/refresh").status == 200


def test_every_cookie_that_is_set_is_secure(place: Installation) -> None:
    body = {"email": address(), "password": PASSWORD, "name": "Ada"}
    answer = Client(place.server, browser=True).post("/api/auth/signup", body)
    cookies = answer.headers.get_all("Set-Cookie") or []
    assert {cookie.partition("=")[0] for cookie in cookies} == COOKIES
    assert all(re.search("; Secure", cookie, re.IGNORECASE) for cookie in cookies)


def test_a_foreign_page_is_refused_by_http_too(place: Installation) -> None:
    ada = sign_up(place.server, browser=True)
    for origin in ("https://evil.example", place.front.url.replace("https", "http")):
        assert ada.post("/api/auth/logout", Origin=origin).status == 403
    assert ada.get("/api/auth/me").status == 200


def test_plain_http_only_leads_to_https(place: Installation) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", place.front.plain_port, timeout=PATIENCE)
    connection.request("GET", "/static/app.js?a=b", headers={"Host": "evil.example"})
    answer = connection.getresponse()
    assert answer.status == 308
    assert answer.headers["Location"] == "https://usher.example/static/app.js?a=b"
    connection.close()


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/metrics?x=1"])
def test_what_is_for_the_inside_is_not_shown_outside(place: Installation, path: str) -> None:
    assert Client(place.server).get(path).status == 404
    assert Client(place.nodes[0]).get(path).status == 200


def test_a_body_over_64_kib_is_refused_and_one_below_reaches_usher(place: Installation) -> None:
    where = place.front.url.removeprefix("https://")
    connection = http.client.HTTPSConnection(
        where, timeout=PATIENCE, context=ssl.create_default_context()
    )
    # Its length is enough. Who goes on sending may find the line closed before the answer is read.
    connection.putrequest("POST", "/api/auth/login")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(64 * 1024 + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    answer = Client(place.server).post("/api/auth/login", b" " * (64 * 1024))
    assert (answer.status, answer.body["code"]) == (400, "bad_request")


# ---- whose address counts ----------------------------------------------------------------------


def seen_from(place: Installation, source: str, url: str, forwarded: str) -> str:
    """The address that a sign-up from there is listed with."""
    body = {"email": address(), "password": PASSWORD, "name": "Ada", "client": "native"}
    headers = MADE_UP | {"X-Forwarded-For": forwarded}
    status, answer = post_from(source, url, "/api/auth/signup", body, headers)
    assert status == 201
    (session,) = Client(place.server, answer["access_token"]).get("/api/sessions").body["items"]
    return str(session["ip"])


def test_the_clients_address_counts_and_a_forged_one_does_not(place: Installation) -> None:
    assert seen_from(place, OTHER_CLIENT, place.front.url, "203.0.113.9") == OTHER_CLIENT
    assert seen_from(place, OTHER_CLIENT, place.front.url, "127.0.0.1, 203.0.113.9") == OTHER_CLIENT


def test_a_client_that_gets_at_a_node_itself_cannot_choose_its_address(
    place: Installation,
) -> None:
    assert seen_from(place, OTHER_CLIENT, place.nodes[0].url, "203.0.113.9") == OTHER_CLIENT


def test_only_the_headers_of_the_trusted_outer_proxy_count(place: Installation) -> None:
    with place.other_front(CHAINED[place.kind]) as front:
        url = front.url
        assert seen_from(place, OUTER_PROXY, url, "203.0.113.9, 198.51.100.7") == "198.51.100.7"
        assert seen_from(place, OTHER_CLIENT, url, "198.51.100.7") == OTHER_CLIENT


# ---- sockets -----------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("way", ["header", "subprotocol", "ticket", "cookie", "user-join"])
async def test_a_socket_opens_with_each_kind_of_credential(place: Installation, way: str) -> None:
    ada = sign_up(place.server, browser=way == "cookie")
    query = ""
    options: dict[str, Any] = {"subprotocols": ["usher.v1"]}
    if way == "header":
        options["additional_headers"] = {"Authorization": f"Bearer {ada.token}"}
    elif way == "subprotocol":
        options["subprotocols"] = bearer(ada.token)
    elif way == "ticket":
        query = f"?ticket={ada.ticket()}"
    elif way == "cookie":
        cookies = "; ".join(f"{name}={value}" for name, value in ada.cookies.items())
        options |= {"origin": place.front.origin, "additional_headers": {"Cookie": cookies}}
    async with connect(place.server, query, **options) as socket:
        assert socket.subprotocol == "usher.v1"
        if way == "user-join":
            joined = (await ask(socket, "user-join", {"auth": {"token": ada.token}}))["data"]
        else:
            joined = await event(socket, "joined")
        assert joined["user"]["id"] == ada.user["id"]
        assert (await ask(socket, "heartbeat"))["ok"]


@pytest.mark.gen_test
async def test_refusals_come_through_as_they_are(place: Installation) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(place.server, additional_headers={"Authorization": "Bearer wrong"})
    assert refused.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        await connect(place.server, origin="https://evil.example")
    assert refused.value.response.status_code == 403
    async with connect(place.server, "?ticket=wrong") as socket:
        assert (await event(socket, "closing"))["code"] == 4401
        assert await close_code(socket) == 4401
    answer = Client(place.server).call("GET", "/ws", headers={"Upgrade": "h2c"})
    assert answer.status == 426


@pytest.mark.gen_test
async def test_messages_pass_up_to_the_limit_and_beyond_it_end_with_1009(
    place: Installation,
) -> None:
    ada = sign_up(place.server)
    async with connect(place.server, subprotocols=bearer(ada.token)) as socket:
        await event(socket, "joined")
        for _ in range(20):
            assert (await ask(socket, "heartbeat", {"pad": "x" * 65_000}))["ok"]
        await socket.send("x" * (64 * 1024 + 1))
        assert await close_code(socket) == 1009


@pytest.mark.gen_test
async def test_a_message_is_delivered_from_one_node_to_the_other(place: Installation) -> None:
    ada = sign_up(place.server)
    room = f"channel:{ada.post('/api/channels', {'name': 'herons'}).body['id']}"
    async with on_each_node(place, ada) as sockets:
        here, there = sockets.values()
        sent = await ask(here, "message", {"room": room, "data": "hello"})
        assert sent["ok"], sent
        assert (await event(there, "message"))["data"] == "hello"


@pytest.mark.gen_test
async def test_a_logout_closes_the_sockets_of_both_nodes(place: Installation) -> None:
    ada = sign_up(place.server)
    other = log_in(place.server, _email_of(ada))
    async with on_each_node(place, ada) as sockets, on_each_node(place, other) as others:
        started = asyncio.get_running_loop().time()
        assert ada.post("/api/auth/logout").status == 204
        codes = await asyncio.gather(*map(close_code, sockets.values()))
        assert codes == [4410, 4410]
        assert asyncio.get_running_loop().time() - started < 3.0
        for socket in others.values():
            assert (await ask(socket, "heartbeat"))["ok"]


# ---- a node goes -------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    ("how", "code"),
    first_of([(signal.SIGTERM, 1012), (signal.SIGKILL, 1006)], 1),
    ids=["stopped", "killed"],
)
async def test_when_a_node_stops_its_clients_reconnect_to_the_other(
    place: Installation, how: signal.Signals, code: int
) -> None:
    ada = sign_up(place.server)
    gone, stays = place.nodes
    tickets = []
    try:
        async with on_each_node(place, ada) as sockets:
            gone.process.send_signal(how)
            if code == 1012:
                closing = await event(sockets[gone], "closing")
                assert closing["retry"] == "backoff"
                assert 0 < closing["after"] <= 5
            assert await close_code(sockets[gone]) == code
            for _ in range(6):  # at once, while the proxy may still think that the node is there
                tickets.append(_ticket(ada))
                async with connect(place.server, f"?ticket={tickets[-1]}") as socket:
                    await event(socket, "joined")
            assert (await ask(sockets[stays], "heartbeat"))["ok"]
    finally:
        gone.end()
        gone.restart()
    async with on_each_node(place, ada):
        pass  # the node that is back gets its share again
    wait_until(lambda: place.front.log().count("/ws") >= len(tickets))
    assert [ticket for ticket in tickets if ticket in place.front.log()] == []


def _ticket(client: Client) -> str:
    """A ticket; asked for again where the proxy had sent the question to the node that is gone. It
    says 502 then, and rightly does not repeat a POST by itself."""
    answers = [client.post("/api/ws/ticket")]
    while answers[-1].status == 502 and len(answers) < 20:
        time.sleep(0.1)
        answers.append(client.post("/api/ws/ticket"))
    assert answers[-1].status == 201, answers[-1]
    return str(answers[-1].body["ticket"])


def readiness(node: Usher) -> int:
    return Client(node).get("/readyz").status


@on_postgresql  # SQLite's file does not go away
@pytest.mark.gen_test(timeout=60)
async def test_with_the_database_gone_sockets_stay_and_joins_continue(place: Installation) -> None:
    """HAProxy learns from /readyz that no node is ready, and goes on; nginx does not ask."""
    ada, postgres = sign_up(place.server), postgres_server()
    async with on_each_node(place, ada) as sockets:
        before = len(place.front.log())
        postgres.kill()
        try:
            wait_until(lambda: [readiness(node) for node in place.nodes] == [503, 503])
            if place.kind == "haproxy":
                down = r"Server usher/node[12] is DOWN"
                wait_until(lambda: len(set(re.findall(down, place.front.log()[before:]))) == 2)
            for socket in sockets.values():
                assert (await ask(socket, "heartbeat"))["ok"]
            for _ in place.nodes:
                async with connect(place.server, subprotocols=bearer(ada.token)) as socket:
                    await event(socket, "joined")
        finally:
            postgres.start()
    wait_until(lambda: [readiness(node) for node in place.nodes] == [200, 200])


# ---- what is written down ----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_no_query_string_lies_in_a_log(place: Installation) -> None:
    ada, words = sign_up(place.server), [secrets.token_hex(8) for _ in range(3)]
    marker = f"/marker-{secrets.token_hex(4)}"
    ticket = ada.ticket()
    async with connect(place.server, f"?ticket={ticket}") as socket:
        await event(socket, "joined")
    async with connect(place.server, f"?ticket={words[0]}") as socket:
        assert await close_code(socket) == 4401
    Client(place.server).get(f"/oauth/google/callback?code={words[1]}")
    Client(place.server).get(f"{marker}?{words[2]}")
    wait_until(lambda: marker in place.front.log())
    log = place.front.log()
    assert "GET /ws " in log
    assert [word for word in (ticket, *words, "?") if word in log] == []


def test_with_no_node_left_no_ticket_lies_in_a_log(place: Installation) -> None:
    ports = [free_port(), free_port()]
    front, ticket = Front(place.kind, place.tls, ports, free_port()), secrets.token_hex(8)
    try:
        for path in ("/ws", "/oauth/google/callback"):
            answer = Client(front.as_server).get(f"{path}?ticket={ticket}")
            assert answer.status in {502, 503}
        wait_until(lambda: "GET /ws " in front.log())
        assert ticket not in front.log()
    finally:
        front.close()


# ---- silence -----------------------------------------------------------------------------------


@contextmanager
def pinging_every(seconds: float | None) -> Iterator[int]:
    """A server that says nothing but pings; returns its port."""

    def wait_for_the_end(socket: ServerConnection) -> None:
        with pytest.raises(ConnectionClosed):
            socket.recv()

    server = serve(wait_for_the_end, "127.0.0.1", 0, ping_interval=seconds, compression=None)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("interval", "lives"), [(0.3, True), (None, False)])
async def test_pings_alone_keep_a_socket_open_and_without_them_the_limit_cuts(
    kind: str, interval: float | None, lives: bool, tmp_path: Path
) -> None:
    """On a second in place of the 90: it is this line that decides, and a ping begins it anew."""
    find(kind)
    tls = certificate(tmp_path)
    with trusting(tls[0]), pinging_every(interval) as port:
        front = Front(kind, tls, [port, port], free_port(), IDLE[kind])
        try:
            async with connect(front.as_server, ping_interval=None) as socket:
                ended = asyncio.ensure_future(socket.wait_closed())
                await asyncio.wait({ended}, timeout=3.0 if lives else PATIENCE)
                assert ended.done() is not lives
        finally:
            front.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_waits_longer_than_usher_itself(kind: str) -> None:
    """Who answers pings is never cut, and who does not is dropped by Usher and not by the proxy:
    at the latest with the first round of pings (each up to a tenth late) after its silence."""
    limits = re.findall(
        r"^\s*(?:proxy_read_timeout|proxy_send_timeout|timeout tunnel) (\d+)s",
        configuration(kind),
        re.MULTILINE,
    )
    assert len(limits) == (2 if kind == "nginx" else 1)
    assert all(int(limit) > SILENCE_SECONDS + 1.1 * PING_SECONDS for limit in limits)


# ---- the document ------------------------------------------------------------------------------


def test_every_metric_and_setting_that_the_guide_names_exists() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    exposed = Metrics().expose().decode()
    metrics = set(re.findall(r"\busher_[a-z_]+\b", guide))
    assert len(metrics) > 8
    of_processes = {
        "usher_process_up",
        "usher_process_restarts_total",
    }  # tests/flows/test_processes.py
    named = sorted(metrics - of_processes)
    assert [name for name in named if f"# TYPE {_family(name)} " not in exposed] == []
    settings = set(re.findall(r"\bUSHER_([A-Z_]+)\b", guide))
    assert {"PUBLIC_URL", "TRUSTED_PROXIES"} <= settings
    # USHER_OAUTH_<NAME>_…: tests/docs/test_docs_oauth.py knows what may stand there.
    known = {setting.name for setting in SETTINGS}
    known |= {setting.file_name for setting in SETTINGS if setting.secret}
    assert settings - {"OAUTH_"} <= known


def _family(name: str) -> str:
    """The metric that a series belongs to."""
    return re.sub("_(bucket|count|sum)$", "", name)


def _email_of(client: Client) -> str:
    return str(client.get("/api/auth/me").body["email"])
