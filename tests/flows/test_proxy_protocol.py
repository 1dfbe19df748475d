"""The PROXY protocol from a real HAProxy, before both forms of the socket and Usher's own TLS."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.byte_proxies import FORGED, Front, listed, seen_from, signing_up
from tests.support.programs import listening
from tests.support.proxies import OTHER_CLIENT, OUTER_PROXY, find, post_from, trusting
from tests.support.raw import handshake, quiet_usher
from tests.support.redis_forms import certificate
from tests.support.server import (
    PATIENCE,
    Usher,
    bearer,
    close_code,
    connect,
    event,
    free_port,
    sign_up,
    wait_until,
)

FORMS = ("direct", "tornado")
MOST = 12
OPTIONS = "proxy-v2-options ssl,ssl-cipher,authority,crc32c"
"""Each is a TLV of version 2."""


@dataclass
class Place:
    """HAProxy as a byte-wise proxy before three servers.

    Attributes:
        nodes: "direct", "tornado", and "tls", which ends TLS itself.
        fronts: by "v1" or "v2" and the server; "none" sends no header; "plain" is without TLS.
        path: a UNIX socket on which HAProxy listens, too.
    """

    nodes: dict[str, Usher]
    fronts: dict[str, Front]
    path: Path
    log: Path


def proxy(folder: Path, nodes: dict[str, Usher], pem: Path) -> tuple[str, dict[str, Front]]:
    """HAProxy's configuration, and where it listens."""
    lines = [
        "global\n log stdout format raw local0\n maxconn 300",
        "defaults\n mode tcp\n log global\n timeout connect 5s\n timeout client 60s",
        " timeout server 60s\n timeout check 10s\n option log-health-checks",
    ]
    fronts: dict[str, Front] = {}

    def listen(name: str, node: str, how: str, *, bind: str = "", tls: bool = True) -> None:
        fronts[name] = Front(free_port())
        bind = bind or f"127.0.0.1:{fronts[name].port}"
        ends = f" ssl crt {pem} alpn http/1.1" if tls else ""
        lines.append(f"listen {name.replace(' ', '-')}\n bind {bind}{ends}")
        if "check" in how:
            lines.append(" option httpchk GET /healthz")
        lines.append(f" server node 127.0.0.1:{nodes[node].port} {how}")

    for form in FORMS:
        listen(f"v1 {form}", form, "send-proxy check")
        listen(f"v2 {form}", form, f"send-proxy-v2 {OPTIONS} check")
    listen("none", "direct", "")
    listen("tls", "tls", "send-proxy-v2", tls=False)
    listen("unix v1", "direct", "send-proxy", bind=f"unix@{folder}/v1", tls=False)
    listen("unix v2", "direct", "send-proxy-v2", bind=f"unix@{folder}/v2", tls=False)
    for form in FORMS:
        listen(f"plain {form}", form, "send-proxy-v2", tls=False)
        fronts[f"plain {form}"].scheme = "http"
    return "\n".join((*lines, "")), fronts


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    program = find("haproxy")
    folder = Path(tempfile.mkdtemp(prefix="usher-pp-"))
    cert, key = certificate(folder)
    pem = folder / "both.pem"
    pem.write_bytes(cert.read_bytes() + key.read_bytes())
    settings = {
        "PROXY_PROTOCOL": "on",
        "TRUSTED_PROXIES": f"127.0.0.1,{OUTER_PROXY}",
        "MAX_UNJOINED_PER_ADDRESS": MOST,
    }
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(trusting(cert))
        nodes = {
            form: stack.enter_context(quiet_usher("sqlite", WEBSOCKET=form, **settings))
            for form in FORMS
        }
        nodes["tls"] = stack.enter_context(
            quiet_usher("sqlite", TLS_CERTIFICATE=cert, TLS_KEY=key, **settings)
        )
        text, fronts = proxy(folder, nodes, pem)
        (folder / "haproxy.cfg").write_text(text)
        command = [program, "-db", "-f", folder / "haproxy.cfg"]
        ports = [front.port for name, front in fronts.items() if "unix" not in name]
        log = folder / "output.log"
        stack.enter_context(listening(command, log, ports))
        yield Place(nodes, fronts, folder, log)


EVERY = [f"{version} {form}" for version in ("v1", "v2") for form in FORMS]


@pytest.mark.parametrize("name", [*EVERY, "tls"])
def test_the_clients_address_counts_and_not_the_one_it_writes(place: Place, name: str) -> None:
    assert seen_from(place.fronts[name], OTHER_CLIENT) == OTHER_CLIENT


