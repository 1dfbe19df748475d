"""GitHub: users by number, verified addresses, and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.oauth.errors import GrantEnded, ProviderUnavailable, Reason, SignInRefused
from services.oauth.github import GitHubProvider
from services.secret import Secret
from services.settings.providers import OAuthProvider
from tests.support.github import GitHub, github
from tests.support.github_faults import GITHUB_FAULTS
from tests.support.oauth import (
    callback,
    came_back,
    client_of,
    exchanged,
    github_provider,
    hurried,
    new_start,
)
from tests.support.provider_grants import s256

UNTRUSTED = ("id_missing", "id_not_number", "json_array")
"""Faults of /user that are answers, and say nothing of use."""
NO_ADDRESS = ("not_found", "rate_limited", "wrong_types")
"""Faults of /user/emails that leave somebody without an address."""


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with github() as running:
        yield running


def test_a_user_is_known_by_number_and_by_the_primary_address(hub: GitHub) -> None:
    profile, grant = exchanged(github_provider(hub))
    assert profile.subject == str(hub.user["id"])
    assert profile.issuer == f"{hub.origin}/login/oauth"
    assert (profile.email, profile.email_verified) == ("octocat@example.com", True)
    assert (profile.name, profile.sid) == ("Mona Lisa Octocat", None)
    assert profile.claims["login"] == "octocat"
    assert grant.scopes == "read:user user:email"
    assert (grant.refresh_token, grant.expires_at, grant.id_token) == (None, None, None)


def test_an_app_whose_tokens_expire_has_them_refreshed(hub: GitHub) -> None:
    hub.expiring = True
    one = github_provider(hub)
    profile, grant = exchanged(one)
    assert grant.refresh_token is not None
    assert grant.expires_at is not None
    fresh = one.refresh(grant.refresh_token, profile.subject)
    assert fresh.access_token.reveal() != grant.access_token.reveal()
    with pytest.raises(GrantEnded):
        one.refresh(grant.refresh_token, profile.subject)


def test_the_authorization_request_has_the_needed_scopes_and_not_openid(hub: GitHub) -> None:
    start = new_start()
    asked = parse_qs(urlsplit(github_provider(hub).authorization_url(start, None)).query)
    assert asked["scope"] == ["read:user user:email"]
    assert asked["redirect_uri"] == [callback("github")]
    assert asked["code_challenge"] == [s256(start.verifier)]
    assert not {"nonce", "prompt"} & set(asked)
    chosen = github_provider(hub, scopes=("repo",), parameters=(("allow_signup", "false"),))
    asked = parse_qs(urlsplit(chosen.authorization_url(start, "login")).query)
    assert asked["scope"] == ["repo"]
    assert asked["allow_signup"] == ["false"]
    assert asked["prompt"] == ["select_account"]


def test_without_an_issuer_it_is_the_one_that_everybody_knows() -> None:
    settings = OAuthProvider("github", None, "client", Secret("secret"))
    one = GitHubProvider(settings, client_of(settings), "GitHub")
    url = urlsplit(one.authorization_url(new_start(), None))
    assert (url.scheme, url.netloc, url.path) == ("https", "github.com", "/login/oauth/authorize")
    one.check_issuer("https://github.com/login/oauth")
    one.check_issuer(None)
    with pytest.raises(SignInRefused):
        one.check_issuer("https://github.com")


def test_an_answer_of_another_provider_is_refused(hub: GitHub) -> None:
    hub.misbehave(authorize="iss_wrong")
    with pytest.raises(SignInRefused) as caught:
        exchanged(github_provider(hub))
    assert caught.value.reason is Reason.UNTRUSTED
    assert hub.requests[-1].path.endswith("/authorize"), "the code was sent to nobody"


def test_the_challenge_is_sent_and_checked_where_the_server_knows_it(hub: GitHub) -> None:
    one, start = github_provider(hub), new_start()
    code = came_back(one.authorization_url(start, None)).code
    with pytest.raises(GrantEnded):
        one.exchange(code, new_start())
    hub.pkce = False
    assert exchanged(one)[0].subject == str(hub.user["id"])


@pytest.mark.parametrize("fault", sorted(GITHUB_FAULTS["user"]))
def test_each_fault_of_the_user_refuses_the_sign_in(hub: GitHub, fault: str) -> None:
    hub.misbehave(user=fault)
    hub.drip_interval = 0.05
    expected = SignInRefused if fault in UNTRUSTED else ProviderUnavailable
    with hurried(fault), pytest.raises(expected):
        exchanged(github_provider(hub))
    assert hub.elsewhere.requests == []


@pytest.mark.parametrize("number", [True, 7.0, "7", None, [7]])
def test_a_number_is_a_number(hub: GitHub, number: object) -> None:
    hub.user["id"] = number
    with pytest.raises(SignInRefused):
        exchanged(github_provider(hub))


@pytest.mark.parametrize("fault", sorted(GITHUB_FAULTS["emails"]))
def test_each_fault_of_the_addresses_gives_no_address_or_no_answer(hub: GitHub, fault: str) -> None:
    hub.misbehave(emails=fault)
    hub.drip_interval = 0.05
    if fault in (*NO_ADDRESS, "json_array"):
        profile, _ = exchanged(github_provider(hub))
        assert (profile.email, profile.email_verified) == ("", False)
    else:
        with hurried(fault), pytest.raises(ProviderUnavailable):
            exchanged(github_provider(hub))
    assert hub.elsewhere.requests == []


ADDRESS = {"email": "octocat@example.com", "primary": True, "verified": True}


@pytest.mark.parametrize(
    ("emails", "expected"),
    [
        ([], ("", False)),
        ([{**ADDRESS, "verified": False}], ("octocat@example.com", False)),
        ([{**ADDRESS, "verified": "true"}], ("octocat@example.com", False)),
        ([{**ADDRESS, "verified": 1}], ("octocat@example.com", False)),
        ([{**ADDRESS, "primary": False}], ("", False)),
        ([{**ADDRESS, "primary": 1}], ("", False)),
        ([{**ADDRESS, "email": None}], ("", True)),
        ([{**ADDRESS, "email": ["octocat@example.com"]}], ("", True)),
        ([{"email": "other@example.com", "verified": True}, ADDRESS],
         ("octocat@example.com", True)),
    ],
)  # fmt: skip
def test_only_the_primary_address_counts_and_only_true_is_verified(
    hub: GitHub, emails: list[dict[str, Any]], expected: tuple[str, bool]
) -> None:
    hub.emails = emails
    profile, _ = exchanged(github_provider(hub))
    assert (profile.email, profile.email_verified) == expected


def test_the_public_address_of_a_profile_is_not_looked_at(hub: GitHub) -> None:
    hub.user["email"], hub.emails = "victim@example.com", []
    assert exchanged(github_provider(hub))[0].email == ""


@pytest.mark.parametrize(
    ("name", "shown"), [("Mona", "Mona"), (None, "octocat"), ("  ", "octocat"), (7, "octocat")]
)
def test_a_user_without_a_name_gets_the_login_as_name(
    hub: GitHub, name: object, shown: str
) -> None:
    hub.user["name"] = name
    assert exchanged(github_provider(hub))[0].name == shown


def test_giving_back_takes_the_whole_authorisation_away(hub: GitHub) -> None:
    one = github_provider(hub)
    _, grant = exchanged(one)
    exchanged(one)
    one.revoke(grant)
    assert hub.revoked == [("grant", grant.access_token.reveal())]
    one.revoke(grant)  # over already, which is what was wanted


@pytest.mark.parametrize("fault", sorted(GITHUB_FAULTS["revoke"]))
def test_each_fault_of_a_token_revocation_is_reported_or_ignored(hub: GitHub, fault: str) -> None:
    one = github_provider(hub)
    _, grant = exchanged(one)
    hub.misbehave(revoke=fault)
    hub.drip_interval = 0.05
    if fault in ("not_found", "not_json", "empty", "json_array", "deep"):
        one.revoke(grant)  # nobody reads the answer's body
    elif fault in ("drip", "bomb", "endless"):
        with (
            hurried(fault),
            suppress(ProviderUnavailable),
        ):  # bytes behind an answer that has no body
            one.revoke(grant)
        assert hub.revoked == [("grant", grant.access_token.reveal())]
    else:
        with hurried(fault), pytest.raises(ProviderUnavailable):
            one.revoke(grant)
    assert hub.elsewhere.requests == []


def test_it_has_no_logout_tokens_and_no_logout_endpoint(hub: GitHub) -> None:
    one = github_provider(hub)
    assert one.logout_token("a.b.c") is None
    assert one.end_session_url(None, "https://usher.example/") is None
