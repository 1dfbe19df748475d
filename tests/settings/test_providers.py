"""The settings of providers: which are chosen, accepted values, and the errors for invalid ones."""

from __future__ import annotations

from typing import Any

import pytest

from services.secret import Secret
from services.settings.providers import OAuthProvider, provider_settings
from services.settings.row import Setting
from services.settings.values import BadValue
from tests.settings.reading import HIDDEN, line_for, read

ROWS = provider_settings("my-idp")
GOOGLE = {"USHER_OAUTH_GOOGLE_CLIENT_ID": "id", "USHER_OAUTH_GOOGLE_CLIENT_SECRET": HIDDEN}


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


# ---- which are chosen ----------------------------------------------------------------------


def test_a_known_provider_needs_no_issuer() -> None:
    (google,) = read({"USHER_OAUTH_PROVIDERS": "Google", **GOOGLE}).oauth_providers
    assert (google.name, google.issuer, google.client_id) == ("google", None, "id")
    assert google.client_secret == Secret(HIDDEN)
    assert google.scopes == ()
    assert HIDDEN not in repr(google)


def test_another_provider_is_found_by_its_issuer_also_by_flags() -> None:
    settings = read(
        {"USHER_OAUTH_MY_IDP_ISSUER": "https://idp.example/realm"},
        ["--oauth-providers", "my-idp", "--oauth-my-idp-client-id=id",
         "--oauth-my-idp-client-secret", "x", "--oauth-my-idp-scopes", "openid email"],
    )  # fmt: skip
    (idp,) = settings.oauth_providers
    assert (idp.issuer, idp.scopes) == ("https://idp.example/realm", ("openid", "email"))
    assert settings.warnings == ()


@pytest.mark.parametrize("missing", sorted(GOOGLE))
def test_a_missing_part_of_a_provider_is_named(missing: str) -> None:
    environ = {name: text for name, text in GOOGLE.items() if name != missing}
    line = line_for({"USHER_OAUTH_PROVIDERS": "google", **environ})
    assert line.startswith(f"usher: {missing}: got nothing, takes ")


def test_an_unknown_provider_needs_an_issuer() -> None:
    line = line_for({"USHER_OAUTH_PROVIDERS": "idp"})
    assert line.startswith("usher: USHER_OAUTH_IDP_ISSUER: got nothing")


@pytest.mark.parametrize(
    ("issuer", "taken"),
    [
        ("https://idp.example", True),
        ("https://idp.example/realms/a/", True),
        ("http://127.0.0.1:9000", True),
        ("http://[::1]:9000/x", True),
        ("http://localhost:9000", True),
        ("http://idp.example", False),
        ("http://localhost.evil.example", False),
        ("http://127.0.0.1@evil.example", False),
        ("https://u:p@idp.example", False),
        ("https://idp.example?x", False),
        ("https://idp.example#", False),
        ("https://", False),
        ("idp.example", False),
        ("ftp://idp.example", False),
        ("https://idp.example/a b", False),
    ],
)
def test_an_http_issuer_is_accepted_on_loopback_only(issuer: str, taken: bool) -> None:
    environ = {
        "USHER_OAUTH_PROVIDERS": "idp",
        "USHER_OAUTH_IDP_ISSUER": issuer,
        "USHER_OAUTH_IDP_CLIENT_ID": "id",
        "USHER_OAUTH_IDP_CLIENT_SECRET": "x",
    }
    if taken:
        assert read(environ).oauth_providers[0].issuer == issuer
    else:
        assert line_for(environ).startswith("usher: USHER_OAUTH_IDP_ISSUER: ")


def test_settings_of_a_provider_that_is_not_listed_are_warned_about() -> None:
    assert len(read(GOOGLE).warnings) == 2


def test_a_misspelt_rule_of_a_listed_provider_stops_the_start() -> None:
    environ = {**GOOGLE, "USHER_OAUTH_PROVIDERS": "google"}
    environ["USHER_OAUTH_GOOGLE_EMAIL_DOMAIN"] = "example.org"
    line = line_for(environ)
    assert line.startswith("usher: USHER_OAUTH_GOOGLE_EMAIL_DOMAIN: got an unknown setting")
    assert "did you mean USHER_OAUTH_GOOGLE_EMAIL_DOMAINS?" in line


@pytest.mark.parametrize(("there", "missing"), [("ROLE_CLAIM", "ROLES"), ("ROLES", "ROLE_CLAIM")])
def test_half_a_role_mapping_stops_the_start(there: str, missing: str) -> None:
    environ = {**GOOGLE, "USHER_OAUTH_PROVIDERS": "google"}
    environ[f"USHER_OAUTH_GOOGLE_{there}"] = "ops:admin"
    line = line_for(environ)
    assert line.startswith(f"usher: USHER_OAUTH_GOOGLE_{missing}: got nothing, takes ")
    assert line.endswith(f"; {there} needs it")
