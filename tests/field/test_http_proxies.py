"""Envoy, Traefik, Apache httpd, lighttpd and Squid on the files of docs/proxies: docs/field.md."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from websockets import InvalidStatus

from tests.support.field_proxies import PROGRAMS, Front, seen_with
from tests.support.http2 import Http2Socket
from tests.support.nodes import Nodes, again, nodes
from tests.support.proxies import OTHER_CLIENT, post_from, trusting
from tests.support.redis_forms import certificate
from tests.support.server import (
    PASSWORD,
    Client,
    address,
    ask,
    bearer,
    close_code,
    connect,
    event,
    free_port,
    sign_up,
)

pytestmark = pytest.mark.slow

GO_OPTION = {"GODEBUG": "http2xconnect=1"}
COOKIES = {"__Host-access_token", "__Secure-refresh_token", "__Secure-device"}
WITHIN = {"envoy": {404}, "traefik": {404}, "apache": {404}, "lighttpd": {403}, "squid": {403}}
"""How each refuses what is for the inside."""
LOST = {
    "envoy": {"- upgrade_type: websocket": "- upgrade_type: other"},
    "apache": {"upgrade=websocket ": ""},
    "lighttpd": {'"upgrade" => "enable"': '"upgrade" => "disable"'},
    "squid": {"http_upgrade_request_protocols websocket allow all": ""},
}
"""Without its line for WebSockets. Traefik needs none."""
REFUSALS = {"envoy": 403, "apache": 426, "lighttpd": 426, "squid": 426}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    pair = certificate(tmp_path_factory.mktemp("field"))
    with trusting(pair[0]):
        yield pair


@pytest.fixture(scope="module")
def two() -> Iterator[Nodes]:
    """Two nodes whose PUBLIC_URL is where each proxy listens in its turn."""
    url = f"https://127.0.0.1:{free_port()}"
    with nodes("sqlite", 2, TRUSTED_PROXIES="127.0.0.1", PUBLIC_URL=url) as running:
        yield running


def started(
    kind: str, two: Nodes, tls: tuple[Path, Path], *changes: dict[str, str], port: int = 0
) -> Front:
    """A proxy before both nodes. `changes`: of its files, and its environment."""
    return Front(kind, tls, [node.port for node in two], port or free_port(), *changes)


@pytest.fixture(scope="module", params=PROGRAMS)
def front(request: pytest.FixtureRequest, two: Nodes, tls: tuple[Path, Path]) -> Iterator[Front]:
    port = int(str(two.settings["PUBLIC_URL"]).rpartition(":")[2])
    with closing(started(request.param, two, tls, port=port)) as running:
        yield running


def email_of(client: Client) -> str:
    return str(client.get("/api/auth/me").body["email"])


# ---- HTTP --------------------------------------------------------------------------------------


def test_pages_calls_and_cookies_pass(front: Front) -> None:
    ada = sign_up(front.as_server, browser=True)
    assert set(ada.cookies) == COOKIES
    assert ada.post("/api/auth/refresh").status == 200
    answer = ada.get("/api/auth/me")
    assert (answer.status, answer.body) == (200, ada.user)
    assert answer.headers.get_all("Strict-Transport-Security") == ["max-age=31536000"]
    assert ada.get("/").status == 200
    assert ada.post("/api/auth/logout", Origin="https://evil.example").status == 403
    assert ada.post("/api/auth/login", b" " * (64 * 1024)).body["code"] == "bad_request"


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/readyz?x=1"])
def test_what_is_for_the_inside_is_not_shown_outside(front: Front, path: str) -> None:
    assert Client(front.as_server).get(path).status in WITHIN[front.kind]


@pytest.mark.parametrize("forwarded", ["203.0.113.9", "127.0.0.1, 203.0.113.9"])
def test_the_clients_address_counts_and_a_forged_one_does_not(
    front: Front, two: Nodes, forwarded: str
) -> None:
    body = {"email": address(), "password": PASSWORD, "name": "Ada", "client": "native"}
    forged = {
        "X-Forwarded-For": forwarded,
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=203.0.113.9",
        "X-Real-IP": "203.0.113.9",
    }
    status, answer = post_from(OTHER_CLIENT, front.url, "/api/auth/signup", body, forged)
    assert status == 201
    (session,) = Client(two[0], answer["access_token"]).get("/api/sessions").body["items"]
    assert session["ip"] == OTHER_CLIENT


# ---- sockets -----------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_socket_opens_in_each_of_the_five_ways(front: Front) -> None:
    ada, browser = sign_up(front.as_server), sign_up(front.as_server, browser=True)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    ways: list[tuple[str, dict[str, Any]]] = [
        ("", {"additional_headers": {"Authorization": f"Bearer {ada.token}"}}),
        ("", {"subprotocols": bearer(ada.token)}),
        (f"?ticket={ada.ticket()}", {}),
        ("", {"origin": front.origin, "additional_headers": {"Cookie": cookies}}),
    ]
    for query, options in ways:
        async with connect(front.as_server, query, **options) as sock:
            await event(sock, "joined")
            assert (await ask(sock, "heartbeat"))["ok"]
    async with connect(front.as_server) as sock:
        assert (await ask(sock, "user-join", {"auth": {"token": ada.token}}))["ok"]


@pytest.mark.gen_test
async def test_refusals_come_through_as_they_are(front: Front) -> None:
    for status, options in (
        (401, {"additional_headers": {"Authorization": "Bearer wrong"}}),
        (403, {"origin": "https://evil.example"}),
    ):
        with pytest.raises(InvalidStatus) as refused:
            await connect(front.as_server, **options)
        assert refused.value.response.status_code == status
    async with connect(front.as_server, "?ticket=wrong") as sock:
        assert (await event(sock, "closing"))["code"] == 4401
        assert await close_code(sock) == 4401


@pytest.mark.gen_test
async def test_a_socket_carries_what_it_may_and_is_cut_when_its_session_ends(
    front: Front, two: Nodes
) -> None:
    ada = sign_up(front.as_server)
    other = again(two[0], email_of(ada))
    async with connect(front.as_server, subprotocols=bearer(other.token)) as sock:
        await event(sock, "joined")
        for _ in range(20):
            assert (await ask(sock, "heartbeat", {"pad": "x" * 65_000}))["ok"]
        await sock.send("x" * (64 * 1024 + 1))
        assert await close_code(sock) == 1009
    async with connect(front.as_server, subprotocols=bearer(ada.token)) as sock:
        await event(sock, "joined")
        assert other.post("/api/auth/logout").status == 204
        assert (await ask(sock, "heartbeat"))["ok"]
        assert ada.post("/api/auth/logout").status == 204
        assert await close_code(sock) == 4410


@pytest.mark.gen_test(timeout=90)
async def test_a_node_stops_and_joins_go_on_by_the_other(front: Front, two: Nodes) -> None:
    """The proxy may need a moment to see it; from then on none fails."""
    gone = two[1]
    gone.end()
    try:
        good = 0
        while good < 8:
            good = good + 1 if await joins(front, two.admin) else 0
    finally:
        gone.restart()


async def joins(front: Front, client: Client) -> bool:
    try:
        async with connect(front.as_server, subprotocols=bearer(client.token)) as sock:
            await event(sock, "joined")
    except InvalidStatus:
        return False
    return True


# ---- HTTP/2 ------------------------------------------------------------------------------------

WEBSOCKETS_IN_HTTP2: list[Any] = [
    ("envoy", {}, {}, None),
    (
        "envoy",
        {
            "use_remote_address: true": "use_remote_address: true\n          "
            "http2_protocol_options: { allow_connect: true }"
        },
        {},
        400,
    ),
    ("traefik", {}, {}, None),
    ("traefik", {}, GO_OPTION, 501),
    ("apache", {}, {}, None),
    ("lighttpd", {}, {}, 200),
]
"""Proxies, changes of their files, their environment, and the status that opens a WebSocket within
HTTP/2; None where they do not offer it, and browsers take HTTP/1.1."""


@pytest.mark.parametrize(("kind", "changes", "environment", "status"), WEBSOCKETS_IN_HTTP2)
def test_a_socket_within_http_2_opens_and_is_cut_where_it_is_offered(
    kind: str,
    changes: dict[str, str],
    environment: dict[str, str],
    status: int | None,
    two: Nodes,
    tls: tuple[Path, Path],
) -> None:
    with closing(started(kind, two, tls, changes, environment)) as front:
        ada = sign_up(two[0])
        with Http2Socket(front.port) as sock:
            assert sock.alpn == "h2"
            assert sock.offers_websockets == (status is not None)
            if status is None:
                return
            assert sock.open(f"/ws?ticket={ada.ticket()}") == status
            if status == 200:
                assert sock.event()["event"] == "joined"
                sock.lives()
                assert ada.post("/api/auth/logout").status == 204
                ending = sock.ending()
                assert (ending.code, ending.closing["code"]) == (4410, 4410)


# ---- what their files are for ------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", LOST)
async def test_without_its_line_for_websockets_none_opens(
    kind: str, two: Nodes, tls: tuple[Path, Path]
) -> None:
    with closing(started(kind, two, tls, LOST[kind])) as front:
        with pytest.raises(InvalidStatus) as refused:
            await connect(front.as_server)
        assert refused.value.response.status_code == REFUSALS[kind]


def test_without_a_line_squid_takes_the_authorization_header_away(
    two: Nodes, tls: tuple[Path, Path]
) -> None:
    with closing(started("squid", two, tls, {" login=PASSTHRU": ""})) as front:
        ada = sign_up(front.as_server)
        assert ada.get("/api/auth/me").status == 401
        assert Client(two[0], ada.token).get("/api/auth/me").status == 200


def test_envoy_by_itself_writes_its_own_address_for_a_client_on_its_machine(
    two: Nodes, tls: tuple[Path, Path]
) -> None:
    """The reason for X-Forwarded-For in envoy.yaml."""
    lost = {
        "            - header: { key: X-Forwarded-For, value: "
        '"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%" }\n'
        "              append_action: OVERWRITE_IF_EXISTS_OR_ADD\n": "",
        "skip_xff_append: true": "skip_xff_append: false",
    }
    with closing(started("envoy", two, tls, lost)) as front:
        ada = sign_up(front.as_server)
        (session,) = ada.get("/api/sessions").body["items"]
    if own_address().startswith("127."):
        pytest.skip("this machine has no other address than 127.0.0.1")
    assert not str(session["ip"]).startswith("127.")


def own_address() -> str:
    """The address of this machine's default route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@pytest.mark.gen_test
