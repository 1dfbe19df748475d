"""Failed refreshes: provider errors, and refusals that do not mean the end of a grant."""

from __future__ import annotations

import asyncio

import msgspec
import peewee
import pytest

from services.errors import DatabaseUnavailable, NotFound
from services.oauth.errors import ProviderUnavailable
from services.oauth.oidc import OidcProvider
from services.oauth.token_endpoint import Grant
from services.providers.refresh import (
    BACK_OFF_SECONDS,
    MOST_BACK_OFF_SECONDS,
)
from services.providers.refusals import LEAST_REFUSALS
from services.providers.tokens import AHEAD_SECONDS, TokenSet
from services.websocket.protocol import CloseCode
from tests.providers.refreshes import (
    WHILE,
    a_node,
    calls,
    only_set,
    op,
    over,
    sets,
    sign_in,
    text,
    valid,
)
from tests.support.databases import on_sqlite
from tests.support.oauth import hurried, real_clock
from tests.support.parts import node, open_socket
from tests.support.provider import Provider
from tests.support.provider_faults import REFRESH_FAULTS
from tests.support.redis import until, within

__all__ = ["op"]

USES_UP = ("no_id_token",)
"""An answer that a refresh may give."""


@on_sqlite  # a fault of the provider: no row is read that others do not read
@pytest.mark.gen_test
@pytest.mark.parametrize(
    "fault", sorted(set(REFRESH_FAULTS) - {"invalid_grant", "sub_changed", *USES_UP})
)
async def test_each_fault_but_the_end_keeps_the_session_and_is_tried_again_later(
    database_url: str, op: Provider, fault: str
) -> None:
    op.refresh_tokens = "kept"
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        old = await text(parts, ada)
        op.misbehave(refresh=fault)
        op.drip_interval = 0.05
        parts.clock.forward(WHILE - AHEAD_SECONDS)
        with hurried(fault):
            assert await text(parts, ada) == old, "it is good for a moment yet"
            assert await text(parts, ada) == old
            await until(lambda: calls(op) == 1)  # and the provider is left alone
            parts.clock.forward(BACK_OFF_SECONDS)
            assert await text(parts, ada) == old
            await until(lambda: calls(op) == 2)
            parts.clock.forward(AHEAD_SECONDS)
            with pytest.raises(ProviderUnavailable):
                await valid(parts, ada)
        row = await only_set(parts)
        assert (row["failures"], row["claimed_until"], row["version"]) == (3, None, 1)
        assert await over(parts, ada) is None
        assert op.elsewhere.requests == []
        op.behave()
        parts.clock.forward(MOST_BACK_OFF_SECONDS)
        assert await text(parts, ada) == op.access_tokens[-1]
        row = await only_set(parts)
        assert (row["failures"], row["try_at"], row["version"]) == (0, None, 2)


