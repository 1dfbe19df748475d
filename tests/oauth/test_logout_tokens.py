"""Logout tokens: invalid ones are refused, unusual ones accepted."""

from __future__ import annotations

import time
from typing import Any

import pytest

from services.oauth.errors import SignInRefused
from services.oauth.id_tokens import CLOCK_SKEW_SECONDS, LOGOUT_SECONDS
from services.oauth.token_claims import MAX_SID_LENGTH
from tests.oauth.token_checks import (
    FAR_AHEAD,
    FORGERIES,
    LONG_AGO,
    op,
    received,
    refused,
    signed,
    verified,
)
from tests.support.oauth import exchanged, oidc
from tests.support.provider import LEFT_OUT, Provider
from tests.support.provider_keys import Signer
from tests.support.provider_tokens import LOGOUT_EVENT, OTHER_ISSUER

__all__ = ["op"]


@pytest.fixture
def signed_in(op: Provider) -> Provider:
    exchanged(oidc(op))
    return op


@pytest.mark.parametrize(
    ("claims", "about"),
    [
        ({}, ("ada", "s-1")),
        ({"sub": LEFT_OUT}, (None, "s-1")),
        ({"sid": LEFT_OUT}, ("ada", None)),
        ({"sub": None}, (None, "s-1")),
        ({"events": {LOGOUT_EVENT: {}, "https://another.example/event": {}}}, ("ada", "s-1")),
        ({"events": {LOGOUT_EVENT: {"more": 1}}}, ("ada", "s-1")),
    ],
)
def test_a_logout_token_names_a_user_or_a_session_or_both(
    op: Provider, claims: dict[str, Any], about: tuple[str | None, str | None]
) -> None:
    found = received(op, op.logout_token(**{"sub": "ada", "sid": "s-1", **claims}))
    assert (found.subject, found.sid) == about
    assert found.token_id
    assert found.expires_at > time.time()


@pytest.mark.parametrize(
    "claims",
    [
        *({name: LEFT_OUT} for name in ("iss", "aud", "iat", "exp", "jti", "events")),
        *({name: None} for name in ("iss", "aud", "iat", "exp", "jti", "events")),
        {"sub": LEFT_OUT, "sid": LEFT_OUT},
        {"sub": None, "sid": None},
        {"iss": OTHER_ISSUER},
        {"iss": ""},
        {"aud": "another-client"},
        {"aud": []},
        {"aud": ["another-client"]},
        {"iat": FAR_AHEAD},
        {"iat": "now"},
        {"exp": LONG_AGO},
        {"exp": 10**400},
        {"exp": 1e300},
        {"exp": "later"},
        {"nbf": FAR_AHEAD},
        {"jti": ""},
        {"jti": 7},
        {"jti": "a\x00b"},
        {"sub": 7},
        {"sub": ""},
        {"sub": "\ud800"},
        {"sid": ["s"]},
        {"sid": "a\x00b"},
        {"nonce": "n-1"},
        {"nonce": None},
        {"nonce": ""},
        {"events": {}},
        {"events": []},
        {"events": [LOGOUT_EVENT]},
        {"events": LOGOUT_EVENT},
        {"events": {LOGOUT_EVENT: None}},
        {"events": {LOGOUT_EVENT: True}},
        {"events": {LOGOUT_EVENT + "/": {}}},
        {"events": {"http://schemas.openid.net/event/other": {}}},
    ],
    ids=repr,
)
def test_each_claim_of_a_logout_token_that_is_wrong_or_missing_is_refused(
    signed_in: Provider, claims: dict[str, Any]
) -> None:
    with pytest.raises(SignInRefused) as caught:
        received(signed_in, signed_in.logout_token(**claims))
    refused(caught)


