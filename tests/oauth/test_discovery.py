"""The metadata of a provider: only from its own document, and cached."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.oauth.discovery import (
    LIFETIME_SECONDS,
    MAX_LIFETIME_SECONDS,
    MIN_LIFETIME_SECONDS,
    TENANT,
    Discovery,
    Metadata,
    lifetime,
    read_metadata,
)
from services.oauth.errors import ProviderUnavailable
from services.oauth.fetches import UNAUTHENTICATED_SECONDS
from tests.support.faults import TRANSPORT_FAULTS
from tests.support.oauth import TENANT as GUID
from tests.support.oauth import hurried
from tests.support.parts import Clock
from tests.support.provider import LEFT_OUT, Provider, provider
from tests.support.provider_faults import DISCOVERY_FAULTS, DISCOVERY_QUIRKS

ISSUER = "https://idp.example"
SAID = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
}
TAKEN_ELSEWHERE = ("endpoints_elsewhere",)
"""Its own document may name endpoints on other hosts (Google's does), as long as they are safe."""


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


def discovery_of(op: Provider, clock: Clock | None = None) -> Discovery:
    return Discovery(op.issuer, op.metadata_issuer, clock=clock or Clock())


@pytest.mark.parametrize("path", ["", "/", "/realms/usher"])
def test_the_document_lies_below_the_issuer_which_is_compared_exactly(path: str) -> None:
    with provider(path=path) as op:
        found = discovery_of(op).metadata()
        assert found.issuer == op.issuer
        assert found.token_endpoint == op.url("token")
        other = op.issuer.rstrip("/") + ("" if path == "/" else "/")
        with pytest.raises(ProviderUnavailable, match="another issuer"):
            Discovery(other, other).metadata()


@pytest.mark.parametrize("fault", sorted(set(DISCOVERY_FAULTS) - set(TAKEN_ELSEWHERE)))
def test_each_fault_of_the_document_is_no_document(op: Provider, fault: str) -> None:
    op.misbehave(discovery=fault)
    op.drip_interval = 0.05
    discovery = discovery_of(op)
    with hurried(fault), pytest.raises(ProviderUnavailable):
        discovery.metadata()
    assert discovery.known() is None
    assert op.elsewhere.requests == []
    op.behave()
    assert discovery.metadata().issuer == op.issuer, "a failure is not kept"


@pytest.mark.parametrize("quirk", sorted([*DISCOVERY_QUIRKS, *TAKEN_ELSEWHERE]))
def test_each_quirk_of_the_document_is_accepted(op: Provider, quirk: str) -> None:
    op.misbehave(discovery=quirk)
    found = discovery_of(op).metadata()
    assert found.issuer == op.issuer
    assert found.authorization_endpoint == op.url("authorize")


def test_what_a_provider_does_not_have_may_be_null_or_left_out() -> None:
    nulls = dict.fromkeys(
        (
            "userinfo_endpoint",
            "revocation_endpoint",
            "end_session_endpoint",
            "token_endpoint_auth_methods_supported",
            "authorization_response_iss_parameter_supported",
        )
    )
    assert read_metadata({**SAID, **nulls}, ISSUER) == read_metadata(SAID, ISSUER)
    found = read_metadata(SAID, ISSUER)
    assert found.token_endpoint_auth_methods_supported == ("client_secret_basic",)
    assert found.id_token_signing_alg_values_supported == ("RS256",)
    assert found.userinfo_endpoint == ""


@pytest.mark.parametrize("name", sorted(SAID))
@pytest.mark.parametrize("value", [LEFT_OUT, None, "", 7, ["https://idp.example/x"], {}, True])
def test_what_is_needed_is_a_text_that_is_there(name: str, value: object) -> None:
    said = {k: v for k, v in {**SAID, name: value}.items() if v is not LEFT_OUT}
    with pytest.raises(ProviderUnavailable, match="discovery"):
        read_metadata(said, ISSUER)


@pytest.mark.parametrize(
    "name",
    [
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        "userinfo_endpoint",
        "revocation_endpoint",
        "end_session_endpoint",
    ],
)
@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/x",
        "http://127.0.0.1/x",
        "HTTP://localhost:6379/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//idp.example/x",
        "https://user:secret@idp.example/x",
        "https://idp.example/x#y",
        "https://idp.example/\nx",
    ],
)
def test_no_endpoint_may_be_where_secrets_may_not_go(name: str, url: str) -> None:
    with pytest.raises(ProviderUnavailable, match=f"{name} is missing or not a safe URL") as caught:
        read_metadata({**SAID, name: url}, ISSUER)
    assert url not in caught.value.evidence


@pytest.mark.parametrize("document", [None, [], "text", 7, {}, [SAID]])
def test_what_is_no_object_is_no_document(document: object) -> None:
    with pytest.raises(ProviderUnavailable):
        read_metadata(document, ISSUER)


