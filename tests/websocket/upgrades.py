"""Handshakes at a server of both forms: a user, and how a handshake or socket is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.raw import (
    SECRET,
    Headers,
    RawClient,
    Response,
    ending_of,
    handshake,
    quiet_usher,
)
from tests.support.server import Client, Usher, log_in, sign_up

ALLOWED = "https://app.example"
UNAUTHENTICATED = {"code": 4401, "reason": "unauthenticated", "retry": "login"}
BAD_REQUEST = {"code": 4400, "reason": "bad_request", "retry": "never"}
EXPIRED = {"code": 4419, "reason": "token_expired", "retry": "refresh"}
UNAVAILABLE = {"code": 4503, "reason": "unavailable", "retry": "backoff"}


@pytest.fixture(scope="module")
def instance(socket_kind: str) -> Iterator[Usher]:
    settings = {"ALLOWED_ORIGINS": ALLOWED, "MESSAGE_RATE": 10_000}
    with quiet_usher(socket_kind, JWT_SECRETS=SECRET, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def ada(instance: Usher) -> Client:
    """A native client."""
    return sign_up(instance, email="ada@example.org")


@pytest.fixture(scope="module")
def ada_in_a_browser(instance: Usher, ada: Client) -> Client:
    """Another login session of the same user."""
    return log_in(instance, "ada@example.org", browser=True)


def answer(server: Usher, request: bytes) -> Response:
    """The HTTP response, after which the connection has to be closed."""
    with RawClient(server) as client:
        client.send(request)
        response = client.response()
        assert client.is_at_end(), response
        return response


def refused(server: Usher, headers: Headers = (), target: str = "/ws") -> Response:
    """A handshake that is refused by HTTP, with a problem document."""
    response = answer(server, handshake(target, headers))
    assert response.status >= 400, response
    assert response.problem["status"] == response.status
    assert response.headers["connection"].endswith("close")
    assert response.headers["cache-control"] == "no-store"
    return response


def closing(
    server: Usher, headers: Headers = (), target: str = "/ws", then: bytes = b""
) -> dict[str, object]:
    """The data of `closing` of a socket that is accepted only to be closed."""
    end = ending_of(server, headers, target, then)
    assert len(end.events) == 1, end
    assert (end.code, end.reason) == (end.closing["code"], end.closing["reason"])
    return dict(end.closing)


def waits_for_user_join(server: Usher, headers: Headers, token: str | None) -> None:
    """Nothing was looked at: the socket is open, and `user-join` decides."""
    with RawClient(server) as client:
        client.upgrade("/ws", headers)
        assert client.ask("user-join", {"auth": {"token": token}})["ok"] is True
