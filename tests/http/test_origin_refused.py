"""A refused origin: one log line names the setting, and the response refers to the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.databases import kinds
from tests.support.raw import RawClient, handshake
from tests.support.server import Client, Usher, address, sign_up, usher, wait_until

database_kind = kinds("sqlite")  # refused before a row is read

FOREIGN = "https://app.example"
BODY = {"email": address(), "password": "a quiet heron at dusk 7", "name": "Ada"}


@pytest.fixture(scope="module")
def instance(database_kind: str) -> Iterator[Usher]:
    with usher(database_kind) as running:
        yield running


def lines(server: Usher, origin: str) -> list[str]:
    return [line for line in server.output if repr(origin) in line]


def test_the_refusal_of_a_foreign_origin_names_the_setting(instance: Usher) -> None:
    origin = "https://one.example"
    answer = Client(instance).post("/api/auth/signup", BODY, Origin=origin)
    assert (answer.status, answer.body["code"]) == (403, "origin_refused")
    assert "log" in answer.body["title"]
    assert origin not in answer.text.decode()
    wait_until(lambda: lines(instance, origin))
    (line,) = lines(instance, origin)
    assert "WARNING" in line
    assert "POST /api/auth/signup" in line
    assert "add it to USHER_ALLOWED_ORIGINS" in line


def test_a_preflight_that_gets_no_leave_is_logged_too(instance: Usher) -> None:
    origin = "https://two.example"
    answer = Client(instance).call("OPTIONS", "/api/ws/ticket", None, {"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers
    wait_until(lambda: lines(instance, origin))
    assert len(lines(instance, origin)) == 1


def test_a_socket_of_a_foreign_origin_is_one_line(instance: Usher) -> None:
    origin = "https://three.example"
    with RawClient(instance) as client:
        client.send(handshake("/ws", [("Origin", origin)]))
        assert client.response().status == 403
    wait_until(lambda: lines(instance, origin))
    (line,) = lines(instance, origin)
    assert "USHER_ALLOWED_ORIGINS" in line


def test_the_servers_own_name_is_known_by_the_host_header(instance: Usher) -> None:
    headers = {"Origin": "https://chat.example", "Host": "chat.example"}
    assert Client(instance).call("POST", "/api/auth/signup", BODY, headers).status == 403
    wait_until(lambda: lines(instance, "https://chat.example"))
    assert "set USHER_PUBLIC_URL to it" in lines(instance, "https://chat.example")[0]


def test_what_an_origin_holds_cannot_make_lines_of_its_own(instance: Usher) -> None:
    long = "https://" + "x" * 5000
    assert Client(instance).post("/api/auth/signup", BODY, Origin=long).status == 403
    wait_until(lambda: any("x" * 250 in line for line in instance.output))
    assert not any("x" * 400 in line for line in instance.output)


def test_with_the_setting_that_it_names_it_is_allowed(database_kind: str) -> None:
    with usher(database_kind, ALLOWED_ORIGINS=FOREIGN) as server:
        answer = Client(server).post("/api/auth/signup", BODY, Origin=FOREIGN)
        assert answer.status == 201
        assert not lines(server, FOREIGN)


def test_two_installations_on_one_host_do_not_share_cookies(database_kind: str) -> None:
    jar: dict[str, str] = {}
    with usher(database_kind, COOKIE_NAME_PREFIX="blue-") as blue, usher(database_kind) as plain:
        first, second = sign_up(blue, browser=True), sign_up(plain, browser=True)
        jar |= first.cookies | second.cookies  # one browser: cookies know no ports
        assert set(first.cookies) == {"blue-access_token", "blue-refresh_token", "blue-device"}
        assert len(jar) == 6
        for server, client in ((blue, first), (plain, second)):
            both = Client(server, browser=True, cookies=dict(jar))
            assert both.get("/api/auth/me").body == client.user
            assert both.post("/api/auth/logout").status == 204
            gone = {name for name in client.cookies if not name.endswith("device")}
            assert set(both.cookies) == set(jar) - gone, "a device stays known"


def test_behind_https_the_prefix_stands_behind_the_browsers_own(database_kind: str) -> None:
    settings = {"PUBLIC_URL": "https://usher.example", "COOKIE_NAME_PREFIX": "blue-"}
    with usher(database_kind, **settings) as server:
        browser = sign_up(server, browser=True)
        assert set(browser.cookies) == {
            "__Host-blue-access_token",
            "__Secure-blue-refresh_token",
            "__Secure-blue-device",
        }
        assert browser.get("/api/auth/me").status == 200
        named = Client(server).get("/openapi.json").body["components"]["securitySchemes"]
        assert named["cookie"]["name"] == "__Host-blue-access_token"
