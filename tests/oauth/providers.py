"""A provider by discovery: what it was asked, and tokens of its users."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from services.oauth.token_endpoint import Grant
from services.secret import Secret
from tests.support.oauth import TENANT
from tests.support.provider import Provider, provider


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


def asked(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


def refresh_token(grant: Grant) -> Secret:
    assert grant.refresh_token is not None
    return grant.refresh_token


@pytest.fixture
def many() -> Iterator[Provider]:
    with provider(tenant=TENANT) as running:
        yield running
