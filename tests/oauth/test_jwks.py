"""The keys of a provider: fetched when they change, and not on demand of attackers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jwt import PyJWK

from services.oauth.discovery import MIN_LIFETIME_SECONDS
from services.oauth.errors import ProviderUnavailable
from services.oauth.fetches import UNAUTHENTICATED_SECONDS
from services.oauth.jwks import KEY_TYPES, ProviderKeys
from tests.support.http_answers import Reply, as_json
from tests.support.http_service import Seen, Service
from tests.support.oauth import hurried
from tests.support.parts import Clock
from tests.support.provider import LEFT_OUT, Provider, provider
from tests.support.provider_faults import JWKS_FAULTS, JWKS_QUIRKS
from tests.support.provider_keys import HMAC_KID, Key

WELL_FORMED = ("only_others",)
"""A fault of the provider's, but not of the document."""


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


def keys_of(op: Provider, clock: Clock | None = None) -> ProviderKeys:
    return ProviderKeys(op.url("jwks"), clock or Clock())


def wanted(keys: ProviderKeys, kid: object, unauthenticated: bool = False) -> list[PyJWK]:
    return keys.candidates(kid, "RS256", unauthenticated)


def kids(found: list[PyJWK]) -> list[str | None]:
    return [key.key_id for key in found]


@pytest.mark.parametrize("fault", sorted(set(JWKS_FAULTS) - set(WELL_FORMED)))
def test_each_fault_of_the_key_set_is_no_key_set(op: Provider, fault: str) -> None:
    op.misbehave(jwks=fault)
    op.drip_interval = 0.05
    keys = keys_of(op)
    for ask in (lambda: wanted(keys, op.keys[0].kid), keys.prefetch):
        with hurried(fault), pytest.raises(ProviderUnavailable):
            ask()
    op.behave()
    assert kids(wanted(keys, op.keys[0].kid)) == [op.keys[0].kid]


@pytest.mark.parametrize("quirk", sorted(JWKS_QUIRKS))
def test_each_quirk_of_the_key_set_leaves_the_valid_key(op: Provider, quirk: str) -> None:
    op.misbehave(jwks=quirk)
    keys = keys_of(op)
    assert kids(wanted(keys, op.keys[0].kid)) == [op.keys[0].kid]
    assert kids(wanted(keys, None)) == [op.keys[0].kid], "and none beside it that could sign"


def test_symmetric_keys_are_never_accepted(op: Provider) -> None:
    op.misbehave(jwks="oct_key")
    keys = keys_of(op)
    for algorithm in KEY_TYPES:
        assert keys.candidates(HMAC_KID, algorithm, False) == []
    assert not set(KEY_TYPES) & {"none", "HS256", "HS384", "HS512"}


def test_a_key_serves_its_own_kind_of_algorithm_only(op: Provider) -> None:
    keys = keys_of(op)
    for algorithm, kind in KEY_TYPES.items():
        assert bool(keys.candidates(op.keys[0].kid, algorithm, False)) == (kind == "RSA")


def test_without_a_kid_every_key_of_the_kind_may_be_the_one(op: Provider) -> None:
    op.keys.append(Key("RS256", 1))
    op.keys.append(Key("ES256", 0))
    assert kids(wanted(keys_of(op), None)) == [key.kid for key in op.keys[:2]]


class Set(Service):
    """Answers with one key set."""

    def __init__(self, *members: Any) -> None:
        super().__init__()
        self.document: object = {"keys": list(members)}

    def answer(self, seen: Seen) -> Reply:
        return as_json(self.document)


GOOD = Key("RS256", 0, "good").jwk()


@pytest.mark.parametrize("name", ["kty", "alg", "use", "kid", "n", "e"])
@pytest.mark.parametrize("value", [LEFT_OUT, None, 7, -1, ["RS256"], {"a": 1}, "", "\x00", True])
def test_a_key_with_a_member_of_a_wrong_kind_ends_in_an_error_that_is_expected(
    name: str, value: object
) -> None:
    odd = {k: v for k, v in {**GOOD, name: value}.items() if v is not LEFT_OUT}
    with Set(odd, GOOD) as service:
        keys = ProviderKeys(service.origin)
        try:
            found = wanted(keys, "good")
        except ProviderUnavailable:
            return
        assert all(key.key_type == "RSA" for key in found)


