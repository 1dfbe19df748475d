"""The provider of a module's server, at which each test is somebody new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.provider import Provider, provider
from tests.support.server import address


def new_user(op: Provider) -> None:
    """Somebody whom nobody knows yet is signed in at the provider."""
    op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Ada Lovelace"}


@pytest.fixture(scope="module")
def shared_op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def op(shared_op: Provider) -> Iterator[Provider]:
    """The provider, with somebody new at it."""
    new_user(shared_op)
    yield shared_op
    shared_op.behave()
