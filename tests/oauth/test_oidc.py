"""A provider by discovery: requests, accepted responses, and oddities."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest

from services.oauth.errors import ProviderUnavailable, Reason, SignInRefused
from services.oauth.oidc import GOOGLE, OidcProvider
from services.secret import Secret
from services.settings.providers import OAuthProvider
from tests.oauth.providers import asked, many, op
from tests.support.oauth import (
    TENANT,
    callback,
    came_back,
    client_of,
    exchanged,
    hurried,
    new_start,
    oidc,
)
from tests.support.provider import LEFT_OUT, Provider, provider
from tests.support.provider_faults import (
    DISCOVERY_FAULTS,
    DISCOVERY_QUIRKS,
    JWKS_FAULTS,
    JWKS_QUIRKS,
    USERINFO_FAULTS,
)
from tests.support.provider_tokens import OTHER_ISSUER

__all__ = ["many", "op"]

ABOUT_SOMEBODY_ELSE = ("json_array", "sub_other", "sub_missing")
"""Faults of the userinfo endpoint that are answers."""


# ---- the way there -------------------------------------------------------------------------


def test_the_authorization_request_has_the_openid_scope_and_a_nonce(op: Provider) -> None:
    start = new_start()
    url = oidc(op).authorization_url(start, None)
    assert url.startswith(op.url("authorize") + "?")
    assert asked(url)["scope"] == ["openid email profile"]
    assert asked(url)["nonce"] == [start.nonce]
    assert asked(url)["state"] == [start.state]
    assert asked(url)["redirect_uri"] == [callback()]
    assert asked(url)["code_challenge_method"] == ["S256"]
    assert "prompt" not in asked(url)
    assert asked(oidc(op).authorization_url(start, "login"))["prompt"] == ["login"]


def test_chosen_scopes_and_parameters_are_sent_and_openid_is_never_left_out(op: Provider) -> None:
    one = oidc(op, scopes=("email", "calendar"), parameters=(("audience", "https://api.example"),))
    found = asked(one.authorization_url(new_start(), None))
    assert found["scope"] == ["openid email calendar"]
    assert found["audience"] == ["https://api.example"]


def test_google_is_asked_for_a_refresh_token_and_microsoft_too(op: Provider) -> None:
    found = asked(oidc(op, "google").authorization_url(new_start(), None))
    assert found["access_type"] == ["offline"]
    with provider(tenant=TENANT) as many:
        found = asked(oidc(many, "microsoft").authorization_url(new_start(), None))
        assert "offline_access" in found["scope"][0].split()


def test_without_an_issuer_it_is_the_one_that_everybody_knows() -> None:
    settings = OAuthProvider("google", None, "client", Secret("secret"))
    one = OidcProvider(settings, client_of(settings), "Google")
    assert one._discovery._issuer == GOOGLE


# ---- whose answer --------------------------------------------------------------------------


def test_an_answer_names_its_issuer_where_the_provider_says_that_it_does(op: Provider) -> None:
    one = oidc(op)
    one.check_issuer(op.issuer)
    for wrong in (None, "", OTHER_ISSUER, op.issuer + "/"):
        with pytest.raises(SignInRefused) as caught:
            one.check_issuer(wrong)
        assert caught.value.reason is Reason.UNTRUSTED


def test_where_it_does_not_say_so_it_may_be_missing_and_not_wrong(op: Provider) -> None:
    op.misbehave(discovery="iss_unannounced")
    one = oidc(op)
    one.check_issuer(None)
    one.check_issuer(op.issuer)
    with pytest.raises(SignInRefused):
        one.check_issuer(OTHER_ISSUER)


# ---- who it is -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/realms/usher"])
def test_the_signed_in_user_is_that_of_the_id_token(path: str) -> None:
    with provider(path=path) as op:
        profile, grant = exchanged(oidc(op))
        assert (profile.issuer, profile.subject, profile.sid) == (op.issuer, op.user["sub"], op.sid)
        assert (profile.email, profile.email_verified) == ("ada@example.com", True)
        assert profile.name == "Ada Lovelace"
        assert grant.refresh_token is not None
        assert op.count("userinfo") == 0, "nothing was missing"


@pytest.mark.parametrize("claims_in", ["both", "id_token", "userinfo"])
def test_what_the_id_token_lacks_is_asked_of_the_userinfo_endpoint(
    op: Provider, claims_in: Literal["both", "id_token", "userinfo"]
) -> None:
    op.claims_in = claims_in
    op.user["groups"] = ["staff"]
    profile, grant = exchanged(oidc(op, role_claim="groups"))
    assert (profile.email, profile.email_verified, profile.name) == (
        "ada@example.com",
        True,
        "Ada Lovelace",
    )
    assert profile.claims["groups"] == ["staff"]
    assert op.count("userinfo") == (claims_in == "userinfo")
    for seen in op.at("userinfo"):
        assert seen.headers["Authorization"] == f"Bearer {grant.access_token.reveal()}"


@pytest.mark.parametrize(
    ("role_claim", "calls"),
    [("realm_access.roles", 0), ("https://usher.example/roles", 0), ("groups", 1), ("a.b", 1)],
)
def test_it_is_asked_only_where_something_is_missing(
    op: Provider, role_claim: str, calls: int
) -> None:
    op.user |= {"realm_access": {"roles": ["ops"]}, "https://usher.example/roles": ["ops"]}
    exchanged(oidc(op, role_claim=role_claim))
    assert op.count("userinfo") == calls


@pytest.mark.parametrize("fault", sorted(USERINFO_FAULTS))
def test_each_fault_of_the_userinfo_endpoint_refuses_the_sign_in(op: Provider, fault: str) -> None:
    op.claims_in = "userinfo"
    op.misbehave(userinfo=fault)
    op.drip_interval = 0.05
    expected = SignInRefused if fault in ABOUT_SOMEBODY_ELSE else ProviderUnavailable
    with hurried(fault), pytest.raises(expected):
        exchanged(oidc(op))
    assert op.elsewhere.requests == []


def test_without_a_userinfo_endpoint_the_id_token_has_to_do(op: Provider) -> None:
    op.claims_in = "userinfo"
    op.misbehave(discovery="no_userinfo")
    profile, _ = exchanged(oidc(op))
    assert (profile.subject, profile.email, profile.name) == (op.user["sub"], "", "")


@pytest.mark.parametrize(
    ("value", "verified"),
    [
        (True, True),
        ("true", True),
        ("1", True),
        (1, True),
        (False, False),
        ("false", False),
        ("True ", False),
        ("yes", False),
        (0, False),
        (2, False),
        (None, False),
        ([True], False),
        ({"verified": True}, False),
        (LEFT_OUT, False),
    ],
)
def test_an_address_is_verified_where_the_provider_says_so(
    op: Provider, value: object, verified: bool
) -> None:
    op.misbehave(discovery="no_userinfo")
    op.id_token_claims["email_verified"] = value
    assert exchanged(oidc(op))[0].email_verified is verified


@pytest.mark.parametrize(
    ("in_id_token", "in_userinfo", "expected"),
    [
        ({"email": "a@x.example"}, {"email": "a@x.example", "email_verified": True},
         ("a@x.example", True)),
        ({"email": "a@x.example"}, {"email": "b@x.example", "email_verified": True},
         ("a@x.example", False)),
        ({"email": "a@x.example"}, {"email_verified": True}, ("a@x.example", False)),
        ({"email_verified": True}, {"email": "b@x.example"}, ("b@x.example", False)),
        ({"email_verified": True}, {"email": "b@x.example", "email_verified": False},
         ("b@x.example", False)),
        ({"email": "a@x.example", "email_verified": False},
         {"email": "a@x.example", "email_verified": True}, ("a@x.example", False)),
        ({}, {"email": "b@x.example", "email_verified": True}, ("b@x.example", True)),
    ],
)  # fmt: skip
def test_the_document_with_the_address_says_whether_it_is_verified(
    op: Provider,
    in_id_token: dict[str, Any],
    in_userinfo: dict[str, Any],
    expected: tuple[str, bool],
) -> None:
    sub = op.user["sub"]
    op.user = {"sub": sub, **in_userinfo}
    op.id_token_claims = {"email": LEFT_OUT, "email_verified": LEFT_OUT, **in_id_token}
    profile, _ = exchanged(oidc(op))
    assert (profile.email, profile.email_verified) == expected


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"name": "Ada"}, "Ada"),
        ({"name": "", "preferred_username": "ada"}, "ada"),
        ({"name": 7, "preferred_username": ["ada"]}, ""),
        ({"name": "A" * 100_000}, "A" * 1000),
    ],
)
def test_a_name_is_a_text_of_reasonable_length(
    op: Provider, claims: dict[str, Any], name: str
) -> None:
    op.user = {"sub": "ada", "email": "ada@example.com", **claims}
    op.claims_in = "userinfo"
    assert exchanged(oidc(op))[0].name == name


# ---- what errs -----------------------------------------------------------------------------


def test_a_response_without_an_id_token_refuses_the_sign_in(op: Provider) -> None:
    op.misbehave(token="no_id_token")
    with pytest.raises(SignInRefused) as caught:
        exchanged(oidc(op))
    assert caught.value.reason is Reason.UNTRUSTED


@pytest.mark.parametrize("fault", sorted(DISCOVERY_FAULTS))
def test_each_fault_of_discovery_breaks_the_sign_in_and_no_secret_leaves(
    op: Provider, fault: str
) -> None:
    op.misbehave(discovery=fault)
    op.drip_interval = 0.05
    one, start = oidc(op), new_start()
    if fault != "endpoints_elsewhere":
        with hurried(fault), pytest.raises(ProviderUnavailable):
            one.authorization_url(start, None)
    else:  # the document is believed, and what lies elsewhere is no provider
        code = came_back(one.authorization_url(start, None)).code
        with pytest.raises(ProviderUnavailable):
            one.exchange(code, start)
        return
    assert op.elsewhere.requests == []


@pytest.mark.parametrize("quirk", sorted(DISCOVERY_QUIRKS))
def test_each_quirk_of_discovery_leaves_the_sign_in_whole(op: Provider, quirk: str) -> None:
    op.misbehave(discovery=quirk)
    one = oidc(op)
    profile, grant = exchanged(one)
    assert profile.subject == op.user["sub"]
    one.revoke(grant)
    one.end_session_url(grant.id_token, "https://usher.example/")


@pytest.mark.parametrize("fault", sorted(JWKS_FAULTS))
def test_each_fault_of_the_keys_refuses_the_sign_in(op: Provider, fault: str) -> None:
    op.misbehave(jwks=fault)
    op.drip_interval = 0.05
    expected = SignInRefused if fault == "only_others" else ProviderUnavailable
    with hurried(fault), pytest.raises(expected):
        exchanged(oidc(op))
    assert op.elsewhere.requests == []


@pytest.mark.parametrize("quirk", sorted(JWKS_QUIRKS))
def test_each_quirk_of_the_keys_leaves_the_sign_in_whole(op: Provider, quirk: str) -> None:
    op.misbehave(jwks=quirk)
    assert exchanged(oidc(op))[0].subject == op.user["sub"]


def test_many_sign_ins_at_once_fetch_what_is_published_once(op: Provider) -> None:
    one = oidc(op)
    begin = threading.Barrier(8)

    def sign_in(_: int) -> str:
        begin.wait(10)
        return exchanged(one)[0].subject

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(sign_in, range(8))) == {op.user["sub"]}
    assert (op.count("discovery"), op.count("jwks")) == (1, 1)


def test_keys_that_have_moved_are_found_where_they_are_now(op: Provider) -> None:
    one = oidc(op)
    exchanged(one)
    op.metadata_claims["jwks_uri"] = op.url("jwks") + "?moved"
    one._discovery._until = 0.0
    op.rotate()
    assert exchanged(one)[0].subject == op.user["sub"]
    assert op.at("jwks")[-1].query == {"moved": ""}
