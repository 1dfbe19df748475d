"""docs/oauth.md compared with the code: settings, URLs, reasons and metrics."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from handlers.routes import API_ROUTES
from services.metrics import Metrics
from services.oauth.errors import Reason
from services.providers.refresh import ProviderRefresh, ProviderToken
from services.providers.registry import Connection, Providers
from services.settings.providers import OAuthProvider, provider_settings
from services.settings.row import Setting
from services.settings.settings import Settings, load
from tests.providers.real.table import PROVIDERS as REAL_PROVIDERS
from tests.support.markdown import table
from tests.support.server import ROOT

TEXT = (ROOT / "docs/oauth.md").read_text("utf-8")
ORIGIN = "https://usher.example.org"
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
SECTIONS = dict(zip(HEADING.findall(TEXT), HEADING.split(TEXT)[2::2], strict=True))
PROVIDERS = {title: text for title, text in SECTIONS.items() if "```sh\nUSHER_PUBLIC_URL=" in text}
STEM = "OAUTH_MY_IDP_"


def settings_of(title: str, folder: Path) -> Settings:
    """What the section's block sets, read as a start reads it."""
    [block] = re.findall(r"^```sh\n(.*?)^```$", PROVIDERS[title], re.DOTALL | re.MULTILINE)
    environ = dict(line.split("=", 1) for line in block.splitlines())
    return load({"USHER_DATA_DIR": str(folder), **environ}, [])


def redirect_uri_of(connection: Connection) -> str:
    """The redirect URI that a provider is asked with, to the letter."""
    return str(connection._provider._client._redirect_uri)  # type: ignore[attr-defined]


# ---- settings ------------------------------------------------------------------------------


def test_the_settings_are_those_of_the_code() -> None:
    rows = table(SECTIONS["Settings"], "name")
    settings: tuple[Setting[Any], ...] = provider_settings("my-idp")
    assert [STEM + row[0] for row in rows] == [setting.name for setting in settings]
    for row, setting in zip(rows, settings, strict=True):
        shown = {setting.default, setting.shown_default} - {"", None}
        if setting.shown_default or setting.default:
            assert row[1] in shown, setting.name
        elif setting.name != STEM + "TITLE":
            required = {"ISSUER", "CLIENT_ID", "CLIENT_SECRET"}
            assert row[1].startswith("required") == (row[0] in required), setting.name
        assert row[2], setting.name


def test_every_setting_that_the_text_names_is_one() -> None:
    known = {setting.name.removeprefix(STEM) for setting in provider_settings("my-idp")}
    named = re.findall(
        r"USHER_OAUTH_(?:GOOGLE|GITHUB|MICROSOFT|KEYCLOAK|AUTH0|MY_IDP|PRACTICE)_([A-Z_]+)", TEXT
    )
    assert len(named) > 30
    assert set(named) <= known


def test_every_provider_of_the_issue_has_a_section() -> None:
    assert list(PROVIDERS) == ["Google", "GitHub", "Microsoft", "Keycloak", "Auth0", "Any other"]


@pytest.mark.parametrize("title", PROVIDERS)
def test_a_block_of_settings_starts_as_it_stands(title: str, tmp_path: Path) -> None:
    settings = settings_of(title, tmp_path)
    assert settings.public_url == ORIGIN
    assert settings.warnings == ()
    assert len(settings.oauth_providers) == 1


@pytest.mark.parametrize("title", PROVIDERS)
def test_the_redirect_uri_to_paste_is_the_one_that_is_sent(title: str, tmp_path: Path) -> None:
    settings = settings_of(title, tmp_path)
    assert settings.public_url is not None
    providers = Providers(settings.oauth_providers, settings.public_url)
    [connection] = providers
    try:
        sent = redirect_uri_of(connection)
        pasted = set(re.findall(rf"{ORIGIN}/oauth/[\w-]+/callback", PROVIDERS[title]))
        assert pasted == {sent}
    finally:
        providers.close()


