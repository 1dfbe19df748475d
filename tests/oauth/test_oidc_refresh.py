"""A provider by discovery: refreshing, giving back, and the ends of a session."""

from __future__ import annotations

import pytest

from services.oauth.errors import (
    GrantEnded,
    ProviderUnavailable,
    Reason,
    SignInRefused,
    SubjectChanged,
)
from tests.oauth.providers import asked, op, refresh_token
from tests.support.oauth import exchanged, oidc
from tests.support.provider import LEFT_OUT, Provider

__all__ = ["op"]

# ---- refreshing ----------------------------------------------------------------------------


def test_a_refresh_gives_new_tokens_of_the_same_user(op: Provider) -> None:
    one = oidc(op)
    profile, grant = exchanged(one)
    fresh = one.refresh(refresh_token(grant), profile.subject)
    assert fresh.access_token.reveal() == op.access_tokens[-1]
    assert fresh.id_token is not None
    op.misbehave(refresh="no_id_token")
    assert one.refresh(refresh_token(fresh), profile.subject).id_token is None


def test_tokens_of_another_user_are_refused(op: Provider) -> None:
    one = oidc(op)
    profile, grant = exchanged(one)
    op.misbehave(refresh="sub_changed")
    with pytest.raises(SubjectChanged) as caught:
        one.refresh(refresh_token(grant), profile.subject)
    assert caught.value.reason is Reason.UNTRUSTED


@pytest.mark.parametrize(
    "fault", ["alg_none", "key_of_another", "aud_wrong", "iss_other", "kid_unknown", "garbage"]
)
def test_an_id_token_of_a_refresh_is_checked_once_what_came_is_there(
    op: Provider, fault: str
) -> None:
    one = oidc(op)
    profile, grant = exchanged(one)
    op.misbehave(id_token=fault)
    fresh = one.refresh(refresh_token(grant), profile.subject)
    assert fresh.access_token.reveal() == op.access_tokens[-1]
    with pytest.raises(SignInRefused):
        one.check_refreshed(fresh)
    op.behave()
    one.check_refreshed(one.refresh(refresh_token(fresh), profile.subject))


@pytest.mark.parametrize("place", ["discovery", "jwks"])
def test_a_refresh_token_is_not_used_up_while_its_answer_could_not_be_checked(
    op: Provider, place: str
) -> None:
    profile, grant = exchanged(oidc(op))
    elsewhere = oidc(op)  # another node, which knows neither document yet
    op.faults.set(place, "http_503")
    with pytest.raises(ProviderUnavailable):
        elsewhere.refresh(refresh_token(grant), profile.subject)
    op.behave()
    assert elsewhere.refresh(refresh_token(grant), profile.subject).access_token


def test_a_session_that_the_provider_ended_has_ended(op: Provider) -> None:
    one = oidc(op)
    profile, grant = exchanged(one)
    op.end_sessions()
    with pytest.raises(GrantEnded):
        one.refresh(refresh_token(grant), profile.subject)


# ---- the ends ------------------------------------------------------------------------------


def test_the_refresh_token_is_given_back_and_without_one_the_access_token(op: Provider) -> None:
    one = oidc(op)
    _, grant = exchanged(one)
    one.revoke(grant)
    op.refresh_tokens = "none"
    _, other = exchanged(one)
    assert one.revoke(other) is True
    assert op.revoked == [
        (refresh_token(grant).reveal(), "refresh_token"),
        (other.access_token.reveal(), "access_token"),
    ]


def test_a_provider_that_takes_nothing_back_is_not_asked_to(op: Provider) -> None:
    op.misbehave(discovery="no_revocation")
    one = oidc(op)
    _, grant = exchanged(one)
    assert one.revoke(grant) is False
    assert op.count("revoke") == 0


def test_the_logout_request_has_the_session_and_the_return_url(op: Provider) -> None:
    one = oidc(op)
    _, grant = exchanged(one)
    url = one.end_session_url(grant.id_token, "https://usher.example/?a=1&b=2")
    assert url is not None
    assert url.startswith(op.url("end_session") + "?")
    assert asked(url) == {
        "client_id": [op.client_id],
        "post_logout_redirect_uri": ["https://usher.example/?a=1&b=2"],
        "id_token_hint": [op.id_tokens[-1]],
    }
    hintless = one.end_session_url(None, "https://usher.example/")
    assert hintless is not None
    assert "id_token_hint" not in asked(hintless)


def test_it_may_have_a_query_of_its_own_or_not_be_there(op: Provider) -> None:
    op.metadata_claims["end_session_endpoint"] = op.url("end_session") + "?tenant=a"
    url = oidc(op).end_session_url(None, "https://usher.example/")
    assert url is not None
    assert asked(url)["tenant"] == ["a"]
    op.metadata_claims["end_session_endpoint"] = LEFT_OUT
    assert oidc(op).end_session_url(None, "https://usher.example/") is None


def test_a_sign_out_does_not_wait_for_metadata_that_was_cached(op: Provider) -> None:
    one = oidc(op)
    exchanged(one)
    one._discovery._until = 0.0
    op.misbehave(discovery="http_503")
    assert one.end_session_url(None, "https://usher.example/") is not None


def test_a_logout_token_is_checked_and_its_senders_cannot_make_us_fetch(op: Provider) -> None:
    one = oidc(op)
    exchanged(one)
    found = one.logout_token(op.logout_token())
    assert found is not None
    assert (found.subject, found.sid) == (op.user["sub"], op.sid)
    before = op.count("discovery") + op.count("jwks")
    for number in range(10):
        with pytest.raises(SignInRefused):
            one.logout_token(op.logout_token(header={"kid": f"nobody-{number}"}))
    assert op.count("discovery") + op.count("jwks") <= before + 1


def test_untyped_logout_tokens_are_accepted_where_the_settings_say_so(op: Provider) -> None:
    token = op.logout_token(sid="s-1", header={"typ": "JWT"})
    with pytest.raises(SignInRefused):
        oidc(op).logout_token(token)
    assert oidc(op, untyped_logout=True).logout_token(token) is not None
