"""The sockets of a node: real ones, found and closed by user, session and role."""

from __future__ import annotations

import pytest

from services.websocket.protocol import CloseCode
from tests.support.parts import Parts, Peer, node, open_socket


async def sockets(parts: Parts, *users: str) -> list[Peer]:
    """One socket of a login session of its own for each user named."""
    return [await open_socket(parts, await parts.signed_in(user)) for user in users]


@pytest.mark.gen_test
async def test_a_socket_is_found_by_its_session_its_user_and_its_login_session(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        ada, bob = await parts.user("Ada"), await parts.user("Bob")
        one, two, other = await sockets(parts, ada, ada, bob)
        session = one.client.session
        assert len(parts.hub) == 3
        assert parts.hub.get(session.session_id) is one.client
        assert parts.hub.get("nobody") is None
        assert parts.hub.of_user(ada) == {one.client, two.client}
        assert parts.hub.of_login_session(ada, session.login_session_id) == [one.client]
        assert parts.hub.of_login_session(bob, session.login_session_id) == []
        assert set(parts.hub) == {one.client, two.client, other.client}


@pytest.mark.gen_test
async def test_a_login_session_is_cut_and_no_other(database_url: str) -> None:
    async with node(database_url) as parts:
        ada, bob = await parts.user(), await parts.user()
        login = await parts.signed_in(ada)
        first, second = await open_socket(parts, login), await open_socket(parts, login)
        kept = await sockets(parts, ada, bob)
        cut = parts.hub.close_login_session(ada, login.claims.sid, CloseCode.SESSION_REVOKED)
        assert cut == 2
        assert set(parts.hub) == {peer.client for peer in kept}
        assert [await first.close_code(), await second.close_code()] == [4410, 4410]
        assert all(peer.client.connection.is_open for peer in kept)


@pytest.mark.gen_test
async def test_a_login_session_named_with_another_user_is_not_cut(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await open_socket(parts, login)
        assert parts.hub.close_login_session("bob", login.claims.sid, CloseCode.FORBIDDEN) == 0
        assert len(parts.hub) == 1


@pytest.mark.gen_test
async def test_all_sockets_of_a_user_are_closed_and_no_others(database_url: str) -> None:
    async with node(database_url) as parts:
        ada, bob = await parts.user(), await parts.user()
        one, two, kept = await sockets(parts, ada, ada, bob)
        assert parts.hub.close_user(ada, CloseCode.FORBIDDEN) == 2
        assert [await one.close_code(), await two.close_code()] == [4403, 4403]
        assert list(parts.hub) == [kept.client]
        assert parts.hub.close_user(ada, CloseCode.FORBIDDEN) == 0


@pytest.mark.gen_test
async def test_only_sockets_of_another_role_are_cut(database_url: str) -> None:
    async with node(database_url) as parts:
        root = await parts.user("Root", "admin")
        (socket,) = await sockets(parts, root)
        assert parts.hub.close_other_roles(root, "admin", CloseCode.TOKEN_EXPIRED) == 0
        assert parts.hub.close_other_roles(root, "user", CloseCode.TOKEN_EXPIRED) == 1
        assert await socket.close_code() == 4419


@pytest.mark.gen_test
async def test_all_are_cut_when_the_node_stops(database_url: str) -> None:
    async with node(database_url) as parts:
        peers = await sockets(parts, await parts.user(), await parts.user())
        assert parts.hub.close_all(CloseCode.SERVICE_RESTART, after=3.0) == 2
        assert len(parts.hub) == 0
        for peer in peers:
            assert (await peer.event())["data"]["after"] == 3.0
            assert await peer.close_code() == 1012


@pytest.mark.gen_test
async def test_a_closed_socket_is_in_nothing_any_more(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        peer = await open_socket(parts, login, bearer=True)
        client = peer.client
        client.close(CloseCode.FORBIDDEN)
        assert parts.hub.get(client.session_id) is None
        assert parts.hub._by_user == {}
        assert parts.hub._by_bearer == {}, "nothing keeps it in memory"
        assert parts.hub.of_user(login.user.id) == frozenset()
        assert not parts.hub.remove(client), "it had left already"
        parts.hub.close_all(CloseCode.FORBIDDEN)
        again = await open_socket(parts, login, bearer=True)
        assert again.client.connection.is_open


@pytest.mark.gen_test
async def test_sockets_that_leave_during_a_walk_do_not_disturb_it(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        await sockets(parts, user, user, user)
        walked = 0
        for client in parts.hub:
            walked += 1
            client.close(CloseCode.FORBIDDEN)
        assert (walked, len(parts.hub)) == (3, 0)


# ---- one bearer token, one live socket -----------------------------------------------------


@pytest.mark.gen_test
async def test_the_same_token_on_a_second_socket_closes_the_first(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        first = await open_socket(parts, login, bearer=True)
        second = await open_socket(parts, login, bearer=True)
        assert await first.close_code() == 4409
        third = await open_socket(parts, login, bearer=True)
        assert await second.close_code() == 4409
        assert list(parts.hub) == [third.client]


@pytest.mark.gen_test
async def test_cookies_and_tickets_may_open_many_beside_a_bearer_token(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        for bearer in (False, True, False):
            await open_socket(parts, login, bearer=bearer)
        assert len(parts.hub) == 3


@pytest.mark.gen_test
async def test_a_newer_token_lets_go_of_the_older_one(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        peer = await open_socket(parts, login, bearer=True)
        newer = await parts.refresh.rotation.refresh(login.refresh_token.reveal())
        parts.hub.bind_bearer(peer.client, newer.claims.jti)
        with_the_old = await open_socket(parts, login, bearer=True)
        assert peer.client.connection.is_open
        assert with_the_old.client.connection.is_open
        await open_socket(parts, newer, bearer=True)
        assert await peer.close_code() == 4409
        assert with_the_old.client.connection.is_open


@pytest.mark.gen_test
async def test_binding_the_same_token_twice_closes_no_socket(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        peer = await open_socket(parts, login, bearer=True)
        parts.hub.bind_bearer(peer.client, login.claims.jti)
        assert peer.client.connection.is_open
        await open_socket(parts, login, bearer=True)
        assert await peer.close_code() == 4409