def test_every_address_of_usher_that_the_text_names_is_a_route() -> None:
    routes = {re.sub(r"\{\w+\}", "{}", path) for path, _ in API_ROUTES}
    text = re.sub(
        r"/oauth/(?!accounts|providers|logout)(?:\{provider\}|[\w-]+)/", "/oauth/{}/", TEXT
    )
    named = set(
        re.findall(r"(?<![\w.])(?:https://usher\.example\.org)?(/(?:api/)?oauth/[\w{}/-]*)", text)
    )
    named = {re.sub(r"\{\w+\}", "{}", path) for path in named}
    assert len(named) > 5
    assert named <= routes


def test_an_example_of_roles_means_what_the_text_says(tmp_path: Path) -> None:
    def roles(title: str) -> OAuthProvider:
        [provider] = settings_of(title, tmp_path).oauth_providers
        return provider

    assert roles("Keycloak").role_claim == "realm_access.roles"
    assert dict(roles("Keycloak").roles)["default-roles-main"] == "user"
    assert roles("Auth0").role_claim == f"{ORIGIN}/roles"
    assert roles("Auth0").untyped_logout
    assert "offline_access" in roles("Auth0").scopes


def test_the_providers_that_were_run_are_those_that_the_script_runs_in_these_versions() -> None:
    rows = table(SECTIONS["Providers that were run"], "provider")
    assert [row[0] for row in rows] == [
        f"{kind.title} ({kind.package})" for kind in REAL_PROVIDERS.values()
    ]
    assert all(row[3] == "yes" for row in rows), "somebody signed in at each"


# ---- reasons, metrics, tokens, keys --------------------------------------------------------


def test_the_reasons_of_a_refusal_are_those_of_the_code() -> None:
    rows = table(SECTIONS["When somebody is refused"], "reason")
    assert [(row[0], row[1].split(",")[0], row[2]) for row in rows] == [
        (reason.code, str(reason.status), reason.value.title) for reason in Reason
    ]


def test_the_causes_of_a_refusal_are_fixed_words() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "services").rglob("*.py"))
    source = re.sub(r'"\s+f?"', "", source)  # a text that is written in two parts
    rows = table(SECTIONS["When somebody is refused"], "reason")
    phrases = [phrase for row in rows for phrase in re.findall(r"`([a-z][^`]* [^`]*)`", row[3])]
    assert len(phrases) > 15
    assert [each for each in phrases if each.removesuffix("invalid_client") not in source] == []


def test_the_metrics_are_those_of_the_code() -> None:
    rows = table(SECTIONS["Metrics"], "metric")
    exposed = Metrics().expose().decode()
    assert {row[0].strip("`").removesuffix("_total") for row in rows} == {
        name.removesuffix("_total")
        for name in re.findall(r"^# TYPE (usher_oauth_\w+) counter", exposed, re.MULTILINE)
    }


def test_the_path_of_a_providers_token_exists() -> None:
    [example] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert "await services.oauth.refresh.valid(user_id, " in example
    assert list(inspect.signature(ProviderRefresh.valid).parameters) == [
        "self",
        "user_id",
        "provider",
    ]
    assert {"access_token", "scopes", "expires_at"} == set(ProviderToken.__struct_fields__)


def test_the_command_for_a_key_makes_one(tmp_path: Path) -> None:
    [command] = re.findall(
        r"^    \.venv/bin/python -c '(.+)'$", SECTIONS["Rotating encryption keys"], re.MULTILINE
    )
    made: list[str] = []
    exec(command, {"print": made.append})
    Fernet(made[0])


def test_every_link_within_the_text_leads_somewhere() -> None:
    anchors = {title.lower().replace(" ", "-") for title in SECTIONS}
    linked = set(re.findall(r"\]\(#([\w-]+)\)", TEXT))
    assert linked
    assert linked <= anchors