@pytest.mark.parametrize("untyped", [False, True])
@pytest.mark.parametrize("signer", FORGERIES)
def test_each_forged_logout_token_is_refused(
    signed_in: Provider, signer: Signer, untyped: bool
) -> None:
    signed_in.misbehave(jwks="oct_key")
    with pytest.raises(SignInRefused) as caught:
        received(signed_in, signed_in.logout_token(signer=signer), untyped)
    refused(caught)
    assert signed_in.count("foreign_jwks") == 0


@pytest.mark.parametrize("typ", ["logout+jwt", "Logout+JWT", "application/logout+jwt"])
def test_the_type_of_a_logout_token_has_two_spellings(signed_in: Provider, typ: str) -> None:
    assert received(signed_in, signed_in.logout_token(header={"typ": typ})).sid == signed_in.sid


@pytest.mark.parametrize("typ", ["JWT", LEFT_OUT])
def test_without_its_type_it_is_accepted_only_where_the_settings_say_so(
    signed_in: Provider, typ: object
) -> None:
    token = signed_in.logout_token(header={"typ": typ})
    with pytest.raises(SignInRefused) as caught:
        received(signed_in, token)
    assert "typ" in refused(caught)
    assert received(signed_in, token, untyped=True).sid == signed_in.sid


@pytest.mark.parametrize("typ", ["at+jwt", "secevent+jwt", None, 7])
def test_another_type_is_refused_even_then(signed_in: Provider, typ: object) -> None:
    with pytest.raises(SignInRefused) as caught:
        received(signed_in, signed_in.logout_token(header={"typ": typ}), untyped=True)
    assert "typ" in refused(caught)


def test_id_tokens_and_logout_tokens_are_not_interchangeable(
    signed_in: Provider,
) -> None:
    for untyped in (False, True):
        with pytest.raises(SignInRefused) as caught:
            received(signed_in, signed_in.id_tokens[-1], untyped)
        refused(caught)
    with pytest.raises(SignInRefused) as caught:
        verified(signed_in, signed_in.logout_token())
    refused(caught)


@pytest.mark.parametrize("length", [256, 304, 10_000])
def test_long_names_of_sessions_and_tokens_are_accepted_and_distinguished(
    op: Provider, length: int
) -> None:
    # idpyoidc's have 304 characters and more.
    one, other = "s" * length, "s" * (length - 1) + "t"
    sid = verified(op, signed(op, sid=one)).sid
    assert sid is not None
    assert len(sid) <= MAX_SID_LENGTH, "fits into an index of every database"
    found = received(op, op.logout_token(sub="ada", sid=one, jti="j" * length))
    assert (found.sid, len(found.token_id)) == (sid, length)
    assert received(op, op.logout_token(sub="ada", sid=other)).sid != sid


@pytest.mark.parametrize("length", [255, 256])
def test_a_subject_has_255_characters_at_most(op: Provider, length: int) -> None:
    token = op.logout_token(sub="s" * length, sid="s-1")
    if length == 255:
        assert received(op, token).subject == "s" * length
        return
    with pytest.raises(SignInRefused) as caught:
        received(op, token)
    assert "sub" in refused(caught)


def test_a_logout_token_without_an_end_is_accepted_only_where_the_settings_say_so(
    signed_in: Provider,
) -> None:
    now = int(time.time())
    token = signed_in.logout_token(exp=LEFT_OUT, iat=now - 60)
    with pytest.raises(SignInRefused):
        received(signed_in, token)
    assert received(signed_in, token, without_exp=True).expires_at == now - 60 + LOGOUT_SECONDS
    for iat in (LEFT_OUT, now - LOGOUT_SECONDS - CLOCK_SKEW_SECONDS - 10, FAR_AHEAD):
        old = signed_in.logout_token(exp=LEFT_OUT, iat=iat)
        with pytest.raises(SignInRefused):
            received(signed_in, old, without_exp=True)
    ended = signed_in.logout_token(exp=LONG_AGO)
    with pytest.raises(SignInRefused):
        received(signed_in, ended, without_exp=True)
