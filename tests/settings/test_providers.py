"""The settings of one provider: what each takes, and what a bad one is told."""

from __future__ import annotations

from typing import Any

import pytest

from services.secret import Secret
from services.settings.providers import OAuthProvider, provider_settings
from services.settings.row import Setting
from services.settings.values import BadValue

ROWS = provider_settings("my-idp")


def made(**more: object) -> OAuthProvider:
    return OAuthProvider("my-idp", "https://idp.example", "client", Secret("secret"), **more)  # type: ignore[arg-type]


def refused(setting: Setting[Any], text: str) -> str:
    with pytest.raises(BadValue) as caught:
        setting.read(text)
    return caught.value.takes


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("basic", "basic"),
        (" Post ", "post"),
        ("client_secret_basic", "basic"),
        ("client_secret_post", "post"),
    ],
)
def test_the_way_to_show_a_secret_is_basic_or_post(text: str, method: str) -> None:
    assert ROWS.client_auth.read(text) == method
    assert made().client_auth is None


@pytest.mark.parametrize("text", ["", "none", "private_key_jwt", "basic,post", "client_secret_jwt"])
def test_another_way_is_refused_with_those_that_there_are(text: str) -> None:
    takes = refused(ROWS.client_auth, text)
    assert "basic" in takes
    assert "post" in takes


def test_a_role_claim_may_be_a_pointer_whose_escapes_are_right() -> None:
    for claim in ("groups", "realm_access.roles", "/a~1b/c~0d", "https://usher.example/~roles"):
        assert ROWS.role_claim.read(claim) == claim
    for bad in ("/a~b", "/a~2", "/~"):
        assert "RFC 6901" in refused(ROWS.role_claim, bad)
