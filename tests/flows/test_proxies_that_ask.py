"""docs/proxies: nginx (auth_request) and Caddy (forward_auth), in front of an app without code for
Usher."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.storage.encryption import generate_key
from tests.support.asking_proxies import Front, app, front, reload
from tests.support.databases import empty_database, kinds
from tests.support.proxies import find
from tests.support.redis import RealRedis
from tests.support.server import (
    Answer,
    Client,
    Usher,
    ask,
    bearer,
    close_code,
    connect,
    event,
    free_port,
    sign_up,
    usher,
    wait_until,
)

database_kind = kinds("postgresql")  # a proxy sees no SQL

KINDS = ("nginx", "caddy")
FORGED = {
    "X-Usher-User-Id": "root",
    "X-Usher-User-Name": "Root",
    "X-Usher-Role": "admin",
    "X-Usher-Session-Id": "x",
    "X-Usher-Other": "x",
}


class Place:
    """An app, two nodes of one Usher, and a proxy that asks the first one."""

    def __init__(self, kind: str, nodes: list[Usher], url: str, app_port: int) -> None:
        self.kind, self.nodes, self.url, self.app_port = kind, nodes, url, app_port
        self.admin = self.person()

    def person(self) -> Client:
        """Somebody new, signed in through the proxy by a browser."""
        client = sign_up(self.nodes[0], browser=True)
        client.server = self.server
        return client

    @property
    def server(self) -> Any:
        return Front(self.url)


@pytest.fixture(scope="module", params=KINDS)
def place(
    request: pytest.FixtureRequest, database_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    kind, port = request.param, free_port()
    _ = find(kind)
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        redis = RealRedis()
        stack.callback(redis.close)
        settings = {
            "REDIS_URL": redis.url,
            "JWT_SECRETS": "one secret that both of the nodes have in common",
            "ENCRYPTION_KEYS": generate_key().reveal(),
            "PUBLIC_URL": url,
            "TRUSTED_PROXIES": "127.0.0.1",
            "APP_AUDIENCES": "shop",
        }
        database = stack.enter_context(
            empty_database(database_kind, tmp_path_factory.mktemp("ask"))
        )
        nodes = [stack.enter_context(usher(database, **settings)) for _ in range(2)]
        app_port = stack.enter_context(app())
        stack.enter_context(front(kind, port, nodes[0].port, app_port))
        yield Place(kind, nodes, url, app_port)


def get(client: Client, **headers: str) -> Answer:
    return client.call("GET", "/app/x", None, headers)


def test_the_app_gets_the_caller_and_clients_cannot_forge_it(place: Place) -> None:
    ada = place.person()
    for headers in ({}, FORGED):
        answer = ada.call("GET", "/app/x?a=b", None, headers)
        assert answer.status == 200, answer.text
        reported = answer.body["headers"]
        assert reported["x-usher-user-id"] == ada.user["id"]
        assert reported["x-usher-user-name"] == "Ada"
        assert reported["x-usher-role"] == "user"
        (session,) = ada.get("/api/sessions").body["items"]
        assert reported["x-usher-session-id"] == session["id"]


def test_without_a_credential_nothing_reaches_the_app(place: Place) -> None:
    for headers in ({}, FORGED, {"Authorization": "Bearer x"}, {"Cookie": "access_token=x"}):
        answer = Client(place.server).call("GET", "/app/x", None, headers)
        assert answer.status == 401
        assert b"headers" not in answer.text


def test_a_body_reaches_the_app_and_another_sites_page_does_not(place: Place) -> None:
    ada = place.person()
    answer = ada.call("POST", "/app/x", b"hello")
    assert (answer.status, answer.body["method"], answer.body["body"]) == (200, "POST", "hello")
    foreign = {"Origin": "https://evil.example"}
    for method in ("POST", "DELETE"):
        assert ada.call(method, "/app/x", b"x", foreign).status == 403
        # The client's own word for the method does not count.
        lie = foreign | {"X-Forwarded-Method": "GET"}
        assert ada.call(method, "/app/x", b"x", lie).status == 403
    ada.browser = False
    assert ada.call("POST", "/app/x", b"x").status == 403
    assert ada.call("POST", "/app/x", b"x", {"Sec-Fetch-Site": "same-origin"}).status == 200
    assert get(ada, Origin="https://evil.example").status == 200, "a GET changes nothing"


def test_a_handshake_of_another_site_does_not_reach_the_app(place: Place) -> None:
    ada = place.person()
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert get(ada, **handshake).status == 200
    assert get(ada, **handshake | {"Origin": "https://evil.example"}).status == 403


def test_a_bearer_token_is_accepted_too(place: Place) -> None:
    native = sign_up(place.nodes[1])
    native.server = place.server
    answer = native.call("POST", "/app/x", b"x")
    assert (answer.status, answer.body["headers"]["x-usher-user-id"]) == (200, native.user["id"])


def test_after_a_logout_on_the_other_node_the_token_is_refused(place: Place) -> None:
    ada = place.person()
    assert get(ada).status == 200
    elsewhere = Client(place.nodes[1], cookies=dict(ada.cookies), browser=True)
    assert elsewhere.post("/api/auth/logout").status == 204
    assert get(ada).status == 401


def test_usher_itself_is_reached_at_the_same_place(place: Place) -> None:
    ada = place.person()
    assert ada.get("/api/auth/me").body == ada.user
    assert ada.post("/api/auth/logout").status == 204
    assert b"<html" in Client(place.server).get("/").text.lower()
    assert Client(place.server).get("/api/auth/verify").status == 401
    assert Client(place.server).get("/usher-verify").status == 404


# ---- Caddy alone -------------------------------------------------------------------------------


@contextmanager
def other_caddy(
    place: Place, usher_port: int, more: Mapping[str, str] | None = None
) -> Iterator[tuple[Any, Path]]:
    """A Caddy of one test: where it is, for clients, and its folder."""
    port = free_port()
    with front("caddy", port, usher_port, place.app_port, more) as folder:
        yield Front(f"http://127.0.0.1:{port}"), folder


@pytest.mark.gen_test
@pytest.mark.parametrize("place", ["caddy"], indirect=True)
async def test_no_credential_lies_in_caddys_log(place: Place) -> None:
    ada, nobody, code = sign_up(place.nodes[0]), free_port(), secrets.token_hex(8)
    ticket, marker = ada.ticket(), f"/marker-{secrets.token_hex(4)}"
    with other_caddy(place, place.nodes[0].port) as (caddy_, folder):
        async with connect(caddy_, subprotocols=bearer(ada.token)) as sock:
            await event(sock, "joined")
        async with connect(caddy_, f"?ticket={ticket}") as sock:
            await event(sock, "joined")
        got = await asyncio.to_thread(
            Client(caddy_).call,
            "GET",
            f"{marker}?code={code}",
            None,
            {"Referer": f"http://a/?{code}"},
        )
        assert got.status == 404
        output = folder / "output.log"
        wait_until(lambda: marker in output.read_text() and "usher.bearer" in output.read_text())
        working = output.read_text()
    # What Caddy says of a request that it could not pass on is another log.
    with other_caddy(place, nobody) as (caddy_, folder):
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Protocol": f"usher.v1, usher.bearer.{ada.token}",
        }
        path = f"/ws?ticket={ticket}"
        got = await asyncio.to_thread(Client(caddy_).call, "GET", path, None, headers)
        assert got.status == 502
        output = folder / "output.log"
        wait_until(lambda: "connection refused" in output.read_text())
        failing = output.read_text()
    for log in (working, failing):
        assert "usher.bearer.REDACTED" in log
        assert '"uri":"/ws?REDACTED"' in log
        assert [word for word in (ada.token, ticket, code) if str(word) in log] == []


@pytest.mark.gen_test
@pytest.mark.parametrize("place", ["caddy"], indirect=True)
async def test_sockets_stay_open_over_caddys_reload(place: Place) -> None:
    ada = sign_up(place.nodes[0])
    with other_caddy(place, place.nodes[0].port) as (caddy_, folder):
        async with connect(caddy_, f"?ticket={ada.ticket()}") as sock:
            await event(sock, "joined")
            await asyncio.to_thread(reload, folder)
            async with connect(caddy_, f"?ticket={ada.ticket()}") as other:  # by the new one
                await event(other, "joined")
            assert (await ask(sock, "heartbeat"))["ok"]


@pytest.mark.gen_test
@pytest.mark.parametrize("place", ["caddy"], indirect=True)
async def test_without_the_line_caddys_reload_closes_them(place: Place) -> None:
    ada, without = sign_up(place.nodes[0]), {"stream_close_delay 10m": ""}
    with other_caddy(place, place.nodes[0].port, without) as (caddy_, folder):
        async with connect(caddy_, f"?ticket={ada.ticket()}") as sock:
            await event(sock, "joined")
            await asyncio.to_thread(reload, folder)
            assert await close_code(sock) == 1001
