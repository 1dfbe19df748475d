"""Login sessions on SQLite and on PostgreSQL: opened, refreshed, concurrent."""

from __future__ import annotations

import asyncio

import pytest

from models.user import User
from services.errors import NotFound, Unauthenticated
from services.refresh.steps import REFRESH_GRACE_SECONDS
from services.sessions.login_sessions import MAX_DEVICE_LENGTH
from services.sessions.session_views import Device, SignedIn
from tests.sessions.logins import end, everything, reasons, refresh, refuses, set_user, two_nodes
from tests.support.parts import (
    ACCESS_TTL,
    DEVICE,
    LIFETIME,
    REFRESH_TTL,
    node,
    open_socket,
    session_row,
)

# ---- opening -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_new_session_has_tokens_for_its_user_and_role(database_url: str) -> None:
    async with node(database_url) as parts:
        root = await parts.user("Root", "admin")
        login = await parts.signed_in(root)
        assert parts.tokens.verify(login.access_token.reveal()) == login.claims
        assert (login.claims.sub, login.claims.role) == (root, "admin")
        assert (login.user.name, login.user.role) == ("Root", "admin")
        assert login.refresh_expires_at == parts.clock() + REFRESH_TTL
        assert login.session_expires_at == parts.clock() + LIFETIME
        row = await parts.database.run(session_row, login.claims.sid)
        assert (row["device"], row["ip"], row["method"]) == (
            DEVICE.description,
            DEVICE.ip,
            "password",
        )