@pytest.mark.parametrize("name", ["v1 direct", "v2 tornado"])
def test_a_trusted_proxy_before_the_byte_wise_one_is_believed(place: Place, name: str) -> None:
    assert seen_from(place.fronts[name], OUTER_PROXY) == FORGED


@pytest.mark.gen_test
@pytest.mark.parametrize("name", [*EVERY, "tls"])
async def test_sockets_open_and_are_cut_as_without_it(place: Place, name: str) -> None:
    front = place.fronts[name]
    ada = sign_up(front.server)
    async with connect(front.server, subprotocols=bearer(ada.token)) as sock:
        assert (await event(sock, "joined"))["user"]["id"] == ada.user["id"]
        assert ada.post("/api/auth/logout").status == 204
        assert await close_code(sock) == 4410


@pytest.mark.parametrize("name", EVERY)
def test_the_proxys_own_health_checks_are_answered(place: Place, name: str) -> None:
    good = f"Health check for server {name.replace(' ', '-')}/node succeeded"
    wait_until(lambda: good in place.log.read_text())


def test_without_a_header_the_proxys_connection_is_closed(place: Place) -> None:
    body = signing_up()
    with pytest.raises((OSError, http.client.HTTPException)):
        post_from(OTHER_CLIENT, place.fronts["none"].url, "/api/auth/signup", body, {})
    log = place.nodes["direct"]
    wait_until(lambda: "a connection of 127.0.0.1 was closed: it does not begin" in log.log)


@pytest.mark.parametrize("node", FORMS)
def test_who_is_not_a_trusted_proxy_needs_no_header_and_cannot_use_one(
    place: Place, node: str
) -> None:
    url = place.nodes[node].url
    status, answer = post_from(
        OTHER_CLIENT, url, "/api/auth/signup", signing_up(), {"X-Forwarded-For": FORGED}
    )
    assert status == 201
    form = f"v1 {node}"
    assert listed(place.fronts[form], answer["access_token"]) == OTHER_CLIENT
    for header in (
        b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 443\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\x7f\x00\x00\x01\x13\x88\x01\xbb",
    ):
        with closing(_from(OTHER_CLIENT, place.nodes[node].port)) as sock:
            sock.sendall(header + handshake())
            sock.settimeout(PATIENCE)
            try:
                answered = sock.recv(1000)
            except ConnectionResetError:
                answered = b""
            assert not answered.startswith((b"HTTP/1.1 101", b"HTTP/1.1 2")), answered


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_where_the_proxy_knows_no_address_the_client_cannot_write_one(
    place: Place, version: str
) -> None:
    """HAProxy's own client is a UNIX socket: it sends UNKNOWN, or what version 2 has for that."""
    body = json.dumps(signing_up()).encode()
    head = (
        "POST /api/auth/signup HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"X-Forwarded-For: {FORGED}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(os.fspath(place.path / version))
        client.sendall(head.encode() + body)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        token = json.loads(answer.read())["access_token"]
        assert answer.status == 201
    assert listed(place.fronts["v1 direct"], token) == "0.0.0.0"


def _from(source: str, port: int) -> socket.socket:
    try:
        return socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
    except OSError as error:
        if "assign requested address" in str(error):
            pytest.skip(f"this system has no address {source}")
        raise


@pytest.mark.parametrize("form", FORMS)
def test_idle_connections_count_for_the_client_behind_the_proxy(place: Place, form: str) -> None:
    front = place.fronts[f"plain {form}"]
    with ExitStack() as stack:

        def refused() -> bool:
            """One more connection; whether it is refused."""
            sock = stack.enter_context(closing(_from("127.0.0.5", front.port)))
            sock.settimeout(0.1)
            try:
                return sock.recv(100).startswith(b"HTTP/1.1 429")
            except TimeoutError:
                return False

        wait_until(refused)
        assert seen_from(front, OTHER_CLIENT) == OTHER_CLIENT


def test_the_certificate_is_that_of_the_server_behind_the_proxy(place: Place) -> None:
    """The PROXY header comes before the TLS handshake, which the proxy passes on."""
    raw = _from(OTHER_CLIENT, place.fronts["tls"].port)
    with ssl.create_default_context().wrap_socket(raw, server_hostname="127.0.0.1") as tls:
        tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert tls.recv(100).startswith(b"HTTP/1.1 200")
