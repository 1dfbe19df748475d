"""The flow of a provider sign-in below the pages (test_oauth_pages.py tests these)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from models.identity import Identity
from services.errors import NotFound, Unavailable
from services.oauth.errors import ProviderUnavailable, Reason, SignInRefused
from services.providers.authorization_requests import Link, request_key
from services.providers.flow import MAX_CODE_LENGTH
from tests.support.databases import on_sqlite
from tests.support.oauth import NAME, Way, came_to, finished, hurried, real_clock, settings_of
from tests.support.parts import DEVICE, Parts, node, settings_of_tests
from tests.support.provider import Provider, provider
from tests.support.provider_faults import (
    AUTHORIZE_FAULTS,
    DISCOVERY_FAULTS,
    JWKS_FAULTS,
    TOKEN_FAULTS,
    USERINFO_FAULTS,
)

OF_A_WAY_BACK = {
    "access_denied": Reason.DENIED,
    "consent_required": Reason.DENIED,
    "error_markup": Reason.REFUSED,
    "error_unknown": Reason.REFUSED,
    "interaction_required": Reason.INTERACTION,
    "invalid_scope": Reason.MISCONFIGURED,
    "login_required": Reason.INTERACTION,
    "code_wrong": Reason.STALE,
    "state_missing": Reason.STALE,
    "state_wrong": Reason.STALE,
}
"""Reasons for what comes back wrong; of all others that it can't be trusted."""
IN_AN_ANSWER = {
    ("token", "invalid_client"): Reason.MISCONFIGURED,
    ("token", "invalid_grant"): Reason.STALE,
    ("token", "invalid_request"): Reason.MISCONFIGURED,
    ("token", "refused_empty"): Reason.REFUSED,
    ("token", "no_id_token"): Reason.UNTRUSTED,
    ("jwks", "only_others"): Reason.UNTRUSTED,
    ("userinfo", "sub_other"): Reason.UNTRUSTED,
    ("userinfo", "sub_missing"): Reason.UNTRUSTED,
    ("userinfo", "json_array"): Reason.UNTRUSTED,
}
"""Reasons for answers that are some; of all others that the provider is not available."""
FAULTS = [
    (place, fault)
    for place, faults in (
        ("token", TOKEN_FAULTS),
        ("jwks", JWKS_FAULTS),
        ("userinfo", USERINFO_FAULTS),
    )
    for fault in sorted(faults)
]


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@asynccontextmanager
async def a_node(database_url: str, op: Provider, **more: Any) -> AsyncIterator[Parts]:
    shared = settings_of_tests(settings_of(op, **more))
    async with node(database_url, clock=real_clock(), settings=shared) as parts:
        yield parts


async def refused(parts: Parts, way: Way, reason: Reason, sid: str | None = None) -> str:
    with pytest.raises(SignInRefused) as caught:
        await finished(parts, way, sid)
    assert caught.value.reason is reason
    assert parts.count("usher_oauth_sign_ins_total", provider=NAME, outcome=reason.code) >= 1
    return caught.value.evidence


def answering(way: Way, **changes: Any) -> Way:
    return way._replace(answer=msgspec.structs.replace(way.answer, **changes))


def fault_word(fault: str) -> str:
    words = {"error_markup": "unknown", "error_unknown": "moon_in_the_wrong_installation"}
    return words.get(fault, fault)


async def identities(parts: Parts) -> int:
    return await parts.database.run(lambda db: int(Identity.select().count(db)))


