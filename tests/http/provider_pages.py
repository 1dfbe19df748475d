"""A server with one provider, and a browser that signs in with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.one_provider import op, shared_op
from tests.support.provider import Provider
from tests.support.server import Client, Usher, usher
from tests.support.sign_in import settings_for

__all__ = ["op", "shared_op"]

ALLOWED = "https://app.example"


@pytest.fixture(scope="module")
def server(database_kind: str, shared_op: Provider) -> Iterator[Usher]:
    with usher(database_kind, **settings_for(shared_op), ALLOWED_ORIGINS=ALLOWED) as running:
        yield running


@pytest.fixture
def browser(server: Usher) -> Client:
    return Client(server, browser=True)
