"""Variants of OpenID Connect: Microsoft, claims, client authentication."""

from __future__ import annotations

from typing import Any

import pytest

from services.oauth.errors import (
    ProviderUnavailable,
    SignInRefused,
)
from services.oauth.oidc import OidcProvider
from services.secret import Secret
from services.settings.providers import ClientAuth, OAuthProvider
from tests.oauth.providers import asked, many, op, refresh_token
from tests.support.oauth import (
    TENANT,
    client_of,
    exchanged,
    new_start,
    oidc,
)
from tests.support.provider import LEFT_OUT, Provider, provider
from tests.support.provider_keys import Signer
from tests.support.provider_tokens import OTHER_ISSUER

__all__ = ["many", "op"]


def test_of_many_tenants_the_one_of_the_token_is_the_issuer(many: Provider) -> None:
    profile, _ = exchanged(oidc(many, "microsoft"))
    assert profile.issuer == many.token_issuer
    assert TENANT in profile.issuer


@pytest.mark.parametrize("tenant", ["9188040d-6c67-4c5b-b112-36a304b66dad", TENANT])
def test_a_key_of_one_tenant_signs_for_no_other(many: Provider, tenant: str) -> None:
    many.key_issuer = f"{many.origin}/{tenant}/v2.0"
    provider = oidc(many, "microsoft")
    if tenant == TENANT:
        assert exchanged(provider)[0].issuer == many.token_issuer
        return
    with pytest.raises(SignInRefused, match="key of another tenant"):
        exchanged(provider)


def test_another_name_does_not_stand_for_many_tenants(many: Provider) -> None:
    with pytest.raises(ProviderUnavailable, match="another issuer"):
        exchanged(oidc(many, "entra"))


@pytest.mark.parametrize(
    ("claims", "verified"),
    [
        ({"email_verified": True}, False),
        ({"email_verified": True, "xms_edov": False}, False),
        ({"xms_edov": True}, True),
        ({"xms_edov": "1"}, True),
        ({"xms_edov": 1}, True),
        ({"xms_edov": "0"}, False),
    ],
)
def test_microsoft_verified_an_address_by_a_claim_of_its_own(
    many: Provider, claims: dict[str, Any], verified: bool
) -> None:
    many.user = {"sub": "ada", "email": "ada@example.com", "name": "Ada", **claims}
    profile, _ = exchanged(oidc(many, "microsoft"))
    assert profile.email_verified is verified
    assert many.count("userinfo") == 0


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ("https://login.microsoftonline.us/common/v2.0",
         "https://login.microsoftonline.us/{tenantid}/v2.0"),
        ("https://login.partner.microsoftonline.cn/organizations/v2.0/",
         "https://login.partner.microsoftonline.cn/{tenantid}/v2.0"),
        (f"https://login.microsoftonline.com/{TENANT}/v2.0",
         f"https://login.microsoftonline.com/{TENANT}/v2.0"),
        (None, "https://login.microsoftonline.com/{tenantid}/v2.0"),
    ],
)  # fmt: skip
def test_each_cloud_of_microsoft_has_tenants_of_its_own(issuer: str | None, expected: str) -> None:
    settings = OAuthProvider("microsoft", issuer, "client", Secret("secret"))
    assert OidcProvider(settings, client_of(settings), "Microsoft")._discovery._expected == expected


BASIC, POST = "client_secret_basic", "client_secret_post"


@pytest.mark.parametrize(
    ("offered", "registered", "chosen"),
    [
        (None, BASIC, None),  # RFC 8414 section 2, RFC 7591 section 2
        ((), BASIC, None),
        ((BASIC,), BASIC, None),
        ((POST,), POST, None),
        ((POST, BASIC), BASIC, None),  # better-auth, Canaille
        (("private_key_jwt", POST, "none"), POST, None),
        ((POST, BASIC), POST, "post"),
        ((POST, BASIC), BASIC, "basic"),
        ((POST,), BASIC, "basic"),
        (None, POST, "post"),
    ],
)
def test_a_client_shows_its_secret_as_it_is_registered_to(
    op: Provider,
    offered: tuple[str, ...] | None,
    registered: str,
    chosen: ClientAuth | None,
) -> None:
    op.auth_methods, op.registered_auth = offered, registered
    one = oidc(op, client_auth=chosen)
    _, grant = exchanged(one)
    fresh = one.refresh(refresh_token(grant), op.user["sub"])
    one.revoke(fresh)
    assert len(op.revoked) == 1
    assert op.count("token") == 2, "nothing is tried twice: a wrong try uses the code up"


@pytest.mark.parametrize(
    ("at_token", "at_revocation", "chosen", "expected"),
    [
        ((POST,), (BASIC,), None, BASIC),
        ((BASIC,), (POST,), None, POST),
        ((BASIC, POST), (BASIC,), "post", BASIC),  # Canaille
        ((BASIC, POST), (BASIC, POST), "post", POST),
        ((POST,), None, None, POST),
    ],
)
def test_the_revocation_endpoint_uses_its_own_list(
    op: Provider,
    at_token: tuple[str, ...],
    at_revocation: tuple[str, ...] | None,
    chosen: ClientAuth | None,
    expected: str,
) -> None:
    op.auth_methods, op.revocation_auth_methods = at_token, at_revocation
    one = oidc(op, client_auth=chosen)
    _, grant = exchanged(one)
    one.revoke(grant)
    [seen] = op.at("revoke")
    assert ("Authorization" in seen.headers) == (expected == BASIC)
    assert len(op.revoked) == 1


