"""The provider of a module's server, at which each test is somebody new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.provider import Provider, provider
from tests.support.server import address


@pytest.fixture(scope="module")
def shared_op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def op(shared_op: Provider) -> Iterator[Provider]:
    """The provider, with somebody new at it."""
    shared_op.user = {
        "sub": address(),
        "email": address(),
        "email_verified": True,
        "name": "Ada Lovelace",
    }
    yield shared_op
    shared_op.behave()
