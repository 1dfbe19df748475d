"""What is sent to the token endpoint, and to the one that takes tokens back."""

from __future__ import annotations

import base64
import json
import logging
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from services.oauth.errors import GrantEnded, ProviderUnavailable
from services.oauth.token_endpoint import OAuthClient, new_verifier
from services.secret import Secret
from services.settings.providers import ClientAuth
from tests.oauth.grants import (
    BASIC,
    POST,
    SCOPES,
    client_of,
    code_from,
    exchange,
    op,
    refresh,
    revealed,
)
from tests.support.oauth import callback, came_back, exchanged, hurried, oidc
from tests.support.provider import Provider
from tests.support.provider_grants import s256

__all__ = ["op"]

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
