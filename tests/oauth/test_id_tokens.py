"""ID tokens: invalid ones are refused, unusual ones accepted."""

from __future__ import annotations

import time
from typing import Any, get_args

import jwt
import pytest

from services.oauth.errors import ProviderUnavailable, SignInRefused
from services.oauth.id_tokens import (
    CLOCK_SKEW_SECONDS,
    MAX_AGE_SECONDS,
    IdToken,
    check_sign_in,
)
from services.oauth.token_claims import MAX_TIMESTAMP, MAX_TOKEN_LENGTH
from tests.oauth.token_checks import (
    ACCESS_TOKEN,
    FAR_AHEAD,
    op,
    received,
    refused,
    signed,
    verified,
)
from tests.support.oauth import TENANT, exchanged, oidc
from tests.support.provider import LEFT_OUT, Provider, provider
from tests.support.provider_faults import ID_TOKEN_FAULTS, ID_TOKEN_QUIRKS, TENANT_FAULTS
from tests.support.provider_keys import HMAC_KID, Algorithm, half_hash
from tests.support.provider_tokens import HOUR

__all__ = ["op"]


# ---- ID tokens -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", get_args(Algorithm))
@pytest.mark.parametrize("fault", sorted(ID_TOKEN_FAULTS))
def test_each_fault_of_an_id_token_is_refused(fault: str, algorithm: Algorithm) -> None:
    with provider(id_token=fault, jwks="oct_key", algorithm=algorithm) as op:
        with pytest.raises(SignInRefused) as caught:
            exchanged(oidc(op))
        assert refused(caught).startswith(("ID token", "token"))
        assert op.count("foreign_jwks") == 0, "nobody fetches what a token names"


@pytest.mark.parametrize("algorithm", get_args(Algorithm))
@pytest.mark.parametrize("quirk", sorted(ID_TOKEN_QUIRKS))
def test_each_quirk_of_an_id_token_is_accepted(quirk: str, algorithm: Algorithm) -> None:
    with provider(id_token=quirk, algorithm=algorithm) as op:
        profile, _ = exchanged(oidc(op))
        assert profile.subject == op.user["sub"]


@pytest.mark.parametrize("fault", sorted(TENANT_FAULTS))
def test_each_fault_of_a_tenant_is_refused(fault: str) -> None:
    with provider(id_token=fault, tenant=TENANT) as op:
        with pytest.raises(SignInRefused) as caught:
            exchanged(oidc(op, "microsoft"))
        assert "another issuer" in refused(caught)


def test_a_key_rotated_between_the_code_and_the_token_is_found_in_the_same_sign_in(
    op: Provider,
) -> None:
    one = oidc(op)
    exchanged(one)
    op.misbehave(id_token="key_rotated")
    profile, _ = exchanged(one)
    assert profile.subject == op.user["sub"]
    assert op.count("jwks") == 2


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "iat", "sub"])
@pytest.mark.parametrize("value", [LEFT_OUT, None, "", -1, [], {}, True, "\ud800", "a\x00b"])
def test_a_claim_of_a_wrong_kind_is_refused(op: Provider, name: str, value: object) -> None:
    with pytest.raises(SignInRefused) as caught:
        verified(op, signed(op, **{name: value}))
    refused(caught)


@pytest.mark.parametrize("name", ["exp", "iat"])
@pytest.mark.parametrize("value", ["1", -1, 1e400, float("nan"), 10**400, MAX_TIMESTAMP, [1]])
def test_a_time_is_a_number_that_fits_into_a_row(op: Provider, name: str, value: object) -> None:
    with pytest.raises(SignInRefused) as caught:
        verified(op, signed(op, **{name: value}))
    refused(caught)


@pytest.mark.parametrize("value", ["tomorrow", {}, None, FAR_AHEAD, 1e400])
def test_nbf_is_checked_where_it_is_there(op: Provider, value: object) -> None:
    assert verified(op, signed(op, nbf=time.time() - 1)).subject == "ada"
    with pytest.raises(SignInRefused) as caught:
        verified(op, signed(op, nbf=value))
    refused(caught)


def test_a_clock_may_be_off_by_a_minute_and_not_by_more(op: Provider) -> None:
    now = int(time.time())
    off = CLOCK_SKEW_SECONDS - 20
    assert verified(op, signed(op, iat=now + off, exp=now + HOUR)).subject == "ada"
    assert verified(op, signed(op, iat=now - HOUR, exp=now - off)).subject == "ada"
    for wrong in ({"iat": now + 2 * CLOCK_SKEW_SECONDS}, {"exp": now - 2 * CLOCK_SKEW_SECONDS}):
        with pytest.raises(SignInRefused):
            verified(op, signed(op, **wrong))


@pytest.mark.parametrize("value", [None, "", 7, "\ud800", "a\nb", ["sid"]])
def test_a_sid_is_a_text_or_is_not_there(op: Provider, value: object) -> None:
    assert verified(op, signed(op, sid="s" * 255)).sid == "s" * 255
    assert verified(op, signed(op)).sid is None
    if value is None:
        assert verified(op, signed(op, sid=value)).sid is None
        return
    with pytest.raises(SignInRefused) as caught:
        verified(op, signed(op, sid=value))
    refused(caught)


@pytest.mark.parametrize("value", [None, "", 7, [], half_hash(ACCESS_TOKEN) + "="])
def test_at_hash_is_that_of_the_access_token_where_it_is_there(op: Provider, value: object) -> None:
    assert verified(op, signed(op, at_hash=half_hash(ACCESS_TOKEN))).subject == "ada"
    with pytest.raises(SignInRefused) as caught:
        verified(op, signed(op, at_hash=value))
    refused(caught)


