"""Login sessions on SQLite and on PostgreSQL: looked up, and ended."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from services.errors import NotFound
from tests.sessions.logins import end, refresh, refuses, set_user, two_nodes
from tests.support.parts import DEVICE, node, open_socket

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
