"""The token endpoint for codes and refresh tokens: invalid responses, the end of a grant,
requests."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from services.oauth.errors import GrantEnded, ProviderUnavailable
from services.oauth.token_endpoint import (
    INVALID_GRANT_CODES,
    MAX_EXPIRES_IN,
    MAX_TOKEN_LENGTH,
    Grant,
    OAuthClient,
    new_verifier,
)
from services.secret import Secret
from services.settings.providers import ClientAuth
from tests.support.github import GitHub, github
from tests.support.github_faults import GITHUB_FAULTS
from tests.support.http_answers import Reply, as_json
from tests.support.http_service import Seen, Service
from tests.support.oauth import callback, came_back, exchanged, hurried, oidc
from tests.support.parts import Clock
from tests.support.provider import Provider, provider
from tests.support.provider_faults import REFRESH_FAULTS, TOKEN_FAULTS
from tests.support.provider_grants import s256

SCOPES = ("openid", "email")
POST: ClientAuth = "post"
BASIC: ClientAuth = "basic"
DONE_BUT_LATE = ("slow", "held", "drip", "drip_headers", "endless", "bomb", "lost")
"""After these the provider has done its work; that nothing of it came is what we know."""
OTHER_MODULES = ("no_id_token", "sub_changed")
"""Looked at by whoever looks at ID tokens, see test_oidc.py."""


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with github() as running:
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


# ---- what comes ----------------------------------------------------------------------------


def test_a_code_gives_tokens_and_when_they_end(op: Provider) -> None:
    op.expires_in = 600
    clock, verifier = Clock(1_000_000.0), new_verifier()
    client = client_of(op, clock)
    code = code_from(op, client, verifier)
    grant = client.exchange(op.url("token"), POST, code, verifier)
    assert revealed(grant.access_token) == op.access_tokens[-1]
    assert revealed(grant.refresh_token) == op.given_refresh_tokens[-1]
    assert revealed(grant.id_token) == op.id_tokens[-1]
    assert grant.expires_at == 1_000_600.0
    assert set(grant.scopes.split()) == set(SCOPES)


@pytest.mark.parametrize("fault", sorted(set(TOKEN_FAULTS) - set(OTHER_MODULES)))
def test_each_fault_of_an_exchange_is_no_answer_or_the_end(op: Provider, fault: str) -> None:
    client, verifier = client_of(op), new_verifier()
    code = code_from(op, client, verifier)
    op.misbehave(token=fault)
    op.drip_interval = 0.05
    expected = GrantEnded if fault == "invalid_grant" else ProviderUnavailable
    with hurried(fault), pytest.raises(expected) as caught:
        client.exchange(op.url("token"), POST, code, verifier)
    assert code not in str(caught.value)
    assert op.count("token") == 1, "a code is sent once"
    assert op.elsewhere.requests == []
    op.behave()
    if fault in DONE_BUT_LATE or fault in ("wrong_types", "no_access_token"):
        with pytest.raises(GrantEnded):
            client.exchange(op.url("token"), POST, code, verifier)
    else:
        assert client.exchange(op.url("token"), POST, code, verifier).refresh_token


@pytest.mark.parametrize("fault", sorted(set(REFRESH_FAULTS) - set(OTHER_MODULES)))
def test_each_fault_of_a_refresh_is_no_answer_or_the_end(op: Provider, fault: str) -> None:
    op.refresh_tokens = "kept"
    grant = exchange(op)
    op.misbehave(refresh=fault)
    op.drip_interval = 0.05
    expected = GrantEnded if fault == "invalid_grant" else ProviderUnavailable
    with hurried(fault), pytest.raises(expected) as caught:
        refresh(op, grant)
    assert revealed(grant.refresh_token) not in str(caught.value)
    assert op.count("token") == 2
    assert op.elsewhere.requests == []
    op.behave()
    assert refresh(op, grant).access_token


@pytest.mark.parametrize("fault", sorted(GITHUB_FAULTS["token"]))
def test_each_fault_of_github_is_no_answer_or_the_end(hub: GitHub, fault: str) -> None:
    client = OAuthClient(hub.client_id, Secret(hub.client_secret), callback("github"))
    verifier = new_verifier()
    url = client.authorization_url(f"{hub.origin}/login/oauth/authorize", (), "s", verifier)
    code = came_back(url).code
    hub.misbehave(token=fault)
    hub.drip_interval = 0.05
    with (
        hurried(fault),
        pytest.raises(GrantEnded if fault in INVALID_GRANT_CODES else ProviderUnavailable),
    ):
        client.exchange(f"{hub.origin}/login/oauth/access_token", POST, code, verifier)
    assert hub.elsewhere.requests == []


@pytest.mark.parametrize("fault", sorted(GITHUB_FAULTS["refresh"]))
def test_and_at_a_refresh(hub: GitHub, fault: str) -> None:
    hub.misbehave(refresh=fault)
    hub.drip_interval = 0.05
    client = OAuthClient(hub.client_id, Secret(hub.client_secret), callback("github"))
    with hurried(fault), pytest.raises((ProviderUnavailable, GrantEnded)) as caught:
        client.refresh(f"{hub.origin}/login/oauth/access_token", POST, Secret("ghr_unknown"))
    # Those that do their work find that this token is none, and their answer is lost.
    assert (caught.type is GrantEnded) == (fault in INVALID_GRANT_CODES)


class Tokens(Service):
    """A token endpoint that says whatever the test wants."""

    def __init__(self, **more: object) -> None:
        super().__init__()
        self.content: dict[str, object] = {"access_token": "at", "token_type": "Bearer", **more}
        self.status = 200

    def answer(self, seen: Seen) -> Reply:
        return as_json(self.content, self.status)

    def refreshed(self) -> Grant:
        client = OAuthClient("client", Secret("secret"), callback(), Clock(1000.0))
        return client.refresh(self.origin, POST, Secret("the old refresh token"))


WRONG: tuple[dict[str, object], ...] = (
    {"access_token": ""},
    {"access_token": None},
    {"access_token": 7},
    {"access_token": ["at"]},
    {"access_token": "a" * (MAX_TOKEN_LENGTH + 1)},
    {"access_token": "\ud800"},
    {"access_token": "at\nSet-Cookie: x"},
    {"access_token": "at\x00"},
    {"access_token": "ätsch"},
    {"token_type": "mac"},
    {"token_type": None},
    {"token_type": 7},
    {"refresh_token": 7},
    {"refresh_token": "\ud800"},
    {"refresh_token": "r" * (MAX_TOKEN_LENGTH + 1)},
    {"id_token": 7},
    {"id_token": {"alg": "none"}},
    {"id_token": "\x00"},
    {"scope": 7},
    {"scope": {"a": 1}},
    {"scope": "read\x00"},
    {"scope": "\ud800"},
    {"scope": "s" * (MAX_TOKEN_LENGTH + 1)},
    {"expires_in": "soon"},
    {"expires_in": ""},
    {"expires_in": [3600]},
    {"expires_in": {"seconds": 1}},
    {"expires_in": float("inf")},
    {"expires_in": float("nan")},
    {"expires_in": 10**400},
    {"expires_at": {"a": []}, "access_token": None},
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:40])
def test_a_member_of_a_wrong_kind_makes_an_answer_unusable(wrong: dict[str, object]) -> None:
    with Tokens(**wrong) as endpoint, pytest.raises(ProviderUnavailable):
        endpoint.refreshed()


@pytest.mark.parametrize(
    ("says", "ends_at"),
    [
        ({}, None),
        ({"expires_in": None}, None),
        ({"expires_in": 3600}, 4600.0),
        ({"expires_in": 3600.9}, 4600.0),
        ({"expires_in": "3600"}, 4600.0),  # Microsoft's older endpoints
        ({"expires_in": -5}, 1000.0),
        ({"expires_in": 10**15}, 1000.0 + MAX_EXPIRES_IN),
        ({"expires_at": 1, "expires_in": 3600}, 4600.0),
    ],
)
def test_the_expiry_is_in_seconds_from_now(says: dict[str, object], ends_at: float | None) -> None:
    with Tokens(**says) as endpoint:
        assert endpoint.refreshed().expires_at == ends_at


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        (None, ""),
        ("", ""),
        ("read write", "read write"),
        ("read,write", "read write"),  # GitHub
        (["read", "write"], "read write"),
    ],
)
def test_other_scopes_than_asked_for_change_nothing(scope: object, found: str) -> None:
    with Tokens(scope=scope) as endpoint:
        assert endpoint.refreshed().scopes == found


@pytest.mark.parametrize("name", ["bearer", "Bearer", "BEARER"])
def test_the_token_type_is_bearer_in_any_spelling(name: str) -> None:
    with Tokens(token_type=name) as endpoint:
        assert revealed(endpoint.refreshed().access_token) == "at"


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize("error", sorted(INVALID_GRANT_CODES))
def test_a_grant_ends_only_on_errors_that_mean_its_end(error: str, status: int) -> None:
    with Tokens() as endpoint:
        endpoint.content, endpoint.status = {"error": error}, status
        with pytest.raises(GrantEnded):
            endpoint.refreshed()
        others: tuple[object, ...] = ("invalid_client", "slow_down", error + "s", "", 7, [], None)
        for other in others:
            endpoint.content = {"error": other}
            with pytest.raises(ProviderUnavailable):
                endpoint.refreshed()


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_fails_ends_no_grant_whatever_it_says(status: int) -> None:
    with Tokens() as endpoint:
        endpoint.content, endpoint.status = {"error": "invalid_grant"}, status
        with pytest.raises(ProviderUnavailable):
            endpoint.refreshed()


def test_only_the_error_code_of_a_provider_is_logged() -> None:
    with Tokens() as endpoint:
        endpoint.content = {
            "error": "bad\nthing <script>",
            "error_description": "for ada@example.com",
        }
        with pytest.raises(ProviderUnavailable) as caught:
            endpoint.refreshed()
    assert caught.value.evidence.endswith("refused: unknown")


# ---- refresh tokens ------------------------------------------------------------------------


def test_a_rotated_refresh_token_takes_the_place_of_the_old_one(op: Provider) -> None:
    first = exchange(op)
    second = refresh(op, first)
    assert revealed(second.refresh_token) != revealed(first.refresh_token)
    with pytest.raises(GrantEnded):
        refresh(op, first)
    assert refresh(op, second).refresh_token


@pytest.mark.parametrize("refresh_token", [{}, {"refresh_token": None}, {"refresh_token": ""}])
def test_where_no_new_refresh_token_comes_the_old_one_continues(
    refresh_token: dict[str, object],
) -> None:
    with Tokens(**refresh_token) as endpoint:
        assert revealed(endpoint.refreshed().refresh_token) == "the old refresh token"


def test_a_code_that_gives_no_refresh_token_gives_none(op: Provider) -> None:
    op.refresh_tokens = "none"
    assert exchange(op).refresh_token is None


# ---- what is sent --------------------------------------------------------------------------


def test_the_challenge_is_that_of_the_verifier_and_is_really_checked(op: Provider) -> None:
    client, verifier = client_of(op), new_verifier()
    url = client.authorization_url(op.url("authorize"), SCOPES, "state", verifier)
    asked = parse_qs(urlsplit(url).query)
    assert asked["code_challenge"] == [s256(verifier)]
    assert asked["code_challenge_method"] == ["S256"]
    assert verifier not in url
    with pytest.raises(GrantEnded):
        client.exchange(op.url("token"), POST, came_back(url).code, new_verifier())


def test_a_verifier_is_as_the_rfc_has_it_and_each_time_another() -> None:
    found = {new_verifier() for _ in range(100)}
    assert len(found) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) for verifier in found)


def test_the_authorization_request_has_the_client_id_and_no_secret(op: Provider) -> None:
    client = client_of(op)
    endpoint = op.url("authorize") + "?tenant=a%20b&empty="
    url = client.authorization_url(endpoint, SCOPES, "st&te", new_verifier(), prompt="login")
    asked = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert url.startswith(op.origin)
    assert {name: asked[name] for name in ("tenant", "empty", "state", "prompt")} == {
        "tenant": ["a b"],
        "empty": [""],
        "state": ["st&te"],
        "prompt": ["login"],
    }
    assert asked["response_type"] == ["code"]
    assert asked["client_id"] == [op.client_id]
    assert asked["redirect_uri"] == [callback()]
    assert asked["scope"] == ["openid email"]
    assert op.client_secret not in url


SPECIAL = "sp ace+pl%us:col/on?&=äß€\"'\\~"


@pytest.mark.parametrize("method", [POST, BASIC])
def test_a_client_authenticates_with_an_accepted_method(op: Provider, method: ClientAuth) -> None:
    op.client_id, op.client_secret = f"id {SPECIAL}", f"secret {SPECIAL}"
    op.registered_auth = f"client_secret_{method}"
    grant = refresh(op, exchange(op, method), method)
    client_of(op).revoke(op.url("revoke"), method, grant.access_token, "access_token")
    assert op.revoked == [(revealed(grant.access_token), "access_token")]
    for seen in (*op.at("token"), *op.at("revoke")):
        in_header = "Authorization" in seen.headers
        assert in_header == (method == BASIC)
        assert ("client_secret" in seen.form) != in_header
        assert op.client_secret not in str(seen.query)


def test_a_header_has_both_parts_encoded_as_in_a_form(op: Provider) -> None:
    # RFC 6749 section 2.3.1. As they are, a colon in the id would be another id.
    op.client_id, op.client_secret = "a:b c", "d:ä"
    exchange(op, BASIC)
    scheme, _, sent = op.at("token")[0].headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(sent) == b"a%3Ab+c:d%3A%C3%A4"


def test_a_wrong_secret_is_no_end_of_anything(op: Provider) -> None:
    client, verifier = client_of(op), new_verifier()
    code = code_from(op, client, verifier)
    other_client = OAuthClient(op.client_id, Secret("guessed"), callback())
    for method in (POST, BASIC):
        with pytest.raises(ProviderUnavailable, match="invalid_client"):
            other_client.exchange(op.url("token"), method, code, verifier)


def test_a_netrc_of_the_machine_is_not_used(
    op: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    grant = refresh(op, exchange(op))
    client_of(op).revoke(op.url("revoke"), POST, grant.access_token, "access_token")
    for seen in (*op.at("token"), *op.at("revoke")):
        assert "Authorization" not in seen.headers


@pytest.mark.parametrize(
    "endpoint", ["http://idp.example/token", "ftp://127.0.0.1/token", "file:///token", ""]
)
def test_nothing_is_sent_where_secrets_may_not_go(op: Provider, endpoint: str) -> None:
    client = client_of(op)
    for call in (
        lambda: client.exchange(endpoint, POST, "code", new_verifier()),
        lambda: client.refresh(endpoint, POST, Secret("rt")),
        lambda: client.revoke(endpoint, POST, Secret("rt"), "refresh_token"),
    ):
        with pytest.raises(ProviderUnavailable):
            call()


def test_the_switches_of_the_libraries_for_the_whole_process_are_not_touched(
    op: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OAUTHLIB_INSECURE_TRANSPORT", "OAUTHLIB_RELAX_TOKEN_SCOPE"):
        monkeypatch.delenv(name, raising=False)
    assert refresh(op, exchange(op)).access_token


def test_nothing_that_is_logged_holds_a_secret(
    op: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        one = oidc(op)
        _, grant = exchanged(one)
        refreshed = one.refresh(Secret(revealed(grant.refresh_token)), op.user["sub"])
        one.revoke(refreshed)
        with pytest.raises(GrantEnded):
            one.refresh(Secret("another refresh token"), op.user["sub"])
        assert any(record.levelno == logging.DEBUG for record in caplog.records), "it listens"
    said = "\n".join(f"{r.getMessage()} {r.args!r}" for r in caplog.records)
    codes = [seen.form["code"] for seen in op.at("token") if "code" in seen.form]
    secrets = [
        op.client_secret,
        *codes,
        *op.access_tokens,
        *op.given_refresh_tokens,
        *op.id_tokens,
        "another refresh token",
    ]
    assert len(secrets) > 8
    assert [secret for secret in secrets if secret in said] == []


# ---- giving back ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["http_500", "http_503", "held", "closes", "redirect_elsewhere", "redirect_here"]
)
def test_a_token_that_could_not_be_given_back_is_said_to_be_so(op: Provider, fault: str) -> None:
    grant = exchange(op)
    op.misbehave(revoke=fault)
    token = Secret(revealed(grant.refresh_token))
    with hurried(fault), pytest.raises(ProviderUnavailable):
        client_of(op).revoke(op.url("revoke"), POST, token, "refresh_token")
    assert op.elsewhere.requests == []
    op.behave()
    client_of(op).revoke(op.url("revoke"), POST, token, "refresh_token")
    with pytest.raises(GrantEnded):
        refresh(op, grant)


def test_the_answer_to_giving_back_need_be_no_json(op: Provider) -> None:
    grant = exchange(op)
    for fault in ("not_json", "empty"):
        op.misbehave(revoke=fault)
        client_of(op).revoke(op.url("revoke"), BASIC, grant.access_token, "access_token")


def test_a_grant_does_not_print_its_tokens(op: Provider) -> None:
    grant = exchange(op)
    shown = f"{grant!r} {grant}"
    assert not any(token in shown for token in (*op.access_tokens, *op.given_refresh_tokens))
    with pytest.raises(TypeError):
        json.dumps(grant.access_token)
