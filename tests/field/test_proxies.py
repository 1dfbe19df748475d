"""Proxies with HTTP/2 to the client, and with a node that is stopped: docs/field.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from websockets import InvalidStatus

from tests.support.asking_proxies import front
from tests.support.http2 import Http2Socket
from tests.support.nodes import Nodes, again, nodes
from tests.support.proxies import Front, find, front_url, trusting
from tests.support.redis_forms import certificate
from tests.support.server import Client, Usher, bearer, close_code, connect, event, free_port
from tests.support.tools import find_program

pytestmark = pytest.mark.slow

GO_OPTION = "http2xconnect=1"
"""Go's HTTP/2 server, and with it Caddy, offers RFC 8441 only with this in GODEBUG."""
KINDS = ("nginx", "haproxy", "caddy")
WEBSOCKETS_IN_HTTP2 = [
    ("nginx", "", False),
    ("haproxy", "", True),
    ("caddy", "", False),
    ("caddy", GO_OPTION, True),
]
"""Proxies, their GODEBUG, and whether they offer RFC 8441 to a client that speaks HTTP/2."""
HTTP2 = {
    "nginx": {" ssl;": " ssl http2;"},
    "haproxy": {"alpn http/1.1": "alpn h2,http/1.1"},
}
"""What is changed in docs/proxies for HTTP/2. Caddy speaks it by itself."""
FAILOVER = ("lb_policy", "lb_try_duration", "fail_duration")
"""The lines for several nodes, which are comments in the Caddyfile."""


@dataclass
class Through:
    """Where a proxy is: what clients ask an Usher for."""

    port: int

    @property
    def url(self) -> str:
        return front_url(self.port)

    @property
    def ws(self) -> str:
        return f"wss{self.url[5:]}/ws"

    @property
    def server(self) -> Usher:
        return cast("Usher", self)


@pytest.fixture(scope="module")
def two() -> Iterator[Nodes]:
    with nodes("sqlite", 2, TRUSTED_PROXIES="127.0.0.1") as running:
        yield running


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    pair = certificate(tmp_path_factory.mktemp("field"))
    with trusting(pair[0]):
        yield pair


@contextmanager
def proxy(
    kind: str, two: Nodes, tls: tuple[Path, Path], *, failover: bool = True
) -> Iterator[Through]:
    """A proxy with TLS and HTTP/2 before two nodes, on its file of docs/proxies."""
    port = free_port()
    if kind == "caddy":
        _ = find("caddy")
        with front("caddy", port, two[0].port, two[1].port, _caddy(port, two, tls, failover)):
            yield Through(port)
        return
    find_program(kind, kind)
    running = Front(kind, tls, [node.port for node in two], port, HTTP2[kind])
    try:
        yield Through(port)
    finally:
        running.close()


def _caddy(port: int, two: Nodes, tls: tuple[Path, Path], failover: bool) -> dict[str, str]:
    first, second = (f"127.0.0.1:{node.port}" for node in two)
    lines = {f"#   {name}": name for name in FAILOVER} if failover else {}
    return {
        "persist_config off": "persist_config off\n\tauto_https disable_redirects",
        f"http://:{port} {{": f"https://127.0.0.1:{port} {{\n\ttls {tls[0]} {tls[1]}",
        f"reverse_proxy {first} {{": f"reverse_proxy {first} {second} {{",
        **lines,
    }


def somebody(two: Nodes, through: Through) -> Client:
    """A new login session of the administrator, who signs in through the proxy."""
    client = again(two[0], str(two.admin.user["email"]))
    client.server = through.server
    return client


@pytest.mark.parametrize(("kind", "go", "offers"), WEBSOCKETS_IN_HTTP2)
def test_a_socket_within_http_2_opens_and_is_cut_where_it_is_offered(
    kind: str,
    go: str,
    offers: bool,
    two: Nodes,
    tls: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GODEBUG", go)
    with proxy(kind, two, tls) as through:
        ada = somebody(two, through)
        with Http2Socket(through.port) as sock:
            assert sock.alpn == "h2"
            assert sock.offers_websockets == offers
            if not offers:
                return
            assert sock.open(f"/ws?ticket={ada.ticket()}") == 200
            assert sock.event()["event"] == "joined"
            sock.lives()
            assert ada.post("/api/auth/logout").status == 204
            ending = sock.ending()
            assert (ending.code, ending.closing["code"]) == (4410, 4410)


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", KINDS)
async def test_clients_of_http_1_1_are_served_beside(
    kind: str, two: Nodes, tls: tuple[Path, Path]
) -> None:
    with proxy(kind, two, tls) as through:
        ada = somebody(two, through)
        async with connect(through.server, subprotocols=bearer(ada.token)) as sock:
            await event(sock, "joined")
            assert ada.post("/api/auth/logout").status == 204
            assert await close_code(sock) == 4410


async def joins(through: Through, client: Client, count: int) -> Counter[int]:
    """The statuses of so many handshakes."""
    found: Counter[int] = Counter()
    for _ in range(count):
        try:
            async with connect(through.server) as sock:
                found[sock.response.status_code] += 1
        except InvalidStatus as refused:
            found[refused.response.status_code] += 1
    return found


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("failover", [True, False])
async def test_with_a_node_stopped_caddy_needs_its_lines_for_several_nodes(
    failover: bool, two: Nodes, tls: tuple[Path, Path]
) -> None:
    with proxy("caddy", two, tls, failover=failover) as through:
        gone = two[1]
        gone.end()
        try:
            found = await joins(through, two.admin, 40)
        finally:
            gone.restart()
    assert set(found) == ({101} if failover else {101, 502}), found