@pytest.mark.parametrize(
    ("scopes", "parameters", "asked_for", "expected"),
    [
        ((), (), None, None),
        ((), (), "login", "login"),
        (("openid", "offline_access"), (), None, "consent"),
        (("openid", "offline_access"), (), "login", "login consent"),
        (("openid", "offline_access"), (("prompt", ""),), None, None),
        (("openid", "offline_access"), (("prompt", ""),), "login", "login"),
        (("openid", "offline_access"), (("prompt", "select_account"),), None, "select_account"),
        ((), (("prompt", "consent"),), "login", "login consent"),
        ((), (("prompt", "login consent"),), "login", "login consent"),
        ((), (("prompt", "none"),), None, "none"),
        ((), (("prompt", "none"),), "login", "login"),
    ],
)
def test_everything_that_is_wanted_of_the_user_is_asked_for_together(
    op: Provider,
    scopes: tuple[str, ...],
    parameters: tuple[tuple[str, str], ...],
    asked_for: str | None,
    expected: str | None,
) -> None:
    one = oidc(op, scopes=scopes, parameters=parameters)
    found = asked(one.authorization_url(new_start(), asked_for))
    assert found.get("prompt") == (None if expected is None else [expected])


def test_microsofts_usual_scopes_ask_for_no_consent_each_time() -> None:
    with provider(tenant=TENANT) as many:
        one = oidc(many, "microsoft")
        assert "prompt" not in asked(one.authorization_url(new_start(), None))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"upn": "ada@corp.example"}, ("ada@corp.example", False)),
        ({"upn": "ada@corp.example", "email": "x@x.example"}, ("ada@corp.example", False)),
        ({"upn": "ada@corp.example", "email": "ada@corp.example"}, ("ada@corp.example", True)),
        ({"upn": ["ada@corp.example", "b@corp.example"]}, ("ada@corp.example", False)),
        ({"upn": []}, ("", False)),
        ({"upn": 7}, ("", False)),
        ({"email": "ada@corp.example"}, ("", False)),
    ],
)
def test_an_address_of_another_claim_is_not_verified_by_itself(
    op: Provider, claims: dict[str, Any], expected: tuple[str, bool]
) -> None:
    op.user = {"sub": "ada", "email_verified": True, **claims}
    profile, _ = exchanged(oidc(op, email_claim="upn"))
    assert (profile.email, profile.email_verified) == expected


def test_without_the_setting_no_other_claim_is_an_address(op: Provider) -> None:
    op.user = {"sub": "ada", "upn": "ada@corp.example", "email_verified": True}
    assert exchanged(oidc(op))[0].email == ""


def test_the_document_may_lie_elsewhere_and_has_to_name_the_issuer(op: Provider) -> None:
    # Azure B2C: its documents lie under the policy's name, its issuer has the tenant's number.
    url = op.url("discovery")
    op.issuer = op.metadata_issuer = op.token_issuer = f"{op.origin}/00000000/v2.0/"
    with pytest.raises(ProviderUnavailable):
        exchanged(oidc(op))
    assert exchanged(oidc(op, metadata_url=url))[0].issuer == op.issuer
    op.metadata_issuer = OTHER_ISSUER
    with pytest.raises(ProviderUnavailable, match="another issuer"):
        exchanged(oidc(op, metadata_url=url))


@pytest.mark.parametrize("claims", [{}, {"iss": LEFT_OUT}, {"aud": LEFT_OUT}, {"aud": "list"}])
def test_user_info_may_be_a_signed_jwt(op: Provider, claims: dict[str, Any]) -> None:
    op.claims_in = "userinfo"
    if claims.get("aud") == "list":
        claims = {"aud": [op.client_id, "another"]}
    op.signed_userinfo = claims
    profile, _ = exchanged(oidc(op))
    assert (profile.email, profile.email_verified, profile.name) == (
        "ada@example.com",
        True,
        "Ada Lovelace",
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": OTHER_ISSUER},
        {"aud": "another"},
        {"aud": []},
        {"sub": "eve"},
        {"exp": 1_000_000_000},
    ],
)
def test_and_is_refused_where_it_is_not_for_us(op: Provider, claims: dict[str, Any]) -> None:
    op.claims_in = "userinfo"
    op.signed_userinfo = claims
    with pytest.raises(SignInRefused):
        exchanged(oidc(op))


@pytest.mark.parametrize("signer", ["none", "foreign", "jku", "client_secret", "pem"])
def test_and_where_it_is_forged(op: Provider, signer: Signer) -> None:
    op.claims_in = "userinfo"
    op.signed_userinfo, op.userinfo_signer = {}, signer
    with pytest.raises(SignInRefused):
        exchanged(oidc(op))


def test_the_logout_url_has_further_parameters_and_omits_empty_ones(
    op: Provider,
) -> None:
    # Cognito goes back to `logout_uri`.
    more = (("logout_uri", "https://usher.example/"), ("post_logout_redirect_uri", ""))
    one = oidc(op, logout_parameters=more)
    _, grant = exchanged(one)
    url = one.end_session_url(grant.id_token, "https://usher.example/")
    assert url is not None
    assert asked(url) == {
        "client_id": [op.client_id],
        "id_token_hint": [op.id_tokens[-1]],
        "logout_uri": ["https://usher.example/"],
    }