@pytest.mark.gen_test
async def test_what_began_here_ends_signed_in_where_it_was_to_go(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        begun = await parts.oauth.flow.begin(NAME, "/next?a=1")
        way = await came_to(parts, next_="/next?a=1")
        assert begun.key != request_key(way.answer.state), "every sign-in has its own"
        done = await finished(parts, way)
        assert done.next == "/next?a=1"
        assert done.signed_in is not None
        assert parts.tokens.verify(done.signed_in.access_token.reveal()) == done.signed_in.claims
        assert parts.count("usher_oauth_sign_ins_total", provider=NAME, outcome="signed_in") == 1


@on_sqlite  # a fault of the provider: no row is read that others do not read
@pytest.mark.gen_test
@pytest.mark.parametrize("fault", sorted(AUTHORIZE_FAULTS))
async def test_each_fault_of_the_callback_is_refused(
    database_url: str, op: Provider, fault: str
) -> None:
    async with a_node(database_url, op) as parts:
        op.misbehave(authorize=fault)
        way = await came_to(parts)
        evidence = await refused(parts, way, OF_A_WAY_BACK.get(fault, Reason.UNTRUSTED))
        assert "<" not in evidence
        if way.answer.error:  # the provider's own word, where it is one
            assert evidence == f"callback: {fault_word(fault)}"
        assert op.count("token") == (fault == "code_wrong"), "no code goes astray"
        assert await identities(parts) == 0


@on_sqlite  # a fault of the provider: no row is read that others do not read
@pytest.mark.gen_test
@pytest.mark.parametrize(("place", "fault"), FAULTS)
async def test_each_fault_of_an_answer_is_refused(
    database_url: str, op: Provider, place: str, fault: str
) -> None:
    op.claims_in = "userinfo"
    async with a_node(database_url, op) as parts:
        way = await came_to(parts)
        op.faults.set(place, fault)
        op.drip_interval = 0.05
        with hurried(fault):
            await refused(parts, way, IN_AN_ANSWER.get((place, fault), Reason.UNAVAILABLE))
        assert op.elsewhere.requests == []
        assert await identities(parts) == 0
        op.behave()


@on_sqlite  # a fault of the provider: no row is read that others do not read
@pytest.mark.gen_test
@pytest.mark.parametrize("fault", sorted(set(DISCOVERY_FAULTS) - {"endpoints_elsewhere"}))
async def test_a_sign_in_does_not_begin_where_the_provider_can_not_be_asked(
    database_url: str, op: Provider, fault: str
) -> None:
    async with a_node(database_url, op) as parts:
        op.misbehave(discovery=fault)
        op.drip_interval = 0.05
        with hurried(fault), pytest.raises(ProviderUnavailable):
            await parts.oauth.flow.begin(NAME, "/")
        assert parts.count("usher_oauth_sign_ins_total", provider=NAME, outcome="unavailable") == 1
        op.behave()
        assert (await parts.oauth.flow.begin(NAME, "/")).url.startswith(op.url("authorize"))


@pytest.mark.gen_test
async def test_a_callback_works_once(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        way = await came_to(parts)
        await finished(parts, way)
        assert "already used" in await refused(parts, way, Reason.STALE)
        assert op.count("token") == 1


@pytest.mark.gen_test
async def test_what_no_provider_would_answer_is_not_asked_about(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        for changes, reason in (
            ({"code": ""}, Reason.UNTRUSTED),
            ({"code": "c" * (MAX_CODE_LENGTH + 1)}, Reason.UNTRUSTED),
            ({"error": "something_else"}, Reason.REFUSED),
            ({"error": "unauthorized_client"}, Reason.MISCONFIGURED),
            ({"error": "account_selection_required"}, Reason.INTERACTION),
            ({"error": "server_error"}, Reason.UNAVAILABLE),
            ({"error": "temporarily_unavailable", "code": ""}, Reason.UNAVAILABLE),
            ({"error": "access_denied", "issuer": "https://other.example"}, Reason.UNTRUSTED),
            ({"issuer": None}, Reason.UNTRUSTED),
        ):
            way = await came_to(parts)
            await refused(parts, answering(way, **changes), reason)
        assert op.count("token") == 0


@pytest.mark.gen_test
async def test_a_provider_that_is_not_set_is_not_found(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        way = await came_to(parts)
        with pytest.raises(NotFound):
            await parts.oauth.flow.begin("other", "/")
        with pytest.raises(NotFound):
            await finished(parts, way._replace(provider="other"))


@pytest.mark.gen_test
async def test_with_a_wrong_key_nothing_begins_and_nothing_ends(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        await parts.services.health.check()
        way = await came_to(parts)
    async with a_node(database_url, op) as other_node:  # with keys of its own
        await other_node.services.health.check()
        with pytest.raises(Unavailable):
            await other_node.oauth.flow.begin(NAME, "/")
        with pytest.raises(Unavailable):
            await finished(other_node, way)
        assert op.count("token") == 0


@pytest.mark.gen_test
async def test_linking_an_account_does_not_sign_in(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await parts.signed_in()
        way = await came_to(parts, link=Link(ada.user.id, ada.claims.sid), next_="/settings")
        done = await finished(parts, way, ada.claims.sid)
        assert (done.signed_in, done.next) == (None, "/settings")
        assert await identities(parts) == 1
        assert parts.count("usher_oauth_sign_ins_total", provider=NAME, outcome="linked") == 1
        signed_in = (await finished(parts, await came_to(parts))).signed_in
        assert signed_in is not None
        assert signed_in.user.id == ada.user.id


@pytest.mark.gen_test
async def test_a_linking_ends_in_the_login_session_that_began_it(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada, eve = await parts.signed_in(), await parts.signed_in()
        again = await parts.signed_in(ada.user.id)
        for sid in (None, "", eve.claims.sid, again.claims.sid):
            way = await came_to(parts, link=Link(ada.user.id, ada.claims.sid))
            await refused(parts, way, Reason.SIGNED_OUT, sid)
        assert await identities(parts) == 0


@pytest.mark.gen_test
async def test_the_refusal_has_the_reason_and_the_log_no_address(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op, email_domains=("example.org",)) as parts:
        evidence = await refused(parts, await came_to(parts), Reason.NOT_ALLOWED)
        assert "@" not in evidence
        op.user["email"] = f"ada@{DEVICE.ip}.example.org"
        await refused(parts, await came_to(parts), Reason.NOT_ALLOWED)
        op.user["email"] = "ada@example.org"
        assert (await finished(parts, await came_to(parts))).signed_in is not None
