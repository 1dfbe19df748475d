"""Where a fuzzer begins: good input, one of each kind, so that it needs not find the form out."""

from __future__ import annotations

import json

from services.websocket.frames import Opcode
from tests.fuzz.targets import ALL_EVENTS, AUDIENCE, DEVICES, ISSUER, NOW, TOKENS
from tests.support.parts import client_frame

WORDS = (
    *('"event":', '"id":', '"data":', '"room":', '"auth":', '"token":', '"after":', '"model":'),
    *('{"', '"}', "[", "]", "null", "true", "-0", "1e999", "\\ud83d", "\\u0000", "NaN"),
    *('"alg":', '"kid":', '"typ":', '"crit":', '"exp":', '"iat":', '"nbf":', '"sub":', '"none"'),
    *("Upgrade", "websocket", "Host", "Cookie", "Authorization", "Bearer ", "usher.v1"),
    *("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "usher.bearer."),
    *("Origin", "X-Forwarded-For", "ticket=", "%00", "http://", "access_token="),
)
"""A fuzzer does not see into libraries written in C, and would hardly come upon these."""
HEAD = (
    "GET /ws{query} HTTP/1.1\r\nHost: usher.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}"
)
CLAIMS = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "u1",
    "sid": "s1",
    "jti": "j1",
    "iat": NOW,
    "exp": NOW + 900,
    "role": "user",
}
FRAMES = (
    {"event": "user-join", "id": 1, "data": {"auth": {"token": "t.x"}}},
    {"event": "token-refresh", "id": "a", "data": {"token": "t.x"}},
    {"event": "message", "id": 1.5, "data": {"room": "channel:1", "data": {"a": [1, None]}}},
    {"event": "history", "id": 3, "data": {"room": "user:u1", "after": "1-0"}},
    {"event": "usage", "data": {"model": "m"}},
    {"event": "heartbeat", "id": 5},
)


def dictionary() -> str:
    """WORDS as libFuzzer reads them."""
    return "".join(f"{json.dumps(word)}\n" for word in WORDS)


def seeds() -> dict[str, list[bytes]]:
    """Of each target."""
    return {
        "frame_reader": [bytes((size,)) + stream for size in (0, 7) for stream in _streams()],
        "frame_decoder": [
            *(json.dumps(frame).encode() for frame in FRAMES),
            *(bytes((0x80 + n,)) + b'1\0{"a":[1,"\xc3\xa9",null]}' for n in range(len(ALL_EVENTS))),
            rb'{"event":"message","id":1,"data":{"room":"r","data":"\ud83d"}}',
            b'{"event":"message","data":{"room":"r","data":1e999}}',
        ],
        "token_checks": [
            *(b"\0" + text.encode() for text in _texts()),
            b"\xff" + json.dumps(CLAIMS).encode(),
            b'\xff{"alg":"HS256","kid":"k","typ":"at+jwt"}\0' + json.dumps(CLAIMS).encode(),
        ],
        "handshake": [
            HEAD.format(query=query, more=more).encode() for query, more in _handshakes()
        ],
    }


def _streams() -> list[bytes]:
    text = client_frame(Opcode.TEXT, b"hello")
    return [
        text,
        client_frame(Opcode.TEXT, b"x" * 200),
        client_frame(Opcode.PING, b"p") + text,
        client_frame(Opcode.CLOSE, b"\x03\xe8bye"),
        client_frame(Opcode.TEXT, b"a", final=False) + client_frame(Opcode.CONTINUATION, b"b"),
    ]


def _texts() -> list[str]:
    """Of the right form, and of nobody: one character is another."""
    token, _ = TOKENS.issue("u1", "s1", "user", NOW + 900)
    made = [token, TOKENS.refresh.make("s1").reveal(), DEVICES.token("ada@example.org"), "t.abc"]
    return [text[:-2] + ("AA" if text[-2:] != "AA" else "BB") for text in made]


def _handshakes() -> list[tuple[str, str]]:
    return [
        ("", ""),
        ("?ticket=t.abc", "Origin: https://usher.test\r\nCookie: access_token=a.b.c\r\n"),
        ("", "Authorization: Bearer a.b.c\r\nX-Forwarded-For: 1.2.3.4, [::1]:80\r\n"),
        ("", "Sec-WebSocket-Protocol: usher.v1, usher.bearer.a.b.c\r\n"),
    ]