@pytest.mark.parametrize("value", [None, "", [], 7, "another-client"])
def test_azp_is_this_client_where_it_is_there(op: Provider, value: object) -> None:
    with pytest.raises(SignInRefused) as caught:
        verified(op, signed(op, azp=value))
    refused(caught)


@pytest.mark.parametrize("typ", [LEFT_OUT, "JWT", "jwt", "application/jwt"])
def test_an_id_token_has_no_type_of_its_own(op: Provider, typ: object) -> None:
    assert verified(op, signed(op, {"typ": typ})).subject == "ada"


@pytest.mark.parametrize("typ", ["logout+jwt", "at+jwt", "application/at+jwt", 7, None, ["JWT"]])
def test_a_token_of_another_typ_is_not_an_id_token(op: Provider, typ: object) -> None:
    with pytest.raises(SignInRefused) as caught:
        verified(op, signed(op, {"typ": typ}))
    assert "typ" in refused(caught)


ODD_HEADERS: tuple[dict[str, object], ...] = (
    {"alg": LEFT_OUT},
    {"alg": None},
    {"alg": ""},
    {"alg": ["RS256"]},
    {"alg": {"RS256": 1}},
    {"alg": 7},
    {"alg": "none"},
    {"alg": "NONE"},
    {"alg": "rs256"},
    {"alg": "HS256"},
    {"alg": "RS512"},
    {"alg": "ES256"},
    {"kid": 7},
    {"kid": None},
    {"kid": ["k"]},
    {"kid": "x" * 10_000},
    {"kid": HMAC_KID},
    {"crit": ["exp"]},
    {"crit": []},
    {"crit": ["b64"], "b64": True},
    {"b64": False},
)


@pytest.mark.parametrize("header", ODD_HEADERS, ids=repr)
def test_a_header_that_is_odd_is_refused(op: Provider, header: dict[str, object]) -> None:
    for check in (verified, received):
        with pytest.raises(SignInRefused) as caught:
            check(op, signed(op, header))
        refused(caught)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "e30.e30.",
        "W10.e30.AAAA",
        "null",
        "ü.ü.ü",
        "\ud800.a.b",
        "eyJhbGciOiJub25lIn0.e30.",
        "A" * MAX_TOKEN_LENGTH,
        "A" * (MAX_TOKEN_LENGTH + 1),
        "." * 1000,
    ],
    ids=range(14),
)
def test_what_is_no_jwt_is_refused(op: Provider, token: str) -> None:
    for check in (verified, received):
        with pytest.raises(SignInRefused) as caught:
            check(op, token)
        refused(caught)


def test_a_token_that_nests_deep_is_refused(op: Provider) -> None:
    deep: Any = []
    for _ in range(700):
        deep = [deep]
    token = signed(op, deep=deep)
    head, _, signature = token.split(".")
    deeper = jwt.utils.base64url_encode(b'{"a":' + b"[" * 9000).decode()
    with pytest.raises(SignInRefused):
        verified(op, f"{deeper}.{head}.{signature}")
    with pytest.raises(SignInRefused):
        verified(op, f"{head}.{deeper}.{signature}")
    assert verified(op, token).subject == "ada"


def test_a_long_token_is_accepted_as_long_as_it_is_not_too_long(op: Provider) -> None:
    groups = [f"group-{number}" for number in range(1000)]
    assert verified(op, signed(op, groups=groups)).claims["groups"] == groups
    with pytest.raises(SignInRefused, match="too long"):
        verified(op, signed(op, groups=groups * 5))


def test_a_changed_token_is_refused(op: Provider) -> None:
    head, body, signature = signed(op).split(".")
    other = jwt.utils.base64url_encode(b'{"sub":"eve"}').decode()
    for changed in (
        f"{head}.{other}.{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}.",
        f"{head}.{body}",
    ):
        with pytest.raises(SignInRefused):
            verified(op, changed)


def test_without_its_keys_nothing_is_decided(op: Provider) -> None:
    op.misbehave(jwks="http_500")
    for check in (verified, received):
        with pytest.raises(ProviderUnavailable):
            check(op, signed(op))


# ---- of this sign-in -----------------------------------------------------------------------


def id_token(**claims: object) -> IdToken:
    return IdToken("https://idp.example", "ada", None, dict(claims))


def test_a_sign_in_takes_the_nonce_that_it_began_with() -> None:
    check_sign_in(id_token(nonce="n-1", iat=1000), "n-1", 1000.0)


@pytest.mark.parametrize("nonce", [LEFT_OUT, None, "", "n-2", "n-1 ", 7, ["n-1"], "\ud800", "ü"])
def test_and_no_other(nonce: object) -> None:
    claims = {} if nonce is LEFT_OUT else {"nonce": nonce}
    with pytest.raises(SignInRefused, match="nonce"):
        check_sign_in(id_token(**claims, iat=1000), "n-1", 1000.0)


def test_a_token_of_long_ago_is_of_another_sign_in() -> None:
    latest = 1000.0 + MAX_AGE_SECONDS + CLOCK_SKEW_SECONDS
    check_sign_in(id_token(nonce="n-1", iat=1000), "n-1", latest)
    with pytest.raises(SignInRefused, match="long ago"):
        check_sign_in(id_token(nonce="n-1", iat=1000), "n-1", latest + 1)
