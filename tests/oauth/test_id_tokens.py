"""ID tokens and logout tokens: invalid ones are refused, unusual ones accepted."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import get_default_algorithms

from services.oauth.discovery import Metadata
from services.oauth.errors import ProviderUnavailable, Reason, SignInRefused
from services.oauth.id_tokens import (
    CLOCK_SKEW_SECONDS,
    LOGOUT_SECONDS,
    MAX_AGE_SECONDS,
    MAX_SID_LENGTH,
    MAX_TIMESTAMP,
    MAX_TOKEN_LENGTH,
    IdToken,
    LogoutToken,
    ProviderTokensVerifier,
    check_sign_in,
)
from services.oauth.jwks import KEY_TYPES, ProviderKeys
from tests.support.http_answers import Reply, as_json
from tests.support.http_service import Seen, Service
from tests.support.oauth import TENANT, exchanged, oidc
from tests.support.provider import LEFT_OUT, Provider, provider
from tests.support.provider_faults import ID_TOKEN_FAULTS, ID_TOKEN_QUIRKS, TENANT_FAULTS
from tests.support.provider_keys import HMAC_KID, Algorithm, Signer, encoded, half_hash
from tests.support.provider_tokens import HOUR, LOGOUT_EVENT, OTHER_ISSUER

FORGERIES: tuple[Signer, ...] = tuple(s for s in get_args(Signer) if s != "honest")
ACCESS_TOKEN = "the access token"

LONG_AGO, FAR_AHEAD = 1_000_000_000, 4_000_000_000
"""Times that are the same in every process: they stand in the names of tests."""


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


def metadata_of(op: Provider, **more: Any) -> Metadata:
    return Metadata(op.issuer, op.url("authorize"), op.url("token"), op.url("jwks"), **more)


def verified(op: Provider, token: str, keys: ProviderKeys | None = None) -> IdToken:
    found = keys or ProviderKeys(op.url("jwks"))
    return ProviderTokensVerifier(op.client_id).id_token(
        token, metadata_of(op), found, ACCESS_TOKEN
    )


def received(
    op: Provider, token: str, untyped: bool = False, without_exp: bool = False
) -> LogoutToken:
    keys = ProviderKeys(op.url("jwks"))
    return ProviderTokensVerifier(op.client_id).logout_token(
        token, metadata_of(op), keys, untyped, without_exp
    )


def signed(op: Provider, header: Mapping[str, object] | None = None, /, **claims: object) -> str:
    """An ID token of the provider's, with these claims and headers written over the usual ones."""
    now = int(time.time())
    usual = {"iss": op.issuer, "aud": op.client_id, "sub": "ada", "iat": now, "exp": now + 300}
    return op.signing().token(header or {}, {**usual, **claims})


def refused(caught: pytest.ExceptionInfo[SignInRefused]) -> str:
    assert caught.value.reason is Reason.UNTRUSTED
    return caught.value.evidence


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


# ---- algorithms ----------------------------------------------------------------------------


