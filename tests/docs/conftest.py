"""On one kind of database: what the documents describe is the same on both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.documents import Json
from tests.support.databases import kinds
from tests.support.server import Client, Usher, sign_up, usher

database_kind = kinds("sqlite")


@pytest.fixture(scope="session")
def own(database_kind: str) -> Iterator[Usher]:
    """A server of these tests, with an administrator: later accounts are none."""
    with usher(database_kind) as running:
        sign_up(running)
        yield running


@pytest.fixture(scope="session")
def openapi(own: Usher) -> Json:
    document: Json = Client(own).get("/openapi.json").body
    return document


@pytest.fixture(scope="session")
def asyncapi(own: Usher) -> Json:
    document: Json = Client(own).get("/asyncapi.json").body
    return document