# ---- for how long --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "seconds"),
    [
        (None, LIFETIME_SECONDS),
        ("", LIFETIME_SECONDS),
        ("public", LIFETIME_SECONDS),
        ("public, max-age=7200", 7200.0),
        ("Max-Age=7200, Public", 7200.0),
        ("max-age=0", MIN_LIFETIME_SECONDS),
        ("max-age=1", MIN_LIFETIME_SECONDS),
        ("max-age=99999999999999999999", MAX_LIFETIME_SECONDS),
        ("max-age=-5", LIFETIME_SECONDS),
        ("max-age=soon", LIFETIME_SECONDS),
        ("s-maxage=5", LIFETIME_SECONDS),
        ("no-store", MIN_LIFETIME_SECONDS),
        ("no-cache, must-revalidate, no-transform, no-store", MIN_LIFETIME_SECONDS),
        ("no-cache, max-age=86400", MIN_LIFETIME_SECONDS),
    ],
)
def test_a_document_is_kept_as_long_as_it_says_within_bounds(
    says: str | None, seconds: float
) -> None:
    headers = {} if says is None else {"Cache-Control": says}
    assert lifetime(headers) == seconds


def test_the_document_is_fetched_again_when_its_time_has_ended_and_not_before(op: Provider) -> None:
    clock, op.discovery_cache = Clock(), "max-age=600"
    discovery = discovery_of(op, clock)
    discovery.metadata()
    op.misbehave(discovery="no_userinfo")
    clock.forward(599)
    assert discovery.metadata().userinfo_endpoint
    assert op.count("discovery") == 1
    clock.forward(2)
    assert not discovery.metadata().userinfo_endpoint
    assert op.count("discovery") == 2


def test_concurrent_requests_cause_one_fetch(op: Provider) -> None:
    op.misbehave(discovery="held")
    discovery = discovery_of(op)
    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(discovery.metadata) for _ in range(20)]
        op.wait_for(op.path("discovery"))
        op.behave()
        assert {call.result().issuer for call in asking} == {op.issuer}
    assert op.count("discovery") == 1


@pytest.mark.parametrize("fault", sorted(TRANSPORT_FAULTS))
def test_a_document_that_is_too_old_is_not_used_when_no_new_one_comes(
    op: Provider, fault: str
) -> None:
    clock = Clock()
    discovery = discovery_of(op, clock)
    first = discovery.metadata()
    op.misbehave(discovery=fault)
    op.drip_interval = 0.05
    clock.forward(MAX_LIFETIME_SECONDS + 1)
    with hurried(fault), pytest.raises(ProviderUnavailable):
        discovery.metadata()
    assert discovery.known() == first, "for those who must not wait"


def test_unauthenticated_clients_make_us_ask_seldom_and_do_with_what_is_known(op: Provider) -> None:
    clock = Clock()
    discovery = discovery_of(op, clock)
    op.misbehave(discovery="http_500")
    for _ in range(5):
        with pytest.raises(ProviderUnavailable):
            discovery.metadata(unauthenticated=True)
    assert op.count("discovery") == 1
    op.behave()
    assert discovery.metadata().issuer == op.issuer
    clock.forward(MAX_LIFETIME_SECONDS + 1)
    op.misbehave(discovery="no_userinfo")
    assert not discovery.metadata(unauthenticated=True).userinfo_endpoint
    clock.forward(MAX_LIFETIME_SECONDS + 1)
    op.misbehave(discovery="http_500")
    with pytest.raises(ProviderUnavailable):
        discovery.metadata(unauthenticated=True)
    assert discovery.metadata(unauthenticated=True).issuer == op.issuer
    clock.forward(UNAUTHENTICATED_SECONDS + 1)
    with pytest.raises(ProviderUnavailable):
        discovery.metadata(unauthenticated=True)
    assert op.count("discovery") == 5


# ---- many tenants --------------------------------------------------------------------------


@pytest.fixture
def tenants() -> Iterator[Metadata]:
    with provider(tenant=GUID) as op:
        yield discovery_of(op).metadata()


def test_an_issuer_with_a_place_for_the_tenant_takes_the_tenant_of_the_token(
    tenants: Metadata,
) -> None:
    issuer = tenants.issuer.replace(TENANT, GUID)
    assert TENANT in tenants.issuer
    assert tenants.accepts_issuer(issuer, GUID)


@pytest.mark.parametrize(
    "tenant",
    [None, "", "common", 7, [], TENANT, GUID.upper(), GUID + "\n", f"{GUID}/../{GUID}", GUID[:-1]],
)
def test_a_tenant_that_is_no_guid_is_accepted_nowhere(tenants: Metadata, tenant: Any) -> None:
    assert not tenants.accepts_issuer(tenants.issuer.replace(TENANT, str(tenant)), tenant)


def test_nor_is_a_token_of_another_tenant_than_it_says(tenants: Metadata) -> None:
    other = "00000000-0000-4000-8000-000000000000"
    assert not tenants.accepts_issuer(tenants.issuer.replace(TENANT, other), GUID)
    assert not tenants.accepts_issuer(tenants.issuer, GUID)


def test_an_issuer_without_such_a_place_is_compared_exactly() -> None:
    found = read_metadata(SAID, ISSUER)
    assert found.accepts_issuer(ISSUER, None)
    assert found.accepts_issuer(ISSUER, GUID)
    for other in (ISSUER + "/", ISSUER.upper(), "https://idp.example.", ""):
        assert not found.accepts_issuer(other, None)