@pytest.mark.parametrize("document", [None, [], "keys", {"keys": {}}, {"keys": "x"}, {"keys": [1]}])
def test_what_is_no_key_set_is_none(document: object) -> None:
    with Set() as service:
        service.document = document
        with pytest.raises(ProviderUnavailable):
            wanted(ProviderKeys(service.origin), "good")


# ---- how often -----------------------------------------------------------------------------


def test_keys_are_fetched_once_and_kept_as_long_as_the_answer_says(op: Provider) -> None:
    op.jwks_cache = "max-age=7200"
    keys = keys_of(op)
    for _ in range(3):
        wanted(keys, op.keys[0].kid)
        keys.prefetch()
    assert op.count("jwks") == 1
    assert keys.jwk_set_cache is not None
    assert keys.jwk_set_cache.lifespan == 7200
    op.jwks_cache = "no-store"
    op.rotate()
    wanted(keys, op.keys[0].kid)
    assert keys.jwk_set_cache.lifespan == MIN_LIFETIME_SECONDS


def test_concurrent_requests_for_a_key_cause_one_fetch(op: Provider) -> None:
    op.misbehave(jwks="held")
    keys = keys_of(op)
    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(wanted, keys, op.keys[0].kid) for _ in range(20)]
        op.wait_for(op.path("jwks"))
        op.behave()
        assert all(kids(call.result()) == [op.keys[0].kid] for call in asking)
    assert op.count("jwks") == 1


def test_a_new_key_is_found_at_once(op: Provider) -> None:
    keys = keys_of(op)
    wanted(keys, op.keys[0].kid)
    for fetches in (2, 3):
        op.rotate()
        assert kids(wanted(keys, op.keys[0].kid)) == [op.keys[0].kid]
        assert op.count("jwks") == fetches


def test_a_set_that_was_just_fetched_is_not_fetched_again_for_a_key_that_is_not_in_it(
    op: Provider,
) -> None:
    assert wanted(keys_of(op), "nobody") == []
    assert op.count("jwks") == 1


def test_unauthenticated_clients_cannot_make_us_fetch_again_and_again(op: Provider) -> None:
    clock = Clock()
    keys = keys_of(op, clock)
    for number in range(20):
        assert wanted(keys, f"nobody-{number}", unauthenticated=True) == []
    assert op.count("jwks") == 1
    assert kids(wanted(keys, op.keys[0].kid, unauthenticated=True)) == [op.keys[0].kid]
    clock.forward(UNAUTHENTICATED_SECONDS + 1)
    op.rotate()
    assert kids(wanted(keys, op.keys[0].kid, unauthenticated=True)) == [op.keys[0].kid]
    assert op.count("jwks") == 2


def test_nor_while_the_provider_is_down(op: Provider) -> None:
    clock = Clock()
    keys = keys_of(op, clock)
    op.misbehave(jwks="http_503")
    for number in range(20):
        with pytest.raises(ProviderUnavailable):
            wanted(keys, f"nobody-{number}", unauthenticated=True)
    assert op.count("jwks") == 1


def test_nor_do_they_prevent_a_fetch_for_a_sign_in(op: Provider) -> None:
    keys = keys_of(op)
    assert wanted(keys, "nobody", unauthenticated=True) == []
    op.rotate()
    assert kids(wanted(keys, op.keys[0].kid)) == [op.keys[0].kid]


@pytest.mark.parametrize("fault", ["http_500", "no_keys", "not_json"])
def test_a_fetch_that_fails_leaves_the_keys_that_are_known(op: Provider, fault: str) -> None:
    keys = keys_of(op)
    wanted(keys, op.keys[0].kid)
    op.misbehave(jwks=fault)
    with pytest.raises(ProviderUnavailable):
        wanted(keys, "nobody")
    assert kids(wanted(keys, op.keys[0].kid)) == [op.keys[0].kid]
    keys.prefetch()
