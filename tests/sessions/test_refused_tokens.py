"""services/sessions/tokens.py: every kind of invalid token."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.secret import Secret
from services.sessions.tokens import MAX_TOKEN_LENGTH, MAX_TTL_SECONDS, Tokens, key_id
from tests.sessions.forging import (
    FOREIGN,
    ISSUER,
    NEW,
    NOW,
    OLD,
    clock,
    forge,
    good,
    head,
    refused,
    tokens,
)

__all__ = ["clock", "tokens"]


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "hs256"},
        {"alg": "HS512"},
        {"alg": "RS256"},
        {"alg": ["HS256"]},
        {"alg": None},
        {"alg": ...},
        {"typ": "JWT"},
        {"typ": "jwt"},
        {"typ": "refresh+jwt"},
        {"typ": "text/at+jwt"},
        {"typ": ""},
        {"typ": None},
        {"typ": ...},
        {"kid": "unknown"},
        {"kid": ""},
        {"kid": None},
        {"kid": 1},
        {"kid": ["a"]},
        {"kid": ...},
        {"kid": "../../dev/null"},
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": True},
        {"jku": "https://evil.example/jwks"},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"x5u": "https://evil.example/x"},
        {"zip": "DEF"},
    ],
    ids=str,
)
def test_a_header_that_is_not_ours_is_refused(tokens: Tokens, change: dict[str, Any]) -> None:
    refused(tokens, forge(head(**change)))


@pytest.mark.parametrize("header", [b"", b"{}", b"[]", b"null", b"{", b"\xff", b'"a"', b"1"])
def test_a_header_that_is_no_header_is_refused(tokens: Tokens, header: bytes) -> None:
    refused(tokens, forge(header))


def test_an_unsigned_token_is_refused(tokens: Tokens) -> None:
    header, payload, _ = forge(head(alg="none")).split(".")
    for token in (f"{header}.{payload}.", f"{header}.{payload}"):
        refused(tokens, token)


def test_the_kid_of_another_secret_of_ours_is_refused(tokens: Tokens) -> None:
    refused(tokens, forge(head(OLD), secret=NEW), "signature")


def test_a_foreign_secret_is_refused_under_any_kid(tokens: Tokens) -> None:
    refused(tokens, forge(head(FOREIGN), secret=FOREIGN), "unknown kid")
    refused(tokens, forge(head(NEW), secret=FOREIGN), "signature")


@pytest.mark.parametrize("hash_name", ["sha384", "sha512", "sha1", "md5", "sha3_256"])
def test_another_hash_is_refused(tokens: Tokens, hash_name: str) -> None:
    refused(tokens, forge(hash_name=hash_name))


def test_a_token_signed_by_the_issuer_url_or_an_empty_key_is_refused(tokens: Tokens) -> None:
    for key in ("", ISSUER, key_id(NEW)):
        refused(tokens, forge(head(NEW), secret=Secret(key)))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": ISSUER + "/"},
        {"iss": [ISSUER]},
        {"iss": ...},
        {"aud": "other"},
        {"aud": ["usher", "other"]},
        {"aud": None},
        {"aud": ...},
        {"sub": ...},
        {"sub": ""},
        {"sub": 1},
        {"sub": "u1}"},
        {"sub": "u1:x"},
        {"sub": "u1\n"},
        {"sub": "u" * 65},
        {"sid": ...},
        {"sid": ""},
        {"sid": None},
        {"jti": ...},
        {"jti": ""},
        {"jti": {}},
        {"role": ...},
        {"role": "root"},
        {"role": "Admin"},
        {"role": ["admin"]},
        {"role": True},
        {"iat": ...},
        {"iat": "1700000000"},
        {"iat": True},
        {"iat": None},
        {"iat": NOW + 5.5},
        {"iat": 10**400},
        {"iat": -1},
        {"exp": ...},
        {"exp": "1700000900"},
        {"exp": True},
        {"exp": None},
        {"exp": [NOW + 900]},
        {"exp": 1e308},
        {"exp": 10**30},
        {"exp": 10**400},
        {"exp": NOW + MAX_TTL_SECONDS + 1},
        {"nbf": NOW + 60},
        {"nbf": "soon"},
    ],
    ids=str,
)
def test_claims_that_are_not_ours_are_refused(tokens: Tokens, claims: dict[str, Any]) -> None:
    refused(tokens, forge(**claims))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "0x10", "1_0"])
@pytest.mark.parametrize("claim", ["exp", "iat"])
def test_numbers_that_json_does_not_have_are_refused(
    tokens: Tokens, claim: str, number: str
) -> None:
    text = json.dumps(good(**{claim: "NUMBER"})).replace('"NUMBER"', number)
    refused(tokens, forge(payload=text.encode()))


@pytest.mark.parametrize("payload", [b"{}", b"[]", b"null", b"{", b"\xff\xfe", b"1", b"[" * 2000])
def test_a_payload_that_is_no_set_of_claims_is_refused(tokens: Tokens, payload: bytes) -> None:
    refused(tokens, forge(payload=payload), "claims")


def test_a_token_has_exactly_one_spelling(tokens: Tokens) -> None:
    token = forge()
    # The last character of 43 carries two bits that decode to nothing.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
    mangled = [twin, token + "=", token + "\n", " " + token, token + ".", token + ".a", "." + token]
    mangled += [token.replace(".", "..", 1), token.upper(), token[:-1], f'"{token}"', token + "\0"]
    for text in mangled:
        refused(tokens, text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "...", "a.b.c", "é.é.é", "\udcff", "Bearer x", "a" * 43]
)
def test_text_that_is_no_token_is_refused(tokens: Tokens, text: str) -> None:
    refused(tokens, text, "compact")


def test_an_oversized_token_is_refused_even_when_it_is_genuine(tokens: Tokens) -> None:
    assert tokens.verify(forge(extra="x" * 100)).sub == "u1"
    token = forge(extra="x" * MAX_TOKEN_LENGTH)
    refused(tokens, token, "compact")


@given(position=st.integers(min_value=0), letter=st.sampled_from("AZaz09-_."))
def test_no_token_with_one_letter_changed_is_accepted(position: int, letter: str) -> None:
    tokens, token = Tokens([NEW, OLD], ISSUER, clock=lambda: NOW), forge()
    position %= len(token)
    changed = token[:position] + letter + token[position + 1 :]
    if changed != token:
        refused(tokens, changed)
