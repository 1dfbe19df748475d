"""services/sessions/tokens.py: genuine tokens, and every kind of invalid one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import TokenExpired, Unauthenticated
from services.secret import Secret
from services.sessions.tokens import MAX_TOKEN_LENGTH, MAX_TTL_SECONDS, Claims, Tokens, key_id

NOW = 1_700_000_000.25
ISSUER = "https://usher.example"
NEW, OLD, FOREIGN = (Secret(letter * 32) for letter in "nof")
FAR = NOW + 30 * 86_400


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens([NEW, OLD], ISSUER, ttl=900, clock=clock)


def segment(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(
    header: dict[str, Any] | bytes | None = None,
    payload: object = None,
    secret: Secret = NEW,
    hash_name: str = "sha256",
    **claims: Any,
) -> str:
    """A token put together by hand and signed with a secret of ours: what the signature
    cannot refuse, the rest has to."""
    base = {"alg": "HS256", "kid": key_id(secret), "typ": "at+jwt"}
    signed = f"{segment(base if header is None else header)}.{segment(payload or good(**claims))}"
    digest = hmac.new(secret.reveal().encode(), signed.encode(), hash_name).digest()
    return f"{signed}.{segment(digest)}"


def good(**claims: Any) -> dict[str, object]:
    base: dict[str, object] = {
        "iss": ISSUER,
        "aud": "usher",
        "sub": "u1",
        "sid": "s1",
        "jti": "j1",
        "iat": NOW,
        "exp": NOW + 900,
        "role": "user",
    }
    return {name: value for name, value in {**base, **claims}.items() if value is not ...}


def head(secret: Secret = NEW, **changes: Any) -> dict[str, Any]:
    base: dict[str, object] = {"alg": "HS256", "kid": key_id(secret), "typ": "at+jwt"}
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


def refused(tokens: Tokens, token: str, evidence: str = "access token") -> None:
    with pytest.raises(Unauthenticated) as error:
        tokens.verify(token)
    assert not isinstance(error.value, TokenExpired)
    assert evidence in error.value.evidence
    assert not error.value.public


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


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"])
def test_a_typ_is_accepted_in_every_form_of_rfc_9068(tokens: Tokens, typ: str) -> None:
    assert tokens.verify(forge(head(typ=typ))).sub == "u1"


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