@pytest.mark.gen_test
async def test_it_is_tried_less_and_less_often_and_never_given_up(
    database_url: str, op: Provider
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        op.misbehave(refresh="http_503")
        parts.clock.forward(WHILE)
        for failures in range(1, 12):
            with pytest.raises(ProviderUnavailable):
                await valid(parts, ada)
            row = await only_set(parts)
            wait = min(BACK_OFF_SECONDS * 2.0 ** (failures - 1), MOST_BACK_OFF_SECONDS)
            assert row["failures"] == failures
            assert 0.5 * wait <= row["try_at"] - parts.clock() <= wait
            parts.clock.now = row["try_at"]
        assert calls(op) == 11
        assert parts.count("usher_oauth_refreshes_total", outcome="failed") == 11


@pytest.mark.gen_test
@pytest.mark.parametrize("faults", [(), ("kid_unknown",), ("key_of_another", "iat_future")])
async def test_tokens_of_another_user_end_the_session_and_are_not_kept(
    database_url: str, op: Provider, faults: tuple[str, ...]
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        socket = await open_socket(parts, ada)
        op.misbehave(refresh="sub_changed", id_token=faults)
        parts.clock.forward(WHILE)
        with pytest.raises(NotFound):
            await valid(parts, ada)
        assert await parts.database.run(sets) == []
        assert await over(parts, ada) == "provider_session_ended"
        assert await socket.close_code() == CloseCode.SESSION_REVOKED


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "fault",
    ["kid_unknown", "key_of_another", "iat_future", "expired", "aud_wrong", "alg_none", "garbage"],
)
async def test_what_was_rotated_is_kept_though_its_id_token_can_not_be_checked(
    database_url: str, op: Provider, fault: str
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        op.misbehave(id_token=fault)
        for number in (1, 2, 3):  # each with the refresh token that the one before has brought
            parts.clock.forward(WHILE)
            assert await text(parts, ada) == op.access_tokens[-1]
            assert (await only_set(parts))["version"] == 1 + number
        assert await over(parts, ada) is None
        assert parts.count("usher_oauth_refreshes_total", outcome="unchecked") == 3
        assert parts.count("usher_oauth_refreshes_total", outcome="refreshed") == 3


@pytest.mark.gen_test
async def test_it_is_kept_before_it_is_judged(
    database_url: str, op: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        before = await only_set(parts)
        loop, kept = asyncio.get_running_loop(), list[int]()

        def look(_: OidcProvider, __: Grant) -> None:
            asking = asyncio.run_coroutine_threadsafe(only_set(parts), loop)
            kept.append(asking.result(20)["version"])

        monkeypatch.setattr(OidcProvider, "check_refreshed", look)
        parts.clock.forward(WHILE)
        await text(parts, ada)
        assert kept == [before["version"] + 1]


@pytest.mark.gen_test
@pytest.mark.parametrize("fault", ["invalid_request", "refused_empty"])
async def test_a_refresh_that_is_refused_for_long_ends_the_session(
    database_url: str, op: Provider, fault: str
) -> None:
    async with a_node(database_url, op, refused_seconds=600.0) as parts:
        ada = await sign_in(parts)
        socket = await open_socket(parts, ada)
        op.misbehave(refresh=fault)
        parts.clock.forward(WHILE)
        since = parts.clock()
        while (reason := await over(parts, ada)) is None:
            assert parts.clock() - since < 600.0 + MOST_BACK_OFF_SECONDS
            with pytest.raises((ProviderUnavailable, NotFound)):
                await valid(parts, ada)
            parts.clock.forward(MOST_BACK_OFF_SECONDS / 4)
        assert reason == "provider_session_ended"
        assert parts.clock() - since >= 600.0
        assert await socket.close_code() == CloseCode.SESSION_REVOKED
        assert await parts.database.run(sets) == []


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "fault", ["http_503", "closes", "invalid_client", "temporarily_unavailable"]
)
async def test_other_errors_never_end_the_grant(
    database_url: str, op: Provider, fault: str
) -> None:
    async with a_node(database_url, op, refused_seconds=60.0) as parts:
        ada = await sign_in(parts)
        op.misbehave(refresh=fault)
        parts.clock.forward(WHILE)
        for _ in range(LEAST_REFUSALS + 2):
            with pytest.raises(ProviderUnavailable):
                await valid(parts, ada)
            parts.clock.forward(MOST_BACK_OFF_SECONDS)
        assert await over(parts, ada) is None


@pytest.mark.gen_test
async def test_a_success_in_between_begins_anew_and_a_clock_that_leaps_ends_nothing(
    database_url: str, op: Provider
) -> None:
    op.refresh_tokens = "kept"
    async with a_node(database_url, op, refused_seconds=60.0) as parts:
        ada = await sign_in(parts)
        for _ in range(2):
            op.misbehave(refresh="invalid_request")
            for _ in range(LEAST_REFUSALS - 1):
                parts.clock.forward(WHILE)
                with pytest.raises(ProviderUnavailable):
                    await valid(parts, ada)
            op.behave()
            parts.clock.forward(WHILE)
            await text(parts, ada)
            assert (await only_set(parts))["refused_since"] is None
        assert await over(parts, ada) is None


@pytest.mark.gen_test
async def test_an_answer_without_an_id_token_will_do(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        before = await only_set(parts)
        op.misbehave(refresh="no_id_token")
        parts.clock.forward(WHILE)
        assert await text(parts, ada) == op.access_tokens[-1]
        assert (await only_set(parts))["id_token"] == before["id_token"]


@pytest.mark.gen_test
async def test_new_tokens_are_written_even_if_the_database_stumbles(
    database_url: str, op: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        parts.clock.forward(WHILE)
        replace, stumbles = parts.oauth.tokens.replace, iter((True,))

        def once_away(db: peewee.Database, tokens: TokenSet, grant: Grant) -> bool:
            if next(stumbles, False):
                raise DatabaseUnavailable("away for a moment")
            return replace(db, tokens, grant)

        monkeypatch.setattr(parts.oauth.tokens, "replace", once_away)
        assert await within(text(parts, ada)) == op.access_tokens[-1]
        assert (await only_set(parts))["version"] == 2


@pytest.mark.gen_test
async def test_a_provider_that_is_set_no_more_ends_nothing(database_url: str, op: Provider) -> None:
    async with a_node(database_url, op) as parts:
        ada = await sign_in(parts)
        shared = parts.services.infrastructure.settings
    without = msgspec.structs.replace(shared, oauth_providers=())
    async with node(database_url, clock=real_clock(), settings=without) as parts:
        assert await text(parts, ada) == op.access_tokens[-1]
        parts.clock.forward(WHILE)
        await parts.oauth.refresh.keep()
        with pytest.raises(ProviderUnavailable):
            await valid(parts, ada)
        assert await over(parts, ada) is None
