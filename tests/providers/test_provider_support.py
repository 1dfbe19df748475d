"""The tests' own OpenID provider: honest by default, and each of its faults is one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from oauthlib.oauth2 import InvalidClientError, InvalidGrantError, OAuth2Error
from requests_oauthlib import OAuth2Session
from urllib3.exceptions import HTTPError

from tests.support.faults import TRANSPORT_FAULTS
from tests.support.http_service import sent_back
from tests.support.provider import LEFT_OUT, Provider, provider
from tests.support.provider_faults import (
    ID_TOKEN_FAULTS,
    ID_TOKEN_QUIRKS,
    JWKS_QUIRKS,
    TENANT_FAULTS,
)
from tests.support.provider_keys import Algorithm, half_hash
from tests.support.provider_tokens import LOGOUT_EVENT

CALLBACK = "http://127.0.0.1:1/oauth/test/callback"
TENANT = "7f0dfd33-66c1-4d5c-9c5c-0c9ea2b6cc3a"
WELL_KNOWN = "/.well-known/openid-configuration"


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


class Login:
    """One sign-in of a plain client, and what came of it."""

    def __init__(self, op: Provider) -> None:
        self.op = op
        self.metadata = requests.get(op.issuer.rstrip("/") + WELL_KNOWN, timeout=10).json()
        self.session = OAuth2Session(
            op.client_id, redirect_uri=CALLBACK, scope=["openid", "email"], pkce="S256"
        )
        url, self.state = self.session.authorization_url(
            self.metadata["authorization_endpoint"], nonce="n-1"
        )
        self.answer = sent_back(url)
        self.token: dict[str, Any] = {}

    def fetch(self, secret: str | None = None) -> dict[str, Any]:
        self.token = self.session.fetch_token(
            self.metadata["token_endpoint"],
            authorization_response=self.answer,
            client_secret=secret or self.op.client_secret,
            timeout=10,
        )
        return self.token

    def refresh(self, refresh_token: str) -> dict[str, Any]:
        self.token = self.session.refresh_token(
            self.metadata["token_endpoint"],
            refresh_token,
            auth=(self.op.client_id, self.op.client_secret),
            timeout=10,
        )
        return self.token

    def claims(self) -> dict[str, Any]:
        """The ID token's, checked by the book (OIDC Core section 3.1.3.7).

        Raises: jwt.InvalidTokenError.
        """
        raw = self.token["id_token"]
        keys = jwt.PyJWKClient(self.metadata["jwks_uri"])
        if jwt.get_unverified_header(raw).get("typ", "JWT") != "JWT":
            raise jwt.InvalidTokenError("typ")
        if "kid" in jwt.get_unverified_header(raw):
            key = keys.get_signing_key_from_jwt(raw)
        else:
            (key,) = keys.get_signing_keys()
        claims: dict[str, Any] = jwt.decode(
            raw,
            key,
            algorithms=["RS256", "ES256"],
            audience=self.op.client_id,
            issuer=self.op.token_issuer,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )
        self._beyond_pyjwt(claims)
        return claims

    def _beyond_pyjwt(self, claims: dict[str, Any]) -> None:
        client = self.op.client_id
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        at_hash = half_hash(self.token["access_token"])
        if not (
            claims.get("nonce") == "n-1"
            and claims.get("azp", None if several else client) == client
            and claims.get("at_hash", at_hash) == at_hash
            and 0 < len(claims["sub"]) <= 255
        ):
            raise jwt.InvalidTokenError("nonce, azp, at_hash or sub")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("path", ["", "/", "/realms/usher"])
def test_a_plain_client_signs_in_and_the_token_verifies(algorithm: Algorithm, path: str) -> None:
    with provider(algorithm=algorithm, path=path) as op:
        login = Login(op)
        login.fetch()
        claims = login.claims()
        assert (claims["sub"], claims["sid"]) == (op.user["sub"], op.sid)
        assert f"state={login.state}" in login.answer
        info = login.session.get(login.metadata["userinfo_endpoint"], timeout=10).json()
        assert info == op.user
        assert login.metadata["issuer"] == op.issuer
        assert op.count("token") == 1


def test_a_code_needs_its_verifier_and_the_client_its_secret(op: Provider) -> None:
    form = {
        "grant_type": "authorization_code",
        "code": parse_qs(urlsplit(Login(op).answer).query)["code"][0],
        "redirect_uri": CALLBACK,
        "code_verifier": "v" * 43,
    }
    own = (op.client_id, op.client_secret)
    guessed = requests.post(op.url("token"), form, auth=own, timeout=10)
    assert (guessed.status_code, guessed.json()["error"]) == (400, "invalid_grant")
    with pytest.raises(InvalidClientError, match="wrong credentials"):
        Login(op).fetch(secret="guessed")


def test_a_code_works_once_and_ends_what_it_gave_at_the_second_time(op: Provider) -> None:
    login = Login(op)
    first = login.fetch()
    with pytest.raises(InvalidGrantError, match="used before"):
        login.fetch()
    with pytest.raises(InvalidGrantError):
        login.refresh(first["refresh_token"])


def test_refresh_tokens_rotate_and_end_with_the_session(op: Provider) -> None:
    login = Login(op)
    first = login.fetch()["refresh_token"]
    second = login.refresh(first)["refresh_token"]
    with pytest.raises(InvalidGrantError):
        login.refresh(first)
    op.end_sessions(sid=op.sid)
    with pytest.raises(InvalidGrantError):
        login.refresh(second)


@pytest.mark.parametrize("fault", sorted(ID_TOKEN_FAULTS))
def test_each_fault_makes_an_id_token_that_does_not_verify(fault: str) -> None:
    with provider(id_token=fault, jwks="oct_key") as op:
        login = Login(op)
        login.fetch()
        with pytest.raises((jwt.InvalidTokenError, jwt.PyJWKClientError)):
            login.claims()


@pytest.mark.parametrize("quirk", sorted(ID_TOKEN_QUIRKS))
def test_each_quirk_leaves_an_id_token_that_verifies(op: Provider, quirk: str) -> None:
    op.misbehave(id_token=quirk)
    login = Login(op)
    login.fetch()
    assert login.claims()["sub"] == op.user["sub"]


@pytest.mark.parametrize("quirk", sorted(JWKS_QUIRKS))
def test_each_quirk_of_the_key_set_leaves_the_valid_key(op: Provider, quirk: str) -> None:
    op.misbehave(jwks=quirk)
    login = Login(op)
    login.fetch()
    assert login.claims()["sub"] == op.user["sub"]


def test_of_several_tenants_each_has_an_issuer_of_its_own() -> None:
    with provider(tenant=TENANT) as op:
        login = Login(op)
        login.fetch()
        claims = login.claims()
        assert login.metadata["issuer"].replace("{tenantid}", claims["tid"]) == claims["iss"]
        for fault in TENANT_FAULTS:
            op.misbehave(id_token=fault)
            token = login.refresh(login.token["refresh_token"])["id_token"]
            wrong = jwt.decode(token, options={"verify_signature": False})
            assert (wrong.get("tid"), wrong["iss"]) != (TENANT, claims["iss"])


@pytest.mark.parametrize("fault", sorted(TRANSPORT_FAULTS))
def test_each_network_fault_prevents_the_document(op: Provider, fault: str) -> None:
    op.misbehave(discovery=fault, times=1 if fault != "redirect_loop" else None)
    op.delay = op.drip_interval = 5
    started = time.monotonic()
    assert _document(op) is None
    op.behave()
    assert _document(op)["issuer"] == op.issuer  # type: ignore[index] # the assertion above it
    assert time.monotonic() - started < 15


def _document(op: Provider) -> dict[str, Any] | None:
    """The discovery document, for a client that waits half a second and reads 100 kB."""
    try:
        with requests.get(
            op.url("discovery"), timeout=0.5, stream=True, allow_redirects=False
        ) as answer:
            document = json.loads(answer.raw.read(100_000, decode_content=True))
    except (requests.RequestException, HTTPError, ValueError, RecursionError):
        return None
    return document if answer.ok and isinstance(document, dict) and document else None


def test_held_answers_show_how_many_calls_were_at_once(op: Provider) -> None:
    op.misbehave(jwks="held")
    with ThreadPoolExecutor() as callers:
        calls = [callers.submit(requests.get, op.url("jwks"), timeout=20) for _ in range(3)]
        op.wait_for(op.path("jwks"), 3)
        op.behave()
        assert [call.result().status_code for call in calls] == [200] * 3
    assert op.peak(op.path("jwks")) == 3


def test_a_logout_token_names_the_session_and_any_of_it_can_be_written_over(op: Provider) -> None:
    Login(op).fetch()
    token = op.logout_token()
    key = jwt.PyJWKClient(op.url("jwks")).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, audience=op.client_id, issuer=op.issuer)
    assert jwt.get_unverified_header(token)["typ"] == "logout+jwt"
    assert (claims["sid"], claims["sub"]) == (op.sid, op.user["sub"])
    assert claims["events"] == {LOGOUT_EVENT: {}}
    other = op.logout_token(sub=LEFT_OUT, nonce="n", header={"kid": LEFT_OUT}, signer="none")
    assert "kid" not in jwt.get_unverified_header(other)
    claims = jwt.decode(other, options={"verify_signature": False})
    assert "sub" not in claims
    assert claims["nonce"] == "n"


def test_revoking_and_signing_out_are_recorded_and_end_the_grant(op: Provider) -> None:
    login = Login(op)
    token = login.fetch()
    form = {"token": token["refresh_token"], "token_type_hint": "refresh_token"}
    own = (op.client_id, op.client_secret)
    assert requests.post(op.url("revoke"), form, auth=own, timeout=10).ok
    assert op.revoked == [(token["refresh_token"], "refresh_token")]
    assert login.session.get(op.url("userinfo"), timeout=10).status_code == 401
    home = requests.Request("GET", op.url("end_session"), params={
        "id_token_hint": token["id_token"], "post_logout_redirect_uri": CALLBACK, "state": "s",
    }).prepare()  # fmt: skip
    assert sent_back(str(home.url)) == f"{CALLBACK}?state=s"
    with pytest.raises(OAuth2Error):
        login.refresh(token["refresh_token"])
