"""Back-channel logout by a provider, and logout at the provider."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.composition.upkeep import Upkeep
from services.errors import DatabaseUnavailable, NotFound
from services.oauth.errors import ProviderUnavailable
from services.oauth.id_tokens import CLOCK_SKEW_SECONDS
from services.providers import logout as provider_logout
from services.providers.logout import LogoutRefused
from services.websocket.protocol import CloseCode
from tests.providers.logouts import a_node, active, hear, op, over, rename, sign_in, two_nodes
from tests.support.github import github
from tests.support.oauth import NAME, real_clock, settings_of_github
from tests.support.parts import node, open_socket, settings_of_tests
from tests.support.provider import LEFT_OUT, Provider, provider
from tests.support.redis import RealRedis, redis_server, within

__all__ = ["op", "redis_server"]

BACK = "https://usher.example/"


# ---- hearing of it -------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_session_that_the_provider_names_ends_with_its_sockets_on_every_node(
    database_url: str, op: Provider, redis_server: RealRedis
) -> None:
    async with two_nodes(database_url, op, redis_server) as both:
        ada, other = await sign_in(both[0]), await sign_in(both[1])
        by_password = await both[0].signed_in(ada.user.id)
        first_sid, _ = op.sids
        sockets = [await open_socket(parts, ada) for parts in both]
        assert await hear(both[1], op.logout_token(sub=LEFT_OUT, sid=first_sid)) == 1
        for socket in sockets:
            assert await socket.close_code() == CloseCode.SESSION_REVOKED
        assert await active(both[0], ada, other, by_password) == [False, True, True]
        assert await over(both[0], ada) == "provider_logout"


@pytest.mark.gen_test
async def test_without_redis_the_other_nodes_read_it_from_the_database(
    database_url: str, op: Provider
) -> None:
    async with two_nodes(database_url, op) as both:
        ada = await sign_in(both[0])
        socket = await open_socket(both[0], ada)
        assert await hear(both[1], op.logout_token()) == 1
        await both[0].revocations.sweep()
        assert await socket.close_code() == CloseCode.SESSION_REVOKED


@pytest.mark.gen_test
async def test_a_named_user_is_signed_out_of_all_sessions_of_the_provider_only(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada, again = await sign_in(parts), await sign_in(parts)
        by_password = await parts.signed_in(ada.user.id)
        sub = op.user["sub"]
        op.user = {"sub": "grace", "email": "grace@example.org", "name": "Grace"}
        grace = await sign_in(parts)
        assert await hear(parts, op.logout_token(sub=sub, sid=LEFT_OUT)) == 2
        everyone = ada, again, by_password, grace
        assert await active(parts, *everyone) == [False, False, True, True]


@pytest.mark.gen_test
async def test_named_by_both_a_session_has_to_be_the_users(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada, unnamed, other = [await sign_in(parts) for _ in range(3)]
        await parts.database.run(rename, unnamed, None)
        first_sid = op.sids[0]
        assert await hear(parts, op.logout_token(sub="somebody-else", sid=first_sid)) == 0
        assert await active(parts, ada, unnamed, other) == [True, True, True]
        # A session that the provider did not name may be the one.
        assert await hear(parts, op.logout_token(sid=first_sid)) == 2
        assert await active(parts, ada, unnamed, other) == [False, False, True]


@pytest.mark.gen_test
async def test_a_session_named_alone_is_no_unnamed_one(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        unnamed = await sign_in(parts)
        await parts.database.run(rename, unnamed, None)
        assert await hear(parts, op.logout_token(sub=LEFT_OUT, sid="another")) == 0
        assert await active(parts, unnamed) == [True]


@pytest.mark.gen_test
async def test_other_providers_sessions_are_not_touched(database_url: str, op: Provider) -> None:
    with provider() as second:
        second.user = op.user
        async with a_node(database_url, op, second) as parts:
            ada = await sign_in(parts)
            there = await sign_in(parts, "second")
            assert there.user.id == ada.user.id
            token = second.logout_token(sub=op.user["sub"], sid=LEFT_OUT)
            with pytest.raises(LogoutRefused):
                await hear(parts, token, NAME)
            assert await hear(parts, token, "second") == 1
            assert await active(parts, ada, there) == [True, False]


@pytest.mark.gen_test
async def test_a_logout_token_of_an_unknown_user_is_accepted(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        assert await hear(parts, op.logout_token(sub="nobody", sid="none")) == 0
        ada = await sign_in(parts)
        await parts.session_ends.end(ada.user.id, ada.claims.sid, "logout")
        assert await hear(parts, op.logout_token()) == 0


@pytest.mark.gen_test
async def test_an_end_without_retry_is_permanent(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        await hear(parts, op.logout_token())
        with pytest.raises(NotFound):
            await parts.oauth.refresh.valid(ada.user.id, NAME)
        assert await parts.admission.login_states.of(ada.claims) is None
        again = await sign_in(parts)
        assert await parts.admission.login_states.of(again.claims) is not None


# ---- and refusing --------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_logout_token_is_received_once_on_any_node(database_url: str, op: Provider) -> None:
    async with two_nodes(database_url, op) as both:
        await sign_in(both[0])
        token = op.logout_token()
        received = await asyncio.gather(
            *(hear(both[n % 2], token) for n in range(10)), return_exceptions=True
        )
        assert received.count(1) == 1
        assert sum(isinstance(one, LogoutRefused) for one in received) == 9
        fresh = await sign_in(both[0])
        with pytest.raises(LogoutRefused, match="sent before"):
            await hear(both[1], token)
        assert await active(both[0], fresh) == [True]
        # It is forgotten only when it would be too old to be taken.
        both[0].clock.forward(120 + CLOCK_SKEW_SECONDS - 5)
        await Upkeep(both[0].database, both[0].clock).purge()
        with pytest.raises(LogoutRefused, match="sent before"):
            await hear(both[1], token)


@pytest.mark.gen_test
async def test_the_same_jti_of_another_provider_is_another_token(
    database_url: str, op: Provider
) -> None:
    with provider() as second:
        async with a_node(database_url, op, second) as parts:
            for one, name in ((op, NAME), (second, "second")):
                await hear(parts, one.logout_token(jti="the same", sub="x"), name)
            with pytest.raises(LogoutRefused):
                await hear(parts, op.logout_token(jti="the same", sub="y"))


@pytest.mark.gen_test
async def test_what_is_not_to_be_trusted_ends_nothing_and_uses_nothing_up(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        for token in (
            "",
            "a.b.c",
            op.id_tokens[-1],
            op.logout_token(jti="mine", signer="none"),
            op.logout_token(jti="mine", signer="foreign"),
            op.logout_token(jti="mine", aud="another"),
            op.logout_token(jti="mine", header={"typ": "JWT"}),
        ):
            with pytest.raises(LogoutRefused) as caught:
                await hear(parts, token)
            assert caught.value.public == {"error": "invalid_request"}
        assert await active(parts, ada) == [True]
        assert parts.count("usher_oauth_logouts_total", outcome="refused") == 7
        assert await hear(parts, op.logout_token(jti="mine")) == 1
        assert parts.count("usher_oauth_logouts_total", outcome="ended") == 1


@pytest.mark.gen_test
async def test_a_provider_that_sends_none_is_not_received(database_url: str, op: Provider) -> None:
    with github() as hub:
        shared = settings_of_tests(settings_of_github(hub))
        async with node(database_url, clock=real_clock(), settings=shared) as parts:
            for name in ("github", "nobody", ""):
                with pytest.raises(NotFound):
                    await hear(parts, op.logout_token(sub="x"), name)


@pytest.mark.gen_test
async def test_without_keys_or_database_the_response_is_unavailable(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        token = op.logout_token(sub="x")
        op.misbehave(jwks="http_503")
        with pytest.raises(ProviderUnavailable):
            await hear(parts, token)
        op.behave()
        await sign_in(parts)  # which needs the keys
        await parts.database.close()
        with pytest.raises(DatabaseUnavailable):
            await hear(parts, token)


@pytest.mark.gen_test
async def test_a_token_that_could_not_be_acted_on_may_be_sent_again(
    database_url: str, op: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        token = op.logout_token()

        def fails(*_: object) -> list[Any]:
            raise DatabaseUnavailable("in the middle of it")

        with monkeypatch.context() as patch:
            patch.setattr(parts.session_ends, "end_of_provider_within", fails)
            with pytest.raises(DatabaseUnavailable):
                await hear(parts, token)
        assert await hear(parts, token) == 1
        assert await active(parts, ada) == [False]


# ---- signing out there ---------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_sign_out_response_has_the_providers_logout_url(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        url = await parts.oauth.logout.end_session_url(ada.claims.sid, BACK)
        assert url is not None
        asked = parse_qs(urlsplit(url).query)
        assert asked["id_token_hint"] == [op.id_tokens[-1]]
        assert asked["post_logout_redirect_uri"] == [BACK]


@pytest.mark.gen_test
async def test_there_may_be_no_such_place(database_url: str, op: Provider) -> None:
    op.misbehave(discovery="no_end_session")
    async with a_node(database_url, op) as parts:
        ada, by_password = await sign_in(parts), await parts.signed_in()
        for sid in (ada.claims.sid, by_password.claims.sid, "nobody"):
            assert await parts.oauth.logout.end_session_url(sid, BACK) is None


@pytest.mark.gen_test
async def test_nor_can_a_wrong_key_find_it(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
    async with a_node(database_url, op) as other_node:
        assert await other_node.oauth.logout.end_session_url(ada.claims.sid, BACK) is None


@pytest.mark.gen_test
@pytest.mark.parametrize("fault", ["http_503", "held", "issuer_other"])
async def test_an_error_of_the_provider_prevents_no_sign_out(
    database_url: str, op: Provider, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_logout, "END_SESSION_SECONDS", 0.3)
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        keys = parts.services.infrastructure.settings
    op.misbehave(discovery=fault)
    async with node(database_url, clock=real_clock(), settings=keys) as fresh:
        url = await within(fresh.oauth.logout.end_session_url(ada.claims.sid, BACK), 5.0)
        assert url is None
        op.behave()