@pytest.mark.gen_test
async def test_no_token_lies_in_the_database(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        newer = await refresh(parts, login)
        await end(parts, newer)
        text = await parts.database.run(everything)
        assert login.claims.sid in text, "the check looks at the right tables"
        for one in (login, newer):
            assert one.refresh_token.reveal() not in text
            assert one.access_token.reveal() not in text


@pytest.mark.gen_test
async def test_unknown_and_disabled_users_get_no_session(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        await parts.database.run(set_user, user, {"disabled_at": 1.0})
        for user_id in (user, "nobody"):
            with pytest.raises(Unauthenticated):
                await parts.signed_in(user_id)


@pytest.mark.gen_test
async def test_a_password_that_was_changed_meanwhile_opens_nothing(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        await parts.database.run(set_user, user, {"password_hash": "new"})
        opened = parts.login_sessions.open
        with pytest.raises(Unauthenticated):
            await opened(user, "password", DEVICE, "old")
        assert (await opened(user, "password", DEVICE, "new")).claims.sub == user


@pytest.mark.gen_test
async def test_a_long_device_description_is_cut(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        await parts.login_sessions.open(user, "password", Device("ü" * 5000, "::1"))
        (row,) = await parts.login_sessions.active(user)
        assert row.device == "ü" * MAX_DEVICE_LENGTH


# ---- rotation ------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_refresh_gives_other_tokens_of_the_same_session(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        parts.clock.forward(60)
        newer = await refresh(parts, login)
        assert newer.claims.sid == login.claims.sid
        assert newer.claims.jti != login.claims.jti
        assert newer.refresh_token != login.refresh_token
        assert newer.claims.iat == parts.clock()
        row = await parts.database.run(session_row, login.claims.sid)
        assert row["last_seen_at"] == parts.clock()


@pytest.mark.gen_test
async def test_a_refresh_returns_the_current_name_and_role(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await parts.database.run(set_user, login.user.id, {"role": "admin", "name": "Eve"})
        newer = await refresh(parts, login)
        assert (newer.claims.role, newer.user.name) == ("admin", "Eve")


@pytest.mark.parametrize("token", ["", "x", "\x00", "ü\ud800", "a" * 100_000])
@pytest.mark.gen_test
async def test_what_is_no_refresh_token_of_ours_is_refused(database_url: str, token: str) -> None:
    async with node(database_url) as parts:
        await parts.signed_in()
        with pytest.raises(Unauthenticated):
            await parts.refresh.rotation.refresh(token)


@pytest.mark.gen_test
async def test_a_disabled_user_cannot_refresh(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await parts.database.run(set_user, login.user.id, {"disabled_at": 1.0})
        await refuses(parts, login)


@pytest.mark.gen_test
async def test_the_session_of_a_deleted_user_cannot_be_refreshed(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await parts.database.run(lambda db: User.delete().execute(db))
        await refuses(parts, login)


# ---- reuse and grace -----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_within_the_grace_each_tab_gets_tokens_that_work(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        tabs = [await refresh(parts, login)]
        parts.clock.forward(REFRESH_GRACE_SECONDS)
        tabs += [await refresh(parts, login), await refresh(parts, login)]
        assert len({tab.refresh_token for tab in tabs}) == 3
        for tab in tabs:
            assert (await refresh(parts, tab)).claims.sid == login.claims.sid


@pytest.mark.gen_test
async def test_after_the_grace_a_used_token_ends_the_whole_session(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        other = await parts.signed_in(login.user.id)
        newer = await refresh(parts, await refresh(parts, login))
        peer, kept = await open_socket(parts, newer), await open_socket(parts, other)
        parts.clock.forward(REFRESH_GRACE_SECONDS + 0.001)
        await refuses(parts, login)
        assert await peer.close_code() == 4410
        assert parts.revocations.names(newer.claims)
        assert await parts.admission.login_states.of(newer.claims) is None
        await refuses(parts, newer)
        row = await parts.database.run(session_row, login.claims.sid)
        assert (row["ended_at"], row["end_reason"]) == (parts.clock(), "refresh_reuse")
        assert kept.client.connection.is_open
        assert (await refresh(parts, other)).user == other.user


@pytest.mark.gen_test
async def test_a_token_of_an_earlier_generation_ends_the_session_too(database_url: str) -> None:
    async with node(database_url) as parts:
        login = newest = await parts.signed_in()
        for _ in range(3):
            parts.clock.forward(REFRESH_GRACE_SECONDS)
            newest = await refresh(parts, newest)
        await refuses(parts, login)
        await refuses(parts, newest)


@pytest.mark.gen_test
async def test_reuse_ends_a_session_once_however_often_it_is_tried(database_url: str) -> None:
    async with two_nodes(database_url) as (here, there):
        login = await here.signed_in()
        await refresh(here, await refresh(here, login))
        here.clock.forward(REFRESH_GRACE_SECONDS + 1)
        tries = [refresh(parts, login) for parts in (here, there) for _ in range(5)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unauthenticated}
        assert await here.database.run(reasons) == ["refresh_reuse"]


# ---- how long ------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_refresh_token_extends_with_use_and_expires_without(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        for _ in range(5):
            parts.clock.forward(REFRESH_TTL - 1)
            login = await refresh(parts, login)
        parts.clock.forward(REFRESH_TTL)
        await refuses(parts, login)


@pytest.mark.gen_test
async def test_the_end_of_a_session_does_not_slide(database_url: str) -> None:
    async with node(database_url) as parts:
        login = newest = await parts.signed_in()
        ends_at = login.session_expires_at
        while parts.clock() + REFRESH_TTL / 2 < ends_at:
            parts.clock.forward(REFRESH_TTL / 2)
            newest = await refresh(parts, newest)
            assert newest.session_expires_at == ends_at
            assert newest.refresh_expires_at <= ends_at
            assert newest.claims.exp <= ends_at
        parts.clock.now = ends_at - 10
        newest = await refresh(parts, newest)
        assert newest.claims.exp == newest.refresh_expires_at == ends_at
        parts.clock.now = ends_at
        await refuses(parts, newest)
        assert await parts.admission.login_states.of(newest.claims) is None
        assert await parts.login_sessions.active(login.user.id) == []


@pytest.mark.gen_test
async def test_an_access_token_is_valid_as_long_as_the_setting_says(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        assert login.claims.exp - login.claims.iat == ACCESS_TTL


# ---- races ---------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_twenty_parallel_refreshes_of_one_token_all_succeed(database_url: str) -> None:
    async with two_nodes(database_url) as (here, there):
        login = await here.signed_in()
        tabs = await asyncio.gather(
            *(refresh(parts, login) for parts in (here, there) for _ in range(10))
        )
        assert len({tab.refresh_token for tab in tabs}) == 20
        assert len({tab.claims.jti for tab in tabs}) == 20
        assert {tab.claims.sid for tab in tabs} == {login.claims.sid}
        assert await here.database.run(reasons) == []
        here.clock.forward(REFRESH_GRACE_SECONDS + 1)
        assert (await refresh(there, tabs[-1])).user == login.user
        await refuses(there, login)


@pytest.mark.gen_test(timeout=60)
async def test_a_refresh_concurrent_with_a_logout_leaves_no_valid_token(database_url: str) -> None:
    async with two_nodes(database_url) as (here, there):
        user = await here.user()
        for turn in range(20):
            login = await here.signed_in(user)
            racing = [refresh(there, login), end(here, login)]
            if turn % 2:
                racing.reverse()
            outcomes = await asyncio.gather(*racing, return_exceptions=True)
            assert None in outcomes, "the logout succeeds whoever is first"
            for outcome in outcomes:
                if isinstance(outcome, SignedIn):
                    await refuses(here, outcome)
                    assert await there.admission.login_states.of(outcome.claims) is None
                    assert here.revocations.names(outcome.claims)
                else:
                    assert outcome is None or isinstance(outcome, Unauthenticated)
            await refuses(there, login)
        assert await here.login_sessions.active(user) == []


@pytest.mark.gen_test
async def test_of_parallel_logouts_one_ends_the_session(database_url: str) -> None:
    async with two_nodes(database_url) as (here, there):
        login = await here.signed_in()
        racing = [end(parts, login) for parts in (here, there) for _ in range(5)]
        outcomes = await asyncio.gather(*racing, return_exceptions=True)
        assert outcomes.count(None) == 1
        assert {type(outcome) for outcome in outcomes} == {type(None), NotFound}
        assert await here.database.run(reasons) == ["logout", "logout"], "session and token"
