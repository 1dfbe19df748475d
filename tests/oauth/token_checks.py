"""Tokens that the tests' provider signs, and their verification."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest

from services.oauth.discovery import Metadata
from services.oauth.errors import Reason, SignInRefused
from services.oauth.id_tokens import IdToken, LogoutToken, ProviderTokensVerifier
from services.oauth.jwks import ProviderKeys
from tests.support.provider import Provider, provider
from tests.support.provider_keys import Signer

FORGERIES: tuple[Signer, ...] = tuple(s for s in get_args(Signer) if s != "honest")
ACCESS_TOKEN = "the access token"
LONG_AGO, FAR_AHEAD = 1_000_000_000, 4_000_000_000
"""Times that are the same in every process: they stand in the names of tests."""


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


def metadata_of(op: Provider, **more: Any) -> Metadata:
    return Metadata(op.issuer, op.url("authorize"), op.url("token"), op.url("jwks"), **more)


def verified(op: Provider, token: str, keys: ProviderKeys | None = None) -> IdToken:
    found = keys or ProviderKeys(op.url("jwks"))
    return ProviderTokensVerifier(op.client_id).id_token(
        token, metadata_of(op), found, ACCESS_TOKEN
    )


def received(
    op: Provider, token: str, untyped: bool = False, without_exp: bool = False
) -> LogoutToken:
    keys = ProviderKeys(op.url("jwks"))
    return ProviderTokensVerifier(op.client_id).logout_token(
        token, metadata_of(op), keys, untyped, without_exp
    )


def signed(op: Provider, header: Mapping[str, object] | None = None, /, **claims: object) -> str:
    """An ID token of the provider's, with these claims and headers written over the usual ones."""
    now = int(time.time())
    usual = {"iss": op.issuer, "aud": op.client_id, "sub": "ada", "iat": now, "exp": now + 300}
    return op.signing().token(header or {}, {**usual, **claims})


def refused(caught: pytest.ExceptionInfo[SignInRefused]) -> str:
    assert caught.value.reason is Reason.UNTRUSTED
    return caught.value.evidence
