"""Requests that no call accepts, over HTTP: refused with the right status, and harmless."""

from __future__ import annotations

import asyncio
import http.client
import json

import pytest

from tests.http.credentials import credentials
from tests.support.checks import plain_refusal, problem
from tests.support.server import Client, Usher, address, sign_up


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"email": "a@example.org"}',
        b'{"email": 1, "password": "x"}',
        b'{"email": "a@example.org", "password": null}',
        b'{"email": "a@example.org", "password": ["x"]}',
        b'{"email": "a@example.org", "password": "x", "client": "toaster"}',
        b'{"email": "a@example.org", "password": "x", "client": null}',
        b'{"email": "a@example.org", "password": "\\ud800x"} x',
        b"[" * 30_000,
        b'{"email":' * 7_000,
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_invalid_json_is_a_bad_request(server: Usher, body: bytes) -> None:
    problem(Client(server).call("POST", "/api/auth/login", body), 400, "bad_request")


def test_an_error_does_not_repeat_the_request(server: Usher) -> None:
    body = b'{"email": {"x": "secret@example.org"}, "password": "hunter2hunter2"}'
    answer = Client(server).call("POST", "/api/auth/login", body)
    problem(answer, 400, "bad_request")
    assert b"secret" not in answer.text
    assert b"hunter2" not in answer.text


def test_members_that_a_call_does_not_know_are_passed_over(server: Usher) -> None:
    body = credentials(address(), name="Ada", client="native", remember=True, role="admin")
    sign_up(server)  # so that nobody here is the first
    answer = Client(server).post("/api/auth/signup", body)
    assert answer.status == 201
    assert answer.body["user"]["role"] == "user"


def test_the_caller_is_checked_before_the_body(server: Usher) -> None:
    answer = Client(server).call("POST", "/api/auth/password", b"nonsense")
    plain_refusal(answer, 401, "unauthenticated")


def test_a_huge_body_is_refused_by_its_announcement(server: Usher) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.putrequest("POST", "/api/auth/login")
        connection.putheader("Content-Length", str(10**9))
        connection.endheaders()
        answered = connection.getresponse()
        assert answered.status == 413
        assert answered.headers["Content-Type"] == "application/problem+json"
        assert json.loads(answered.read())["code"] == "too_large"
    finally:
        connection.close()


def test_a_huge_body_without_an_announcement_is_not_read_to_its_end(server: Usher) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    chunk = b"x" * 16_384
    sent = 0
    try:
        connection.putrequest("POST", "/api/auth/login")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        while sent < 64 * 1024 * 1024:
            connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            sent += len(chunk)
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        connection.close()
    assert sent < 64 * 1024 * 1024
    assert Client(server).get("/healthz").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/auth/login"),
        ("DELETE", "/api/auth/refresh"),
        ("PUT", "/api/auth/password"),
        ("GET", "/api/ws/ticket"),
        ("POST", "/api/sessions"),
        ("BREW", "/api/auth/me"),
        ("POST", "/healthz"),
    ],
)
def test_another_method_is_refused_with_those_that_are_accepted(
    server: Usher, method: str, path: str
) -> None:
    answer = Client(server).call(method, path)
    plain_refusal(answer, 405, "method_not_allowed")
    allowed = answer.headers["Allow"].split(", ")
    assert method not in allowed
    assert Client(server).call(allowed[0], path).status != 405
    assert ("HEAD" in allowed) == ("GET" in allowed)


def test_head_is_get_without_a_body(server: Usher) -> None:
    client = sign_up(server)
    got, head = client.get("/api/auth/me"), client.call("HEAD", "/api/auth/me")
    assert (head.status, head.text) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.text))
    assert Client(server).call("HEAD", "/api/auth/me").status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/api",
        "/api/",
        "/api/auth",
        "/api/auth/me/",
        "/API/AUTH/ME",
        "//api/auth/me",
        "/api/auth/me%00",
        "/api/sessions/" + "x" * 65,
        "/api/sessions/a%2fb",
        "/ws/",
        "/.env",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_route_is_not_found(server: Usher, method: str, path: str) -> None:
    plain_refusal(Client(server).call(method, path), 404, "not_found")


def test_a_thousand_invalid_requests_on_one_connection_affect_no_other(server: Usher) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        for number in range(1000):
            connection.request("POST", "/api/auth/login", b"{" * (number % 50))
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 400
    finally:
        connection.close()


@pytest.mark.gen_test
async def test_answers_are_json_in_the_encoding_of_json(server: Usher) -> None:
    body = credentials(address(), name="Ада 海 🦉", client="native")
    answer = await asyncio.to_thread(Client(server).post, "/api/auth/signup", body)
    assert answer.body["user"]["name"] == "Ада 海 🦉"
    assert json.loads(answer.text.decode("utf-8")) == answer.body
