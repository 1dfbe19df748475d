"""direct/direct_tickets.py: a ticket is the same with and without a Tornado request, byte for byte.

An empty line before a request is allowed (RFC 9112 section 2.2), and not plain: it sends the same
request through Tornado.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from handlers.direct.plain_call import plain_calls_below
from tests.support.path_prefix import Below
from tests.support.raw import SECRET, RawClient, by_cookie, expired, forged, quiet_usher
from tests.support.server import Client, Usher, log_in, sign_up, wait_until

LAST = b"GET /healthz HTTP/1.1\r\nHost: usher.test\r\nConnection: close\r\n\r\n"
FIRST_LINE = "POST /api/ws/ticket HTTP/1.1"
TICKET = re.compile(rb'"ticket":"(t\.[^"]+)"')
plain_call = plain_calls_below()

Lines = list[str]


@pytest.fixture(scope="module")
def instance() -> Iterator[Usher]:
    settings = {"JWT_SECRETS": SECRET, "TRUSTED_PROXIES": "127.0.0.1", "LIMIT_TICKETS": 0}
    with quiet_usher("sqlite", **settings) as server:
        yield server


@pytest.fixture(scope="module")
def ada(instance: Usher) -> Client:
    return sign_up(instance, email="ada@example.org")


@pytest.fixture(scope="module")
def ada_in_a_browser(instance: Usher, ada: Client) -> Client:
    return log_in(instance, "ada@example.org", browser=True)


@pytest.fixture(scope="module")
def signed_out(instance: Usher, ada: Client) -> Client:
    client = log_in(instance, "ada@example.org")
    assert client.post("/api/auth/logout").status == 204
    return client


def bearing(token: str | None, *more: str) -> Lines:
    return [f"Authorization: Bearer {token}", *more]


@pytest.fixture(scope="module")
def requests(
    instance: Usher, ada: Client, ada_in_a_browser: Client, signed_out: Client
) -> dict[str, tuple[Lines, bytes]]:
    """Header fields and bodies, by what is sent."""
    token, own = ada.token, f"Origin: {instance.url}"
    cookie = next(value for name, value in by_cookie(ada_in_a_browser) if name == "Cookie")
    form = "Content-Type: application/x-www-form-urlencoded"
    found: dict[str, tuple[Lines, bytes]] = {
        "a token": (bearing(token), b""),
        "a token and no body": (bearing(token, "Content-Length: 0"), b""),
        "a token and {}": (bearing(token, "Content-Length: 2"), b"{}"),
        "a token and JSON": (
            bearing(token, "Content-Type: application/json", "Content-Length: 7"),
            b'{"a":1}',
        ),
        "a token and no JSON": (bearing(token, "Content-Length: 3"), b"\xff{{"),
        "a token and a form": (bearing(token, form, "Content-Length: 3"), b"a=b"),
        "a token and a malformed form": (bearing(token, form, "Content-Length: 3"), b"%\xff="),
        "a long body": (bearing(token, "Content-Length: 5000"), b"x" * 5000),
        "a body that is too long": (bearing(token, "Content-Length: 99999999"), b""),
        "a length with a sign": (bearing(token, "Content-Length: +0"), b""),
        "two lengths": (bearing(token, "Content-Length: 0", "Content-Length: 2"), b"{}"),
        "a body in chunks": (bearing(token, "Transfer-Encoding: chunked"), b"0\r\n\r\n"),
        "a browser's fields": (
            bearing(token, own, "Connection: keep-alive", "Accept: */*", "Sec-Fetch-Mode: cors"),
            b"",
        ),
        "a scheme in small letters": ([f"authorization: bearer {token}"], b""),
        "a scheme in capitals": ([f"Authorization: BEARER {token}"], b""),
        "two spaces": ([f"Authorization: Bearer   {token} "], b""),
        "two tokens": ([*bearing(token), *bearing(token)], b""),
        "an own Origin": (bearing(token, own), b""),
        "a foreign Origin": (bearing(token, "Origin: https://evil.example"), b""),
        "Origin null": (bearing(token, "Origin: null"), b""),
        "an own Origin in capitals": (bearing(token, own.upper()), b""),
        "an expired token": (bearing(expired(token)), b""),
        "a forged token": (bearing(forged(token, secret="x" * 32)), b""),
        "a token of a session that is over": (bearing(signed_out.token), b""),
        "no token": ([], b""),
        "an empty token": (bearing(""), b""),
        "another scheme": (["Authorization: Basic abc"], b""),
        "an API key": (bearing("ushk.abc.def"), b""),
        "a cookie": ([f"Cookie: {cookie}", own], b""),
        "a cookie of a foreign page": ([f"Cookie: {cookie}", "Origin: https://evil.example"], b""),
        "a cookie without an Origin": ([f"Cookie: {cookie}"], b""),
        "a cookie of a page of its own": (
            [f"Cookie: {cookie}", "Sec-Fetch-Site: same-origin"],
            b"",
        ),
        "a cookie of another site": ([f"Cookie: {cookie}", "Sec-Fetch-Site: cross-site"], b""),
        "a cookie and a bad token": ([f"Cookie: {cookie}", own, *bearing("none")], b""),
        "a cookie that is none": (["Cookie: theme=dark; access_token=", own], b""),
        "forwarded by a proxy": (bearing(token, "X-Forwarded-For: 192.0.2.7"), b""),
        "an expectation": (bearing(token, "Expect: 100-continue", "Content-Length: 2"), b"{}"),
        "another protocol": (
            bearing(token, "Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: a"),
            b"",
        ),
        "a field in two lines": (bearing(token, "X-A: a", " b"), b""),
        "no space behind a colon": ([f"Authorization:Bearer {token}"], b""),
        "a space before a colon": ([f"Authorization : Bearer {token}"], b""),
        "a byte that is no text": (bearing(token, "X-A: \xff"), b""),
    }  # fmt: skip
    return found


def answers(server: Usher, sent: bytes, *then: bytes) -> bytes:
    """All that comes back, until the server ends the stream.

    Args:
        then: what is sent next, each after an answer.
    """
    with RawClient(server) as client:
        client.send(sent)
        back = b""
        waiting = list(then)
        try:
            while data := client.socket.recv(65536):
                back += data
                if waiting:
                    client.send(waiting.pop(0))
        except ConnectionError:
            pass
    return re.sub(rb"Date: [^\r]+", b"Date: *", TICKET.sub(b'"ticket":"*"', back))


def request(lines: Lines, body: bytes = b"", first: str = FIRST_LINE) -> bytes:
    text = "\r\n".join((first, "Host: usher.test", *lines, "", ""))
    return text.encode("latin-1") + body


def test_every_answer_is_the_one_that_tornado_gives(
    instance: Usher, requests: dict[str, tuple[Lines, bytes]]
) -> None:
    direct = []
    for name, (lines, body) in requests.items():
        sent = request(lines, body)
        through_tornado = answers(instance, b"\r\n" + sent + LAST)
        assert through_tornado.startswith(b"HTTP/1.1 "), name
        assert answers(instance, sent + LAST) == through_tornado, name  # pipelined
        assert answers(instance, sent, LAST) == through_tornado, name
        assert answers(instance, sent, sent, LAST).endswith(through_tornado), name
        if plain_call(sent) is not None:
            direct.append(through_tornado[9:12])
    assert direct.count(b"201") >= 12  # and the rest of them is refused by Tornado
    assert set(direct) == {b"201", b"401", b"403"}


@pytest.mark.parametrize(
    "first",
    [
        "POST /api/ws/ticket HTTP/1.0",
        "POST /api/ws/ticket?a=b HTTP/1.1",
        "POST /api/ws/ticket/ HTTP/1.1",
        "POST http://usher.test/api/ws/ticket HTTP/1.1",
        "post /api/ws/ticket HTTP/1.1",
        "GET /api/ws/ticket HTTP/1.1",
        "HEAD /api/ws/ticket HTTP/1.1",
        "OPTIONS /api/ws/ticket HTTP/1.1",
        "PUT /api/ws/ticket HTTP/1.1",
        "POST /api/ws/ticket  HTTP/1.1",
        "POST /api/ws/ticket HTTP/2.0",
    ],
)
def test_every_other_request_is_tornados(instance: Usher, ada: Client, first: str) -> None:
    sent = request(bearing(ada.token, "Content-Length: 0"), first=first)
    assert plain_call(sent) is None
    assert answers(instance, sent + LAST) == answers(instance, b"\r\n" + sent + LAST)


@pytest.mark.parametrize("host", ["", "a b/c@d", "usher.test:80", "a:b", "[::1]:80", "a,b"])
def test_the_host_is_checked_as_tornado_checks_it(instance: Usher, ada: Client, host: str) -> None:
    lines = [FIRST_LINE, f"Host: {host}", *bearing(ada.token), "", ""]
    sent = "\r\n".join(lines).encode()
    assert answers(instance, sent + LAST) == answers(instance, b"\r\n" + sent + LAST)
    without = "\r\n".join([FIRST_LINE, *bearing(ada.token), "", ""]).encode()
    assert plain_call(without) is None


def test_a_request_in_pieces_is_answered_alike(instance: Usher, ada: Client) -> None:
    sent = request(bearing(ada.token, "Content-Length: 2"), b"{}")
    whole = answers(instance, sent + LAST)
    with RawClient(instance) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(sent)):
            client.send(sent[place : place + 1])
        assert client.response().status == 201
    for place in (5, len(sent) - 3, len(sent) - 1):  # and later on a kept connection
        with RawClient(instance) as client:
            client.send(sent)
            client.response()
            client.send(sent[:place])
            client.send(sent[place:])
            assert client.response().status == 201
            client.send(LAST)
            assert client.response().status == 200
            assert client.is_at_end()
    assert whole.startswith(b"HTTP/1.1 201 Created\r\n")


def test_each_ticket_opens_a_socket_once(instance: Usher, ada: Client) -> None:
    sent = request(bearing(ada.token))
    assert plain_call(sent) is not None
    with RawClient(instance) as client:
        client.send(sent * 20)  # pipelined: answered in order, each by itself
        tickets = [TICKET.findall(client.response().body)[0].decode() for _ in range(20)]
        client.send(sent)  # the connection is still good
        assert client.response().status == 201
        client.send(LAST)
        assert client.response().status == 200
    assert len(set(tickets)) == 20
    for ticket in tickets[:2]:
        with RawClient(instance) as first, RawClient(instance) as second:
            first.upgrade(f"/ws?ticket={ticket}")
            assert first.event()["event"] == "joined"
            second.upgrade(f"/ws?ticket={ticket}")
            assert second.ending().code == 4401


def test_a_kept_connection_asks_for_anything_after_a_ticket(instance: Usher, ada: Client) -> None:
    ticket, page = request(bearing(ada.token)), LAST.replace(b"Connection: close\r\n", b"")
    with RawClient(instance) as client:
        for sent, status in ((ticket, 201), (page, 200), (ticket, 201), (page, 200)):
            client.send(sent)
            assert client.response().status == status
    with RawClient(instance) as client:
        client.send(ticket)
        got = TICKET.findall(client.response().body)[0].decode()
        client.upgrade(f"/ws?ticket={got}")  # the upgrade of the same connection
        assert client.event()["event"] == "joined"
        client.lives()


def counted(server: Usher, status: int) -> float:
    text = Client(server).get("/metrics").text.decode()
    found = re.findall(
        rf'^usher_http_requests_total{{method="POST",status="{status}"}} (\S+)', text, re.MULTILINE
    )
    return float(found[0]) if found else 0.0


def test_each_request_is_counted_and_said_once(instance: Usher, ada: Client) -> None:
    def count() -> tuple[float, float]:
        return counted(instance, 201), counted(instance, 401)

    words = "POST /api/ws/ticket: unauthenticated"
    before, said = count(), instance.log.count(words)
    with RawClient(instance) as client:
        for token in (ada.token, "none", ada.token, ada.token, "none"):
            client.send(request(bearing(token)))
            client.response()
    assert count() == (before[0] + 3, before[1] + 2)
    wait_until(lambda: instance.log.count(words) == said + 2)


def test_no_more_tickets_are_given_than_the_limit_allows() -> None:
    with quiet_usher("sqlite", LIMIT_TICKETS=5) as server:
        sent = request(bearing(sign_up(server).token))
        clients = [RawClient(server) for _ in range(8)]
        for client in clients:
            client.send(sent)
        responses = [client.response() for client in clients]
        for client in clients:
            client.socket.close()
    assert sorted(response.status for response in responses) == [201] * 5 + [429] * 3
    assert all(int(r.headers["retry-after"]) > 3000 for r in responses if r.status == 429)


def test_below_a_prefix_a_ticket_is_asked_for_with_it() -> None:
    with quiet_usher("sqlite", PUBLIC_URL="http://usher.test/usher") as server:
        below_it = Below(f"http://127.0.0.1:{server.port}/usher").as_server
        lines = bearing(sign_up(below_it).token)
        below = request(lines, first="POST /usher/api/ws/ticket HTTP/1.1")
        assert plain_calls_below("/usher")(below) is not None
        last = LAST.replace(b"/healthz", b"/usher/healthz")
        for sent, status in ((below, b"201"), (request(lines), b"404")):
            assert (direct := answers(server, sent + last)) == answers(
                server, b"\r\n" + sent + last
            )
            assert direct[9:12] == status
