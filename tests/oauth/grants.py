"""Codes and refresh tokens at the token endpoint of a provider."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from services.oauth.token_endpoint import Grant, OAuthClient, new_verifier
from services.secret import Secret
from services.settings.providers import ClientAuth
from tests.support.oauth import callback, came_back
from tests.support.parts import Clock
from tests.support.provider import Provider, provider

SCOPES = ("openid", "email")
POST: ClientAuth = "post"
BASIC: ClientAuth = "basic"


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


def client_of(op: Provider, clock: Clock | None = None) -> OAuthClient:
    secret = Secret(op.client_secret)
    return OAuthClient(op.client_id, secret, callback(), clock or Clock(time.time()))


def code_from(op: Provider, client: OAuthClient, verifier: str) -> str:
    url = client.authorization_url(op.url("authorize"), SCOPES, "state", verifier)
    return came_back(url).code


def exchange(op: Provider, method: ClientAuth = POST) -> Grant:
    client, verifier = client_of(op), new_verifier()
    return client.exchange(op.url("token"), method, code_from(op, client, verifier), verifier)


def refresh(op: Provider, grant: Grant, method: ClientAuth = POST) -> Grant:
    assert grant.refresh_token is not None
    return client_of(op).refresh(op.url("token"), method, grant.refresh_token)


def revealed(token: Secret | None) -> str:
    assert token is not None
    return token.reveal()
