"""Login sessions on SQLite and on PostgreSQL: opened, refreshed, concurrent, ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import peewee
import pytest

from models.login_session import LoginSession, RefreshToken
from models.revocation import Revocation as RevocationRow
from models.user import User
from services.errors import NotFound, Unauthenticated
from services.refresh.steps import REFRESH_GRACE_SECONDS
from services.sessions.login_sessions import MAX_DEVICE_LENGTH
from services.sessions.session_views import Device, SignedIn
from tests.support.parts import (
    ACCESS_TTL,
    DEVICE,
    LIFETIME,
    REFRESH_TTL,
    Parts,
    node,
    open_socket,
    session_row,
)


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    """Two nodes on one database, so that their transactions really meet."""
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        yield here, there


def set_user(db: peewee.Database, user_id: str, values: dict[str, Any]) -> None:
    User.update(values).where(User.id == user_id).execute(db)


def everything(db: peewee.Database) -> str:
    """All that lies in the tables, as one text."""
    tables = (User, LoginSession, RefreshToken, RevocationRow)
    return repr([list(table.select().tuples().execute(db)) for table in tables])


def reasons(db: peewee.Database) -> list[str]:
    return [row.reason for row in RevocationRow.select().order_by(RevocationRow.id).execute(db)]


async def refresh(parts: Parts, signed_in: SignedIn) -> SignedIn:
    return await parts.refresh.rotation.refresh(signed_in.refresh_token.reveal())


async def refuses(parts: Parts, signed_in: SignedIn) -> None:
    with pytest.raises(Unauthenticated):
        await refresh(parts, signed_in)


async def end(parts: Parts, signed_in: SignedIn) -> None:
    claims = signed_in.claims
    await parts.session_ends.end(claims.sub, claims.sid, "logout", claims.jti)


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


# ---- looking up ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_state_of_a_live_session_is_what_the_database_says(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await parts.database.run(set_user, login.user.id, {"role": "admin", "name": "Eve"})
        parts.clock.forward(5)
        state = await parts.admission.login_states.of(login.claims)
        assert state is not None
        assert (state.name, state.role, state.as_of) == ("Eve", "admin", parts.clock())
        assert state.expires_at == login.session_expires_at


@pytest.mark.gen_test
async def test_nothing_that_has_ended_has_a_state(database_url: str) -> None:
    async with node(database_url) as parts:
        look = parts.admission.login_states.of
        gone, off = await parts.signed_in(), await parts.signed_in()
        by_name = await parts.signed_in()
        assert await look(msgspec.structs.replace(gone.claims, sub=off.user.id)) is None
        assert await look(msgspec.structs.replace(gone.claims, sid="none")) is None
        await end(parts, gone)
        assert await look(gone.claims) is None
        await parts.database.run(set_user, off.user.id, {"disabled_at": 1.0})
        assert await look(off.claims) is None
        token = by_name.claims
        await parts.database.run(parts.revocations.record, "token", token.jti, token.sub, "logout")
        assert await look(token) is None
        newer = await refresh(parts, by_name)
        assert await look(newer.claims) is not None


@pytest.mark.gen_test
async def test_live_sessions_are_listed_last_seen_first_and_only_their_own(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        first, second, over = [await parts.signed_in(user) for _ in range(3)]
        await parts.signed_in()
        await end(parts, over)
        parts.clock.forward(60)
        await parts.login_sessions.touch({second.claims.sid: parts.clock()})
        rows = await parts.login_sessions.active(user)
        assert [row.id for row in rows] == [second.claims.sid, first.claims.sid]
        assert rows[0].last_seen_at == parts.clock()
        assert (rows[0].device, rows[0].ip) == (DEVICE.description, DEVICE.ip)


@pytest.mark.gen_test
async def test_last_seen_only_moves_forward(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        sid, opened_at = login.claims.sid, parts.clock()
        for at, shown in ((opened_at + 9, opened_at + 9), (opened_at + 3, opened_at + 9)):
            await parts.login_sessions.touch({"unknown": at, sid: at})
            (row,) = await parts.login_sessions.active(login.user.id)
            assert row.last_seen_at == shown


# ---- ending --------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_an_ended_session_has_ended_with_its_tokens_and_sockets_and_no_other_is(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        over, kept = await parts.signed_in(user), await parts.signed_in(user)
        cut, open_ = await open_socket(parts, over), await open_socket(parts, kept)
        await end(parts, over)
        assert await cut.close_code() == 4410
        await refuses(parts, over)
        assert open_.client.connection.is_open
        assert (await refresh(parts, kept)).claims.sid == kept.claims.sid


@pytest.mark.gen_test
async def test_sessions_of_others_and_sessions_that_have_ended_are_not_found(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        login, other = await parts.signed_in(), await parts.signed_in()
        ends = parts.session_ends
        with pytest.raises(NotFound):
            await ends.end(other.user.id, login.claims.sid, "ended_by_user")
        await end(parts, login)
        for sid in (login.claims.sid, "none", ""):
            with pytest.raises(NotFound):
                await ends.end(login.user.id, sid, "ended_by_user")


@pytest.mark.gen_test
async def test_all_sessions_but_one_are_ended(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        mine = [await parts.signed_in(user) for _ in range(3)]
        other = await parts.signed_in()
        peers = [await open_socket(parts, login) for login in mine]
        assert await parts.session_ends.end_all(user, "ended_by_user", mine[0].claims.sid) == 2
        assert [row.id for row in await parts.login_sessions.active(user)] == [mine[0].claims.sid]
        assert peers[0].client.connection.is_open
        assert [await peer.close_code() for peer in peers[1:]] == [4410, 4410]
        assert await parts.session_ends.end_all(user, "ended_by_user") == 1
        assert await parts.session_ends.end_all(user, "ended_by_user") == 0
        assert (await refresh(parts, other)).user == other.user


@pytest.mark.gen_test
async def test_a_session_opened_while_all_are_ended_is_either_active_or_refused(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as (here, there):
        user = await here.user()
        for _ in range(10):
            opened, _ = await asyncio.gather(
                there.signed_in(user), here.session_ends.end_all(user, "signed_out_by_admin")
            )
            listed = [row.id for row in await here.login_sessions.active(user)]
            over = here.revocations.ends(opened.claims, opened.generation)
            assert over != (opened.claims.sid in listed)
            assert (await there.admission.login_states.of(opened.claims) is None) == (listed == [])
