"""The token endpoint for codes and refresh tokens: what comes, and the end of a grant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.oauth.errors import GrantEnded, ProviderUnavailable
from services.oauth.token_endpoint import (
    INVALID_GRANT_CODES,
    MAX_EXPIRES_IN,
    MAX_TOKEN_LENGTH,
    Grant,
    OAuthClient,
    new_verifier,
)
from services.secret import Secret
from tests.oauth.grants import POST, SCOPES, client_of, code_from, exchange, op, refresh, revealed
from tests.support.github import GitHub, github
from tests.support.github_faults import GITHUB_FAULTS
from tests.support.http_answers import Reply, as_json
from tests.support.http_service import Seen, Service
from tests.support.oauth import callback, came_back, hurried
from tests.support.parts import Clock
from tests.support.provider import Provider
from tests.support.provider_faults import REFRESH_FAULTS, TOKEN_FAULTS

__all__ = ["op"]

DONE_BUT_LATE = ("slow", "held", "drip", "drip_headers", "endless", "bomb", "lost")
"""After these the provider has done its work; that nothing of it came is what we know."""
OTHER_MODULES = ("no_id_token", "sub_changed")
"""Looked at by whoever looks at ID tokens, see test_oidc.py."""


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with github() as running:
        yield running


# ---- what comes ----------------------------------------------------------------------------


def test_a_code_gives_tokens_and_when_they_end(op: Provider) -> None:
    op.expires_in = 600
    clock, verifier = Clock(1_000_000.0), new_verifier()
    client = client_of(op, clock)
    code = code_from(op, client, verifier)
    grant = client.exchange(op.url("token"), POST, code, verifier)
    assert revealed(grant.access_token) == op.access_tokens[-1]
    assert revealed(grant.refresh_token) == op.given_refresh_tokens[-1]
    assert revealed(grant.id_token) == op.id_tokens[-1]
    assert grant.expires_at == 1_000_600.0
    assert set(grant.scopes.split()) == set(SCOPES)


@pytest.mark.parametrize("fault", sorted(set(TOKEN_FAULTS) - set(OTHER_MODULES)))
def test_each_fault_of_an_exchange_is_no_answer_or_the_end(op: Provider, fault: str) -> None:
    client, verifier = client_of(op), new_verifier()
    code = code_from(op, client, verifier)
    op.misbehave(token=fault)
    op.drip_interval = 0.05
    expected = GrantEnded if fault == "invalid_grant" else ProviderUnavailable
    with hurried(fault), pytest.raises(expected) as caught:
        client.exchange(op.url("token"), POST, code, verifier)
    assert code not in str(caught.value)
    assert op.count("token") == 1, "a code is sent once"
    assert op.elsewhere.requests == []
    op.behave()
    if fault in DONE_BUT_LATE or fault in ("wrong_types", "no_access_token"):
        with pytest.raises(GrantEnded):
            client.exchange(op.url("token"), POST, code, verifier)
    else:
        assert client.exchange(op.url("token"), POST, code, verifier).refresh_token


@pytest.mark.parametrize("fault", sorted(set(REFRESH_FAULTS) - set(OTHER_MODULES)))
def test_each_fault_of_a_refresh_is_no_answer_or_the_end(op: Provider, fault: str) -> None:
    op.refresh_tokens = "kept"
    grant = exchange(op)
    op.misbehave(refresh=fault)
    op.drip_interval = 0.05
    expected = GrantEnded if fault == "invalid_grant" else ProviderUnavailable
    with hurried(fault), pytest.raises(expected) as caught:
        refresh(op, grant)
    assert revealed(grant.refresh_token) not in str(caught.value)
    assert op.count("token") == 2
    assert op.elsewhere.requests == []
    op.behave()
    assert refresh(op, grant).access_token


@pytest.mark.parametrize("fault", sorted(GITHUB_FAULTS["token"]))
def test_each_fault_of_github_is_no_answer_or_the_end(hub: GitHub, fault: str) -> None:
    client = OAuthClient(hub.client_id, Secret(hub.client_secret), callback("github"))
    verifier = new_verifier()
    url = client.authorization_url(f"{hub.origin}/login/oauth/authorize", (), "s", verifier)
    code = came_back(url).code
    hub.misbehave(token=fault)
    hub.drip_interval = 0.05
    with (
        hurried(fault),
        pytest.raises(GrantEnded if fault in INVALID_GRANT_CODES else ProviderUnavailable),
    ):
        client.exchange(f"{hub.origin}/login/oauth/access_token", POST, code, verifier)
    assert hub.elsewhere.requests == []


@pytest.mark.parametrize("fault", sorted(GITHUB_FAULTS["refresh"]))
def test_and_at_a_refresh(hub: GitHub, fault: str) -> None:
    hub.misbehave(refresh=fault)
    hub.drip_interval = 0.05
    client = OAuthClient(hub.client_id, Secret(hub.client_secret), callback("github"))
    with hurried(fault), pytest.raises((ProviderUnavailable, GrantEnded)) as caught:
        client.refresh(f"{hub.origin}/login/oauth/access_token", POST, Secret("ghr_unknown"))
    # Those that do their work find that this token is none, and their answer is lost.
    assert (caught.type is GrantEnded) == (fault in INVALID_GRANT_CODES)


class Tokens(Service):
    """A token endpoint that says whatever the test wants."""

    def __init__(self, **more: object) -> None:
        super().__init__()
        self.content: dict[str, object] = {"access_token": "at", "token_type": "Bearer", **more}
        self.status = 200

    def answer(self, seen: Seen) -> Reply:
        return as_json(self.content, self.status)

    def refreshed(self) -> Grant:
        client = OAuthClient("client", Secret("secret"), callback(), Clock(1000.0))
        return client.refresh(self.origin, POST, Secret("the old refresh token"))


WRONG: tuple[dict[str, object], ...] = (
    {"access_token": ""},
    {"access_token": None},
    {"access_token": 7},
    {"access_token": ["at"]},
    {"access_token": "a" * (MAX_TOKEN_LENGTH + 1)},
    {"access_token": "\ud800"},
    {"access_token": "at\nSet-Cookie: x"},
    {"access_token": "at\x00"},
    {"access_token": "ätsch"},
    {"token_type": "mac"},
    {"token_type": None},
    {"token_type": 7},
    {"refresh_token": 7},
    {"refresh_token": "\ud800"},
    {"refresh_token": "r" * (MAX_TOKEN_LENGTH + 1)},
    {"id_token": 7},
    {"id_token": {"alg": "none"}},
    {"id_token": "\x00"},
    {"scope": 7},
    {"scope": {"a": 1}},
    {"scope": "read\x00"},
    {"scope": "\ud800"},
    {"scope": "s" * (MAX_TOKEN_LENGTH + 1)},
    {"expires_in": "soon"},
    {"expires_in": ""},
    {"expires_in": [3600]},
    {"expires_in": {"seconds": 1}},
    {"expires_in": float("inf")},
    {"expires_in": float("nan")},
    {"expires_in": 10**400},
    {"expires_at": {"a": []}, "access_token": None},
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:40])
def test_a_member_of_a_wrong_kind_makes_an_answer_unusable(wrong: dict[str, object]) -> None:
    with Tokens(**wrong) as endpoint, pytest.raises(ProviderUnavailable):
        endpoint.refreshed()


@pytest.mark.parametrize(
    ("says", "ends_at"),
    [
        ({}, None),
        ({"expires_in": None}, None),
        ({"expires_in": 3600}, 4600.0),
        ({"expires_in": 3600.9}, 4600.0),
        ({"expires_in": "3600"}, 4600.0),  # Microsoft's older endpoints
        ({"expires_in": -5}, 1000.0),
        ({"expires_in": 10**15}, 1000.0 + MAX_EXPIRES_IN),
        ({"expires_at": 1, "expires_in": 3600}, 4600.0),
    ],
)
def test_the_expiry_is_in_seconds_from_now(says: dict[str, object], ends_at: float | None) -> None:
    with Tokens(**says) as endpoint:
        assert endpoint.refreshed().expires_at == ends_at


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        (None, ""),
        ("", ""),
        ("read write", "read write"),
        ("read,write", "read write"),  # GitHub
        (["read", "write"], "read write"),
    ],
)
def test_other_scopes_than_asked_for_change_nothing(scope: object, found: str) -> None:
    with Tokens(scope=scope) as endpoint:
        assert endpoint.refreshed().scopes == found


@pytest.mark.parametrize("name", ["bearer", "Bearer", "BEARER"])
def test_the_token_type_is_bearer_in_any_spelling(name: str) -> None:
    with Tokens(token_type=name) as endpoint:
        assert revealed(endpoint.refreshed().access_token) == "at"


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize("error", sorted(INVALID_GRANT_CODES))
def test_a_grant_ends_only_on_errors_that_mean_its_end(error: str, status: int) -> None:
    with Tokens() as endpoint:
        endpoint.content, endpoint.status = {"error": error}, status
        with pytest.raises(GrantEnded):
            endpoint.refreshed()
        others: tuple[object, ...] = ("invalid_client", "slow_down", error + "s", "", 7, [], None)
        for other in others:
            endpoint.content = {"error": other}
            with pytest.raises(ProviderUnavailable):
                endpoint.refreshed()


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_fails_ends_no_grant_whatever_it_says(status: int) -> None:
    with Tokens() as endpoint:
        endpoint.content, endpoint.status = {"error": "invalid_grant"}, status
        with pytest.raises(ProviderUnavailable):
            endpoint.refreshed()


def test_only_the_error_code_of_a_provider_is_logged() -> None:
    with Tokens() as endpoint:
        endpoint.content = {
            "error": "bad\nthing <script>",
            "error_description": "for ada@example.com",
        }
        with pytest.raises(ProviderUnavailable) as caught:
            endpoint.refreshed()
    assert caught.value.evidence.endswith("refused: unknown")


# ---- refresh tokens ------------------------------------------------------------------------


def test_a_rotated_refresh_token_takes_the_place_of_the_old_one(op: Provider) -> None:
    first = exchange(op)
    second = refresh(op, first)
    assert revealed(second.refresh_token) != revealed(first.refresh_token)
    with pytest.raises(GrantEnded):
        refresh(op, first)
    assert refresh(op, second).refresh_token


@pytest.mark.parametrize("refresh_token", [{}, {"refresh_token": None}, {"refresh_token": ""}])
def test_where_no_new_refresh_token_comes_the_old_one_continues(
    refresh_token: dict[str, object],
) -> None:
    with Tokens(**refresh_token) as endpoint:
        assert revealed(endpoint.refreshed().refresh_token) == "the old refresh token"


def test_a_code_that_gives_no_refresh_token_gives_none(op: Provider) -> None:
    op.refresh_tokens = "none"
    assert exchange(op).refresh_token is None