class Keyed(Service):
    """Publishes keys of the test's."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        super().__init__()
        self.keys = list(keys)

    def answer(self, seen: Seen) -> Reply:
        return as_json({"keys": self.keys})


def jwk_of(algorithm: str, key: Any, kid: str) -> dict[str, Any]:
    signer: Any = get_default_algorithms()[algorithm]
    return {**signer.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


def private_key(algorithm: str) -> PrivateKeyTypes:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        return ec.generate_private_key(curves[algorithm])
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


HASHES = {name: f"sha{name[2:]}" for name in KEY_TYPES} | {"EdDSA": "sha512"}


def claims_now() -> dict[str, object]:
    now = int(time.time())
    return {"iss": OTHER_ISSUER, "aud": "client", "sub": "ada", "iat": now, "exp": now + 300}


def metadata_with(*algorithms: str) -> Metadata:
    return Metadata(
        OTHER_ISSUER,
        "https://x",
        "https://x",
        id_token_signing_alg_values_supported=algorithms,
    )


@pytest.mark.parametrize("algorithm", sorted(KEY_TYPES))
def test_each_algorithm_is_accepted_where_the_provider_says_that_it_uses_it(algorithm: str) -> None:
    key = private_key(algorithm)
    digest = hashlib.new(HASHES[algorithm], ACCESS_TOKEN.encode()).digest()
    hashed = encoded(digest[: len(digest) // 2])
    token = jwt.encode({**claims_now(), "at_hash": hashed}, key, algorithm, {"kid": "k"})  # type: ignore[arg-type]
    verifier = ProviderTokensVerifier("client")
    with Keyed(jwk_of(algorithm, key, "k")) as service:
        keys = ProviderKeys(service.origin)
        found = verifier.id_token(token, metadata_with(algorithm), keys, ACCESS_TOKEN)
        assert found.subject == "ada"
        other = "ES256" if algorithm != "ES256" else "RS256"
        with pytest.raises(SignInRefused, match="algorithm not accepted"):
            verifier.id_token(token, metadata_with(other, "none", "HS256"), keys, ACCESS_TOKEN)


def test_without_a_kid_the_key_that_fits_is_found_among_others_of_its_kind() -> None:
    right = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode(claims_now(), right, "ES256")
    others = [
        jwk_of("ES384", ec.generate_private_key(ec.SECP384R1()), "longer"),
        jwk_of("ES256", ec.generate_private_key(ec.SECP256R1()), "another"),
    ]
    with Keyed(*others, jwk_of("ES256", right, "right")) as service:
        keys = ProviderKeys(service.origin)
        found = ProviderTokensVerifier("client").id_token(token, metadata_with("ES256"), keys, "")
        assert found.subject == "ada"


def test_a_key_that_is_too_short_signs_nothing() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = jwt.encode(claims_now(), weak, "RS256", {"kid": "weak"})
    with Keyed(jwk_of("RS256", weak, "weak")) as service:
        keys = ProviderKeys(service.origin)
        with pytest.raises(SignInRefused):
            ProviderTokensVerifier("client").id_token(token, metadata_with("RS256"), keys, "")


@pytest.mark.parametrize("signer", FORGERIES)
def test_each_forgery_is_refused_whatever_the_provider_says_it_signs_with(
    op: Provider, signer: Signer
) -> None:
    op.misbehave(jwks="oct_key")
    now = int(time.time())
    claims = {"iss": op.issuer, "aud": op.client_id, "sub": "ada", "iat": now, "exp": now + 300}
    token = op.signing().token({}, claims, signer)
    metadata = metadata_of(
        op, id_token_signing_alg_values_supported=("none", "HS256", "RS256", "ES256")
    )
    verifier, keys = ProviderTokensVerifier(op.client_id), ProviderKeys(op.url("jwks"))
    for check in (
        lambda: verifier.id_token(token, metadata, keys, ACCESS_TOKEN),
        lambda: verifier.logout_token(token, metadata, keys, untyped=True),
    ):
        with pytest.raises(SignInRefused) as caught:
            check()
        refused(caught)
    assert op.count("foreign_jwks") == 0


PRIVATE = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""Microsoft's tenant for the accounts of private people."""


@pytest.mark.parametrize(
    ("of_key", "taken"),
    [
        (LEFT_OUT, True),
        ("https://login.example/{tenantid}/v2.0", True),
        (f"https://login.example/{TENANT}/v2.0", True),
        (f"https://login.example/{PRIVATE}/v2.0", False),
        ("https://other.example/{tenantid}/v2.0", False),
        ("", False),
        (7, False),
        (None, True),
    ],
)
def test_where_many_tenants_share_keys_each_signs_for_the_issuer_that_it_is_for(
    of_key: object, taken: bool
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = f"https://login.example/{TENANT}/v2.0"
    token = jwt.encode({**claims_now(), "iss": issuer, "tid": TENANT}, key, "ES256", {"kid": "k"})
    published = jwk_of("ES256", key, "k")
    if of_key is not LEFT_OUT:
        published["issuer"] = of_key
    many = msgspec.structs.replace(
        metadata_with("ES256"), issuer="https://login.example/{tenantid}/v2.0"
    )
    alone = msgspec.structs.replace(metadata_with("ES256"), issuer=issuer)
    verifier = ProviderTokensVerifier("client")
    with Keyed(published) as service:
        keys = ProviderKeys(service.origin)
        assert verifier.id_token(token, alone, keys, "").subject == "ada", "elsewhere it is no rule"
        if taken:
            assert verifier.id_token(token, many, keys, "").subject == "ada"
        else:
            with pytest.raises(SignInRefused, match="another tenant"):
                verifier.id_token(token, many, keys, "")


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


# ---- logout tokens -------------------------------------------------------------------------


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
