"""How many connections one address may have that did not join, and how many sockets a user has."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import ip_network

from handlers.websocket.unjoined import UnjoinedConnections
from services.settings.proxies import Proxies
from tests.support.nodes import nodes
from tests.support.raw import (
    RawClient,
    by_header,
    by_subprotocol,
    ending_of,
    event,
    handshake,
    joined,
    quiet_usher,
)
from tests.support.server import TORNADO, Client, Usher, new_token, sign_up, wait_until

__all__ = ["nodes"]

MOST = 8


# ---- the counting ------------------------------------------------------------------------------


def test_an_address_has_so_many_and_another_its_own() -> None:
    unjoined = UnjoinedConnections(2, Proxies())
    first = unjoined.connected("192.0.2.1")
    assert first
    assert unjoined.connected("192.0.2.1")
    assert unjoined.connected("192.0.2.1") is None
    assert unjoined.connected("192.0.2.2")
    unjoined.leave(first)
    assert unjoined.connected("192.0.2.1")


def test_the_addresses_of_a_64_are_one_and_ipv4_in_ipv6_is_ipv4() -> None:
    unjoined = UnjoinedConnections(2, Proxies())
    assert unjoined.connected("2001:db8:0:1::1")
    assert unjoined.connected("2001:db8:0:1:ffff::2")
    assert unjoined.connected("2001:db8:0:1::3") is None
    assert unjoined.connected("2001:db8:0:2::1")
    assert unjoined.connected("::ffff:192.0.2.1")
    assert unjoined.connected("192.0.2.1")
    assert unjoined.connected("192.0.2.1") is None


def test_behind_a_trusted_proxy_its_clients_are_counted_and_not_the_proxy() -> None:
    unjoined = UnjoinedConnections(1, Proxies((ip_network("10.0.0.0/8"),)))
    assert [unjoined.connected("10.0.0.1") for _ in range(3)] == ["", "", ""]
    ada, ben = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    assert unjoined.upgraded("10.0.0.1", ada)
    assert unjoined.upgraded("10.0.0.1", ada) is None
    assert unjoined.upgraded("10.0.0.1", ben)


def test_what_an_address_has_on_other_nodes_counts_too() -> None:
    elsewhere = {"192.0.2.1": 3}
    unjoined = UnjoinedConnections(5, Proxies(), lambda group: elsewhere.get(group, 0))
    assert [unjoined.connected("192.0.2.1") is None for _ in range(3)] == [False, False, True]
    assert unjoined.counts == {"192.0.2.1": 2}
    elsewhere.clear()
    assert unjoined.connected("192.0.2.1")


# ---- a real server -----------------------------------------------------------------------------


def test_one_address_has_its_share_of_connections_and_a_time_for_each(database_kind: str) -> None:
    settings = {"MAX_UNJOINED_PER_ADDRESS": MOST, "JOIN_TIMEOUT_SECONDS": 60}
    with quiet_usher(database_kind, **settings) as server, ExitStack() as stack:
        ada = sign_up(server)
        member = stack.enter_context(joined(server, by_header(ada.token)))
        for _ in range(2):  # and again, once they are gone
            with ExitStack() as crowd:
                # Silent, half a request, a socket before its join, an idle keep-alive connection.
                sent = (b"", b"GET / HT", None, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
                for number in range(MOST):
                    one = crowd.enter_context(RawClient(server))
                    what = sent[number % len(sent)]
                    if what is None:
                        one.upgrade()
                    else:
                        one.send(what)
                        if what.endswith(b"\r\n\r\n"):
                            assert one.response().status == 200
                with RawClient(server) as late:
                    answer = late.response()
                    assert answer.status == 429
                    assert int(answer.headers["retry-after"]) >= 1
                    assert answer.problem["code"] == "rate_limited"
                    assert late.is_at_end()
                member.lives()
            wait_until(lambda: _is_let_in(server))


def test_a_socket_that_has_not_joined_counts_once_through_tornado_too() -> None:
    with quiet_usher(TORNADO, MAX_UNJOINED_PER_ADDRESS=3) as server:
        with ExitStack() as crowd:
            for _ in range(2):
                crowd.enter_context(RawClient(server)).upgrade()
            # Twice for a moment, until Tornado has let the request go.
            wait_until(lambda: _is_let_in(server))
        wait_until(lambda: _is_let_in(server))


def _fill(server: Usher, crowd: ExitStack) -> None:
    """Open silent connections until an address has its share."""
    while _is_let_in(server):
        crowd.enter_context(RawClient(server))
        time.sleep(0.05)  # who asked is counted for a moment, too


def _is_let_in(server: Usher) -> bool:
    with RawClient(server) as client:
        client.send(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        try:
            return client.response().status == 200
        except (ConnectionError, EOFError):
            return False


def test_an_address_that_fills_one_node_is_refused_by_the_others() -> None:
    with nodes("sqlite", 2, MAX_UNJOINED_PER_ADDRESS=MOST) as both:
        with ExitStack() as crowd:
            _fill(both[0], crowd)
            wait_until(lambda: not _is_let_in(both[1]))
            with RawClient(both[1]) as late:
                answer = late.response()
                assert answer.status == 429
                assert answer.problem["code"] == "rate_limited"
            both.redis.kill()  # then each node counts for itself
            wait_until(lambda: _is_let_in(both[1]))
            assert not _is_let_in(both[0])
        wait_until(lambda: _is_let_in(both[0]))


def test_a_socket_that_was_refused_counts_until_its_closing_handshake_has_ended(
    socket_kind: str,
) -> None:
    with quiet_usher(socket_kind, MAX_UNJOINED_PER_ADDRESS=3) as server:
        for head, then in (
            (handshake(headers=by_subprotocol("a.b.c")), b""),
            (handshake("/ws?ticket=none"), b""),
            (handshake(), event("user-join", 1, {"auth": {"token": "none"}})),
        ):
            with ExitStack() as crowd:
                for _ in range(200):  # each is there for a second at most
                    one = crowd.enter_context(RawClient(server))
                    one.send(head)
                    try:
                        refused = one.response().status != 101
                        one.send(then)
                    except (ConnectionError, EOFError):
                        refused = True
                    if refused or not _is_let_in(server):
                        break
                else:
                    raise AssertionError("an address may have any number of refused sockets")
            wait_until(lambda: _is_let_in(server))
            for _ in range(20):  # who leaves at once, before an answer or behind it
                with RawClient(server) as one:
                    one.send(head + then)
            wait_until(lambda: _is_let_in(server))
            with ExitStack() as crowd:  # not even one of them is still counted
                for _ in range(2):
                    crowd.enter_context(RawClient(server)).upgrade()
                wait_until(lambda: _is_let_in(server))


def test_a_joined_socket_is_no_longer_counted(socket_kind: str) -> None:
    with (
        quiet_usher(socket_kind, MAX_UNJOINED_PER_ADDRESS=3) as server,
        ExitStack() as stack,
    ):
        ada = sign_up(server)
        for number in range(12):
            ticket = ada.ticket()
            if number % 2:
                client = stack.enter_context(RawClient(server))
                client.upgrade(then=event("user-join", 1, {"auth": {"token": ticket}}))
                assert client.event()["ok"] is True
            else:
                client = stack.enter_context(joined(server, target=f"/ws?ticket={ticket}"))
            client.lives()


def test_a_user_has_so_many_sockets_and_parallel_joins_are_counted_exactly(
    socket_kind: str,
) -> None:
    with quiet_usher(socket_kind, MAX_SOCKETS_PER_USER=MOST) as server, ExitStack() as stack:
        ada = sign_up(server)
        other = stack.enter_context(joined(server, by_header(sign_up(server).token)))
        tickets = [ada.ticket() for _ in range(MOST * 3)]
        clients = [stack.enter_context(RawClient(server)) for _ in tickets]

        def join(which: tuple[RawClient, str]) -> str:
            client, ticket = which
            client.upgrade(f"/ws?ticket={ticket}")
            first = client.event()
            return first["event"] if first["event"] != "closing" else str(first["data"]["code"])

        with ThreadPoolExecutor(len(clients)) as pool:
            reported = list(pool.map(join, zip(clients, tickets, strict=True)))
        assert reported.count("joined") == MOST
        assert reported.count("4429") == MOST * 2
        # The same at once by header, as HTTP; and once there is room, there is.
        with RawClient(server) as client:
            client.send(handshake("/ws", by_header(new_token(ada))))
            answer = client.response()
            assert answer.status == 429
            assert answer.problem["code"] == "rate_limited"
        assert ending_of(server, then=_join(ada)).code == 4429
        clients[reported.index("joined")].socket.close()
        wait_until(lambda: _joins(server, ada))
        other.lives()


def _join(client: Client) -> bytes:
    return event("user-join", 1, {"auth": {"token": client.ticket()}})


def _joins(server: Usher, client: Client) -> bool:
    with RawClient(server) as one:
        one.upgrade(f"/ws?ticket={client.ticket()}")
        return bool(one.event()["event"] == "joined")


def test_the_sockets_of_a_user_are_counted_on_all_nodes(database_kind: str) -> None:
    with nodes(database_kind, 2, MAX_SOCKETS_PER_USER=4) as both, ExitStack() as stack:
        ada = sign_up(both[0])
        for number in range(4):
            node = both[number % 2]
            stack.enter_context(joined(node, target=f"/ws?ticket={ada.ticket()}"))
        for node in both:
            with RawClient(node) as one:
                one.upgrade(f"/ws?ticket={ada.ticket()}")
                assert one.ending().code == 4429
        # Without Redis each node counts for itself.
        both.redis.kill()
        with RawClient(both[1]) as one:
            one.upgrade(f"/ws?ticket={ada.ticket()}")
            assert one.event()["event"] == "joined"
