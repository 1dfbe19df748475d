"""The algorithms and keys of ID tokens: those that are accepted, and forgeries."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import get_default_algorithms

from services.oauth.discovery import Metadata
from services.oauth.errors import SignInRefused
from services.oauth.id_tokens import ProviderTokensVerifier
from services.oauth.jwks import KEY_TYPES, ProviderKeys
from tests.oauth.token_checks import ACCESS_TOKEN, FORGERIES, metadata_of, op, refused
from tests.support.http_answers import Reply, as_json
from tests.support.http_service import Seen, Service
from tests.support.oauth import TENANT
from tests.support.provider import LEFT_OUT, Provider
from tests.support.provider_keys import Signer, encoded
from tests.support.provider_tokens import OTHER_ISSUER

__all__ = ["op"]


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
