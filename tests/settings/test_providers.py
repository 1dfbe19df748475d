"""The settings of one provider: accepted values, and the errors for invalid ones."""

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
def test_the_client_authentication_is_basic_or_post(text: str, method: str) -> None:
    assert ROWS.client_auth.read(text) == method
    assert made().client_auth is None


@pytest.mark.parametrize("text", ["", "none", "private_key_jwt", "basic,post", "client_secret_jwt"])
def test_another_method_is_refused_with_the_supported_ones(text: str) -> None:
    takes = refused(ROWS.client_auth, text)
    assert "basic" in takes
    assert "post" in takes


def test_a_role_claim_may_be_a_pointer_whose_escapes_are_right() -> None:
    for claim in ("groups", "realm_access.roles", "/a~1b/c~0d", "https://usher.example/~roles"):
        assert ROWS.role_claim.read(claim) == claim
    for bad in ("/a~b", "/a~2", "/~"):
        assert "RFC 6901" in refused(ROWS.role_claim, bad)


@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_an_answer_may_come_as_a_query_or_as_a_form(mode: str) -> None:
    assert ROWS.parameters.read(f"response_mode={mode}&a=b") == (
        ("response_mode", mode),
        ("a", "b"),
    )
    for bad in ("fragment", "query.jwt", ""):
        assert "form_post" in refused(ROWS.parameters, f"response_mode={bad}")


def test_parameters_for_signing_out_are_pairs_and_may_be_empty() -> None:
    read = ROWS.logout_parameters.read
    assert read("") == ()
    assert read("logout_uri=https%3A%2F%2Fusher.example.org%2F&state=") == (
        ("logout_uri", "https://usher.example.org/"),
        ("state", ""),
    )
    for bad in ("logout_uri", "a=1&a=2", "&"):
        refused(ROWS.logout_parameters, bad)


@pytest.mark.parametrize(
    "url",
    [
        "https://b2c.example/tenant/policy/v2.0/.well-known/openid-configuration",
        "https://idp.example/metadata?p=policy",
        "http://127.0.0.1:8080/metadata",
    ],
)
def test_the_discovery_document_may_lie_anywhere_that_is_safe(url: str) -> None:
    assert ROWS.metadata_url.read(f" {url} ") == url


@pytest.mark.parametrize(
    "url",
    ["", "idp.example", "http://idp.example/", "ftp://idp.example/", "https://", "https://a b/",
     "https://user:pw@idp.example/", "https://idp.example/#x", "https://[/"],
)  # fmt: skip
def test_and_nowhere_else(url: str) -> None:
    assert "https" in refused(ROWS.metadata_url, url)


def test_the_times_and_issuers_of_a_provider_are_such() -> None:
    assert ROWS.refused_seconds.read("600") == 600.0
    assert ROWS.former_issuer.read("https://old.example/realm") == "https://old.example/realm"
    for setting, bad in ((ROWS.refused_seconds, "1"), (ROWS.former_issuer, "old.example")):
        refused(setting, bad)
