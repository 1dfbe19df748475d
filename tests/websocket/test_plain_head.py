"""websocket/plain_head.py: what it reads, it reads as Tornado does; a doubt is Tornado's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPInputError, parse_request_start_line

from handlers.websocket.plain_head import MAX_PLAIN_BYTES, forwarded_for, plain_head
from tests.support.raw import by_header, by_subprotocol, handshake

BROWSER = (
    ("Connection", "keep-alive, Upgrade"),
    ("Pragma", "no-cache"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
    ("Origin", "http://usher.test"),
    ("Cookie", "access_token=a.b.c; theme=dark"),
)


@pytest.mark.parametrize(
    "head",
    [
        handshake(),
        handshake("/ws?ticket=t.abc"),
        handshake("/ws?"),
        handshake(headers=by_header("a.b.c")),
        handshake(headers=by_subprotocol("a.b.c")),
        handshake(headers=BROWSER),
        handshake(headers=[("UPGRADE", "WebSocket")], drop=["Upgrade"]),
        handshake(headers=[("connection", "UPGRADE")], drop=["Connection"]),
        handshake(headers=[("X-Forwarded-For", "192.0.2.1, 10.0.0.1"), ("Host", "h:1")]),
        handshake(headers=[("X-Empty", "")]),
        handshake(headers=[("X-Spaces", "  a b  ")]),
    ],
)
def test_a_usual_handshake_is_read_as_tornado_reads_it(head: bytes) -> None:
    found = plain_head(head + b"\x81\x80mask")
    assert found is not None
    assert found.size == len(head)
    start, headers = read_by_tornado(head)
    assert found.start == start
    assert {name.lower(): value for name, value in headers.items()} == dict(found.fields)
    for name in headers:
        assert found.fields.get_list(name.upper()) == headers.get_list(name)


def read_by_tornado(head: bytes) -> tuple[object, HTTPHeaders]:
    """As `HTTP1Connection._parse_headers` does it."""
    match = re.search(rb"\r?\n\r?\n", head)
    assert match is not None
    text = head[: match.end()].decode("latin-1").lstrip("\r\n")
    line, _, rest = text.partition("\n")
    return parse_request_start_line(line.rstrip("\r")), HTTPHeaders.parse(rest)


HOST = b"Host: usher.test\r\n"


def with_line(line: bytes) -> bytes:
    """A good handshake with another line in it."""
    return handshake().replace(HOST, HOST + line + b"\r\n")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(handshake()[:-1], id="not whole"),
        pytest.param(b"\r\n" + handshake(), id="an empty line before it"),
        pytest.param(handshake("/"), id="another path"),
        pytest.param(handshake("/wsx"), id="a path that begins so"),
        pytest.param(handshake("/ws/"), id="a path below it"),
        pytest.param(handshake("/WS"), id="capitals"),
        pytest.param(handshake("/%77s"), id="percent-encoded"),
        pytest.param(handshake("http://usher.test/ws"), id="absolute form"),
        pytest.param(handshake("/ws?a b"), id="a space in the target"),
        pytest.param(handshake("/ws?\u00e9"), id="a target outside ASCII"),
        pytest.param(handshake().replace(b"GET", b"POST"), id="POST"),
        pytest.param(handshake().replace(b"GET", b"get"), id="get"),
        pytest.param(handshake().replace(b"1.1", b"1.0"), id="HTTP/1.0"),
        pytest.param(handshake().replace(b"GET /ws", b"GET  /ws"), id="two spaces"),
        pytest.param(handshake().replace(b"1.1\r", b"1.1 \r"), id="a space at the line's end"),
        pytest.param(handshake().replace(b" HTTP/1.1", b""), id="HTTP/0.9"),
        pytest.param(handshake().replace(HOST, b"Host: usher.test\n"), id="a bare LF"),
        pytest.param(handshake().replace(b"\r\n\r\n", b"\n\n"), id="an end of bare LF"),
        pytest.param(handshake().replace(HOST, b"Host: usher\r.test\r\n"), id="a bare CR"),
        pytest.param(with_line(b"X-A: a\rb\n"), id="CR and LF apart"),
        pytest.param(with_line(b" folded"), id="obs-fold"),
        pytest.param(with_line(b"\tfolded"), id="obs-fold by a tab"),
        pytest.param(with_line(b"X-A : a"), id="a space before the colon"),
        pytest.param(with_line(b"X-A:a"), id="no space behind the colon"),
        pytest.param(with_line(b"X-A:\ta"), id="a tab behind the colon"),
        pytest.param(with_line(b"X-A"), id="no colon"),
        pytest.param(with_line(b": a"), id="no name"),
        pytest.param(with_line(b"-: a"), id="a hyphen as name"),
        pytest.param(with_line(b"X_A: a"), id="an underscore in the name"),
        pytest.param(with_line(b"X\xe9: a"), id="a name outside ASCII"),
        pytest.param(with_line(b"X-A: \xe9"), id="a value outside ASCII"),
        pytest.param(with_line(b"X-A: a\x00"), id="NUL"),
        pytest.param(with_line(b"X-A: a\x7f"), id="DEL"),
        pytest.param(with_line(b"HOST: usher.test"), id="a second Host"),
        pytest.param(with_line(b"Cookie: a\r\ncookie: b"), id="two of a name"),
        pytest.param(with_line(b"Content-Length: 0"), id="Content-Length"),
        pytest.param(with_line(b"Transfer-Encoding: chunked"), id="Transfer-Encoding"),
        pytest.param(with_line(b"Expect: 100-continue"), id="Expect"),
        pytest.param(handshake(drop=["Host"]), id="no Host"),
        pytest.param(handshake(drop=["Upgrade"]), id="no Upgrade"),
        pytest.param(handshake(drop=["Connection"]), id="no Connection"),
        pytest.param(handshake(drop=["Sec-WebSocket-Key"]), id="no key"),
        pytest.param(handshake(drop=["Sec-WebSocket-Version"]), id="no version"),
        pytest.param(handshake(headers=[("Sec-WebSocket-Version", "8")]), id="another version"),
        pytest.param(handshake(headers=[("Upgrade", "h2c, websocket")]), id="two upgrades"),
        pytest.param(handshake(headers=[("Connection", "Upgrade, close")]), id="close"),
    ],
)
def test_what_is_not_plain_is_left_to_tornado(head: bytes) -> None:
    assert plain_head(head) is None


pieces = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b": ",
        b":",
        b" ",
        b"\t",
        b",",
        b"X-A: b\r\n",
        b"\x00",
        b"\xff",
        b"Host",
    ]
)


@seed(20261128)
@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), pieces), max_size=4))
def test_whatever_is_put_into_a_handshake_tornado_reads_the_same_or_reads_it(
    changes: list[tuple[int, int, bytes]],
) -> None:
    """What is taken as plain is good for Tornado, too, down to the last field."""
    head = handshake(headers=BROWSER)
    for number, dropped, piece in changes:
        place = number % len(head)
        head = head[:place] + piece + head[place + dropped :]
    found = plain_head(head[:MAX_PLAIN_BYTES])
    if found is None:
        return
    try:
        start, headers = read_by_tornado(head)
    except HTTPInputError as error:
        raise AssertionError(f"Tornado refuses {head!r}") from error
    assert found.start == start
    assert {name.lower(): value for name, value in headers.items()} == dict(found.fields)


@pytest.mark.parametrize(
    ("head", "value"),
    [
        (b"POST / HTTP/1.1\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n", "10.0.0.1"),
        (b"POST / HTTP/1.1\r\nx-forwarded-FOR:10.0.0.1, ::1 \r\nHost: a", "10.0.0.1, ::1"),
        (b"POST / HTTP/1.1\nX-Forwarded-For: a\nX-Forwarded-For: b\n\n", "a, b"),
        (b"POST / HTTP/1.1\r\n\r\nX-Forwarded-For: 10.0.0.1\r\n", ""),
        (b"POST / HTTP/1.1\r\nNot-X-Forwarded-For: 10.0.0.1\r\n\r\n", ""),
        (b"X-Forwarded-For: \xff\r\n", "\xff"),
        (b"", ""),
    ],
)
def test_whose_turn_it_is_to_be_read_is_seen_before(head: bytes, value: str) -> None:
    assert forwarded_for(head) == value
