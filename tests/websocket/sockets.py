"""Sockets at a server of both forms: two users, a join, a refusal, and an ending."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.raw import SECRET, Ending, event, quiet_usher
from tests.support.server import Client, Usher, sign_up

KIB = 1024


@pytest.fixture(scope="module")
def installation(socket_kind: str) -> Iterator[Usher]:
    """A server for clients that say more than people do; test_message_rate.py is about the rate."""
    with quiet_usher(socket_kind, JWT_SECRETS=SECRET, MESSAGE_RATE=10_000) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(socket_kind: str) -> Iterator[Usher]:
    """A server with little patience."""
    settings = {"ACCESS_TOKEN_TTL_SECONDS": 10, "JOIN_TIMEOUT_SECONDS": 0.3}
    with quiet_usher(socket_kind, JWT_SECRETS=SECRET, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def ada(installation: Usher) -> Client:
    return sign_up(installation, email="ada@example.org")


@pytest.fixture(scope="module")
def ben(installation: Usher) -> Client:
    return sign_up(installation)


def join_frame(credential: str | None, frame_id: Any = None) -> bytes:
    return event("user-join", frame_id, {"auth": {"token": credential}})


def refusal(reply: Any, code: str) -> None:
    """The reply has to be this error, and nothing more than the contract's members."""
    assert set(reply) == {"event", "id", "ok", "error"}, reply
    assert reply["ok"] is False
    assert set(reply["error"]) == {"code", "message"}
    assert reply["error"]["code"] == code
    assert isinstance(reply["error"]["message"], str)


def ends(end: Ending, code: int, reason: str, retry: str) -> None:
    """`closing` last, then a close frame that says the same."""
    assert end.closing == {"code": code, "reason": reason, "retry": retry}
    assert (end.code, end.reason) == (code, reason)