async def test_lighttpds_limit_of_requests_cuts_sockets(two: Nodes, tls: tuple[Path, Path]) -> None:
    """The reason why lighttpd.conf has no server.max-request-size."""
    seen_with("lighttpd", "lighttpd/1.4.69")
    limit = {"server.max-fds": "server.max-request-size = 64\nserver.max-fds"}
    with closing(started("lighttpd", two, tls, limit)) as front:
        async with connect(front.as_server, subprotocols=bearer(two.admin.token)) as sock:
            await event(sock, "joined")
            for _ in range(3):
                assert (await ask(sock, "heartbeat", {"pad": "x" * 20_000}))["ok"]
            await sock.send(secrets.token_hex(4000))
            assert await close_code(sock) == 1006


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", PROGRAMS)
async def test_no_credential_lies_in_a_log(kind: str, two: Nodes, tls: tuple[Path, Path]) -> None:
    words = [secrets.token_hex(8) for _ in range(3)]
    with closing(started(kind, two, tls)) as front:
        ada = sign_up(front.as_server)
        ticket = ada.ticket()
        async with connect(front.as_server, f"?ticket={ticket}") as sock:
            await event(sock, "joined")
        async with connect(front.as_server, subprotocols=bearer(ada.token)) as sock:
            await event(sock, "joined")
        async with connect(front.as_server, f"?ticket={words[0]}") as sock:
            assert await close_code(sock) == 4401
        Client(front.as_server).get(f"/oauth/google/callback?code={words[1]}")
        Client(front.as_server).call("GET", "/", None, {"Referer": f"https://a/?code={words[2]}"})
        log = front.end()
    # Of what is written at all; Traefik leaves paths out.
    assert ("usher@file" if kind == "traefik" else "/api/ws/ticket") in log
    secret = [ticket, *words, str(ada.token), str(ada.refresh_token)]
    assert [word for word in secret if word in log] == []
