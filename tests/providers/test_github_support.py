"""The tests' own GitHub answers as the documentation of GitHub Enterprise Server says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from requests_oauthlib import OAuth2Session

from tests.support.github import GitHub, github
from tests.support.http_service import sent_back

CALLBACK = "http://127.0.0.1:1/oauth/github/callback"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_RELAX_TOKEN_SCOPE", "1")
    with github() as running:
        yield running


def signed_in(hub: GitHub) -> tuple[OAuth2Session, dict[str, Any]]:
    scope = ["read:user", "user:email"]
    session = OAuth2Session(hub.client_id, redirect_uri=CALLBACK, scope=scope, pkce="S256")
    url, _ = session.authorization_url(f"{hub.origin}/login/oauth/authorize")
    token = session.fetch_token(
        f"{hub.origin}/login/oauth/access_token",
        authorization_response=sent_back(url),
        client_secret=hub.client_secret,
        include_client_id=True,
        auth=None,
        timeout=10,
    )
    return session, dict(token)


def exchange(hub: GitHub, accept: str = "application/json", **form: str) -> requests.Response:
    own = {"client_id": hub.client_id, "client_secret": hub.client_secret}
    return requests.post(
        f"{hub.origin}/login/oauth/access_token",
        {**own, **form},
        headers={"Accept": accept},
        timeout=10,
    )


def test_a_plain_client_signs_in_and_reads_the_user_and_the_verified_address(hub: GitHub) -> None:
    session, token = signed_in(hub)
    assert token["token_type"] == "bearer"
    assert "refresh_token" not in token
    assert session.get(f"{hub.origin}/api/v3/user", timeout=10).json() == hub.user
    emails = session.get(f"{hub.origin}/api/v3/user/emails", timeout=10).json()
    assert [email["email"] for email in emails if email["primary"] and email["verified"]] == [
        "octocat@example.com"
    ]


def test_the_answer_names_the_issuer_as_github_does(hub: GitHub) -> None:
    query = f"client_id={hub.client_id}&redirect_uri={CALLBACK}&state=s"
    answer = urlsplit(sent_back(f"{hub.origin}/login/oauth/authorize?{query}"))
    sent = parse_qs(answer.query)
    assert sent["iss"] == [f"{hub.origin}/login/oauth"]
    assert sent["state"] == ["s"]


def test_errors_have_status_200_and_the_format_that_was_asked_for(hub: GitHub) -> None:
    guessed = exchange(hub, code="guessed")
    assert (guessed.status_code, guessed.json()["error"]) == (200, "bad_verification_code")
    other_client = exchange(hub, code="guessed", client_secret="guessed")
    assert other_client.json()["error"] == "incorrect_client_credentials"
    form = exchange(hub, accept="*/*", code="guessed")
    assert parse_qs(form.text)["error"] == ["bad_verification_code"]


def test_an_app_with_expiring_tokens_refreshes_once_with_each_refresh_token(hub: GitHub) -> None:
    hub.expiring = True
    session, first = signed_in(hub)
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = exchange(hub, **form).json()
    assert second["access_token"].startswith("ghu_")
    assert session.get(f"{hub.origin}/api/v3/user", timeout=10).status_code == 401
    again = exchange(hub, **form)
    assert (again.status_code, again.json()["error"]) == (200, "bad_refresh_token")


@pytest.mark.parametrize(("what", "left"), [("token", 200), ("grant", 401)])
def test_deleting_a_token_leaves_the_others_and_deleting_the_grant_does_not(
    hub: GitHub, what: str, left: int
) -> None:
    (one, token), (other, _) = signed_in(hub), signed_in(hub)
    deleted = requests.delete(
        f"{hub.origin}/api/v3/applications/{hub.client_id}/{what}",
        json={"access_token": token["access_token"]},
        auth=(hub.client_id, hub.client_secret),
        timeout=10,
    )
    assert deleted.status_code == 204
    assert one.get(f"{hub.origin}/api/v3/user", timeout=10).status_code == 401
    assert other.get(f"{hub.origin}/api/v3/user", timeout=10).status_code == left
    assert hub.revoked == [(what, token["access_token"])]
