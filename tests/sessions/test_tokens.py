"""services/sessions/tokens.py: genuine tokens, their times, and what PyJWT says of them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import TokenExpired, Unauthenticated
from services.secret import Secret
from services.sessions.tokens import MAX_TTL_SECONDS, Claims, Tokens, key_id
from tests.sessions.forging import (
    FAR,
    FOREIGN,
    ISSUER,
    NEW,
    NOW,
    OLD,
    Clock,
    clock,
    forge,
    good,
    head,
    refused,
    segment,
    tokens,
)

__all__ = ["clock", "tokens"]


def test_an_issued_token_is_verified_with_its_claims(tokens: Tokens) -> None:
    token, claims = tokens.issue("u1", "s1", "admin", FAR)
    assert tokens.verify(token) == claims
    assert claims == Claims("u1", "s1", claims.jti, NOW, NOW + 900, "admin", NOW, "1")


def test_each_token_has_a_jti_of_its_own(tokens: Tokens) -> None:
    assert len({tokens.issue("u1", "s1", "user", FAR)[1].jti for _ in range(50)}) == 50


def test_the_token_is_as_the_contract_says_and_pyjwt_agrees(tokens: Tokens) -> None:
    token, claims = tokens.issue("u1", "s1", "user", FAR)
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "HS256", "typ": "at+jwt", "kid": key_id(NEW)}
    options: Any = {"verify_exp": False, "verify_iat": False}
    payload = jwt.decode(token, NEW.reveal(), ["HS256"], options, audience="usher", issuer=ISSUER)
    assert set(payload) == {
        "iss",
        "aud",
        "sub",
        "sid",
        "jti",
        "iat",
        "exp",
        "role",
        "auth_time",
        "acr",
    }
    assert payload["exp"] == claims.exp


def test_the_valid_handmade_token_is_accepted(tokens: Tokens) -> None:
    # The forgeries below differ from this one in one thing each.
    assert tokens.verify(forge()).sub == "u1"


def test_no_token_outlives_the_login_session(tokens: Tokens) -> None:
    assert tokens.issue("u1", "s1", "user", NOW + 10)[1].exp == NOW + 10


@pytest.mark.parametrize("ahead", [0, -1, 0.0001])
def test_no_token_is_issued_for_a_login_session_that_has_ended(
    tokens: Tokens, ahead: float
) -> None:
    with pytest.raises(Unauthenticated):
        tokens.issue("u1", "s1", "user", NOW + ahead)


def test_a_token_is_dead_from_its_exp_on_and_not_before(tokens: Tokens, clock: Clock) -> None:
    token, claims = tokens.issue("u1", "s1", "user", FAR)
    clock.now = claims.exp - 0.001
    assert tokens.verify(token) == claims
    clock.now = claims.exp
    with pytest.raises(TokenExpired) as expired:
        tokens.verify(token)
    assert expired.value.claims == claims


def test_fractions_of_a_second_count(clock: Clock) -> None:
    tokens = Tokens([NEW], ISSUER, ttl=0.5, clock=clock)
    token, claims = tokens.issue("u1", "s1", "user", FAR)
    assert claims.exp == NOW + 0.5
    clock.now += 0.49
    assert tokens.verify(token) == claims


def test_an_older_secret_still_verifies_and_a_dropped_one_does_not(clock: Clock) -> None:
    token, claims = Tokens([OLD], ISSUER, clock=clock).issue("u1", "s1", "user", FAR)
    assert Tokens([NEW, OLD], ISSUER, clock=clock).verify(token) == claims
    refused(Tokens([NEW], ISSUER, clock=clock), token, "unknown kid")


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"])
def test_a_typ_is_accepted_in_every_form_of_rfc_9068(tokens: Tokens, typ: str) -> None:
    assert tokens.verify(forge(head(typ=typ))).sub == "u1"


def test_a_payload_that_is_not_utf8_is_refused_wherever_it_is_not(tokens: Tokens) -> None:
    """Found by `make fuzz`. Before: taken, where the bytes were in a member of no meaning."""
    payload = json.dumps(good(more="x")).encode().replace(b'"x"', b'"\xff"')
    with pytest.raises(Unauthenticated):
        tokens.verify(forge(payload=payload))


def test_the_clock_of_another_node_may_be_five_seconds_ahead(tokens: Tokens) -> None:
    assert tokens.verify(forge(iat=NOW + 5, exp=NOW + 905)).iat == NOW + 5


@pytest.mark.parametrize("end", [NOW, NOW - 1, NOW - 10_000])
def test_a_token_that_ends_before_it_began_is_simply_expired(tokens: Tokens, end: float) -> None:
    with pytest.raises(TokenExpired):
        tokens.verify(forge(exp=end))


def test_an_expired_token_with_any_other_fault_is_not_called_expired(tokens: Tokens) -> None:
    old: dict[str, Any] = {"iat": NOW - 1000, "exp": NOW - 100}
    with pytest.raises(TokenExpired):
        tokens.verify(forge(**old))
    faults: list[dict[str, Any]] = [
        {"iss": "other"},
        {"aud": "other"},
        {"sub": ...},
        {"sid": 1},
        {"jti": ""},
        {"role": "root"},
        {"iat": NOW - 2 * MAX_TTL_SECONDS},
        {"nbf": NOW + 60},
    ]
    for fault in faults:
        refused(tokens, forge(**{**old, **fault}))
    refused(tokens, forge(head(NEW), secret=FOREIGN, **old))
    refused(tokens, forge(head(typ="JWT"), **old))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
claim_names = st.sampled_from(["iss", "aud", "sub", "sid", "jti", "iat", "exp", "role", "nbf"])


@given(st.dictionaries(claim_names, json_values, max_size=4))
def test_whatever_is_accepted_is_accepted_by_pyjwt_too(claims: dict[str, Any]) -> None:
    tokens, token = Tokens([NEW], ISSUER, clock=lambda: NOW), forge(**claims)
    try:
        found = tokens.verify(token)
    except Unauthenticated:
        return
    options: Any = {"verify_exp": False, "verify_iat": False, "strict_aud": True}
    theirs = jwt.decode(token, NEW.reveal(), ["HS256"], options, audience="usher", issuer=ISSUER)
    assert (theirs["sub"], theirs["exp"]) == (found.sub, found.exp)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
def test_any_text_is_refused_without_another_error(text: str) -> None:
    refused(Tokens([NEW], ISSUER), text)


@pytest.mark.parametrize(
    "secrets",
    [
        [],
        [Secret("short")],
        [NEW, Secret("x" * 31)],
        [Secret("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")],
    ],
    ids=["none", "short", "second short", "a PEM key"],
)
def test_secrets_that_cannot_sign_are_refused_at_the_start(secrets: list[Secret]) -> None:
    with pytest.raises(ValueError, match="secret"):
        Tokens(secrets, ISSUER)


def test_no_secret_shows_in_a_refusal_or_in_the_kid(tokens: Tokens) -> None:
    digest = hashlib.sha256(NEW.reveal().encode()).digest()
    assert not segment(digest).startswith(key_id(NEW))
    with pytest.raises(Unauthenticated) as error:
        tokens.verify(forge(head(NEW), secret=FOREIGN))
    assert NEW.reveal() not in repr(error.value)
