"""The providers of an installation: each with its name, redirect URI and threads."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from services.errors import NotFound
from services.oauth.errors import ProviderBusy
from services.providers.registry import Providers, usual_title
from tests.support.github import github
from tests.support.oauth import new_start, settings_of, settings_of_github
from tests.support.provider import provider

PUBLIC_URL = "https://usher.example"


@pytest.mark.gen_test
async def test_each_has_its_name_its_title_and_its_redirect_uri() -> None:
    with provider() as op, github() as hub:
        rows = settings_of(op, "my-company"), settings_of(op, "corp", title="Corp ID")
        providers = Providers((*rows, settings_of_github(hub)), PUBLIC_URL)
        assert [(one.name, one.title) for one in providers] == [
            ("my-company", "My Company"),
            ("corp", "Corp ID"),
            ("github", "GitHub"),
        ]
        for one in providers:
            url = await one.ask(lambda p: p.authorization_url(new_start(), None))
            asked = parse_qs(urlsplit(url).query)
            assert asked["redirect_uri"] == [f"{PUBLIC_URL}/oauth/{one.name}/callback"]
            assert one.settings.name == one.name
        providers.close()


def test_what_is_not_set_is_not_found() -> None:
    with provider() as op:
        providers = Providers((settings_of(op),), PUBLIC_URL)
        assert providers.get("idp").name == "idp"
        assert "idp" in providers
        for name in ("", "IDP", "idp ", "other", "../idp"):
            assert name not in providers
            with pytest.raises(NotFound):
                providers.get(name)
        providers.close()


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("google", "Google"),
        ("github", "GitHub"),
        ("microsoft", "Microsoft"),
        ("my-company", "My Company"),
        ("idp2", "Idp2"),
    ],
)
def test_one_that_is_set_no_more_is_still_called_something(name: str, title: str) -> None:
    assert usual_title(name) == title
    assert Providers((), PUBLIC_URL).title(name) == title


def test_the_title_of_the_settings_comes_first() -> None:
    with provider() as op:
        providers = Providers((settings_of(op, "google", title="Work"),), PUBLIC_URL)
        assert providers.title("google") == "Work"
        providers.close()


@pytest.mark.gen_test
async def test_once_closed_nothing_more_is_asked() -> None:
    with provider() as op:
        providers = Providers((settings_of(op),), PUBLIC_URL)
        providers.close()
        with pytest.raises(ProviderBusy, match="stopping"):
            await providers.get("idp").ask(lambda p: p.check_issuer(None))
        assert op.requests == []
